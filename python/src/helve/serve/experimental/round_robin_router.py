"""The routing policy round_robin, by the name that Ray Serve has for it."""

from helve.serve.request_router import RoundRobinRouter

__all__ = ["RoundRobinRouter"]
