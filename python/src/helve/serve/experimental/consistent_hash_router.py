"""The routing policy consistent_hash, by the name that Ray Serve has for it."""

from helve.serve.request_router import ConsistentHashRouter

__all__ = ["ConsistentHashRouter"]
