"""Policies that pick replicas, with Ray Serve's names. The node runs the three shipped ones. A class of your own that derives from RequestRouter can be
defined, and is refused where a deployment names it.
"""

from __future__ import annotations

import time
from abc import ABC
from dataclasses import dataclass, field
from typing import Any, Dict, List

from helve.serve._replica import ReplicaID

REFUSED = (
    "a request router in Python is not there: the node picks replicas before a call reaches Python. Use request_router_config with "
    "PowerOfTwoChoicesRequestRouter, RoundRobinRouter or ConsistentHashRouter, a handle's choose_replica(), or CustomRouting of the Go API"
)


class RequestRouter(ABC):
    """The base class of request routers. It can be derived from, and not be made: the node picks replicas.

    Args:
        *args: Any.
        **kwargs: Any.

    Raises:
        NotImplementedError: Always.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(REFUSED)

    def initialize_state(self, **kwargs: Any) -> None:
        """Takes `request_router_kwargs`.

        Args:
            **kwargs: The arguments.
        """


class FIFOMixin:
    """A part of a request router: requests wait in one line."""


class LocalityMixin:
    """A part of a request router: replicas of the caller's node come first."""


class MultiplexMixin:
    """A part of a request router: replicas that have the request's model come first."""


class PowerOfTwoChoicesRequestRouter(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    """The less loaded of two replicas that are drawn at random."""


class RoundRobinRouter(FIFOMixin, MultiplexMixin, RequestRouter):
    """The replicas in turn."""


class ConsistentHashRouter(RequestRouter):
    """One replica for all calls of a session."""


@dataclass
class PendingRequest:
    """A request that waits for a replica.

    Attributes:
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.
        metadata: Options of the call.
        created_at: Time of the call, in seconds since 1970.
    """

    args: List[Any]
    kwargs: Dict[Any, Any]
    metadata: Any = None
    created_at: float = field(default_factory=time.time)


class RunningReplica:
    """A replica that a request router could pick. It cannot be made.

    Args:
        *args: Any.
        **kwargs: Any.

    Raises:
        NotImplementedError: Always.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(REFUSED)


class ReplicaResult(ABC):
    """The answer of a replica to a request router."""


POLICIES = {
    PowerOfTwoChoicesRequestRouter: "power_of_two_choices",
    RoundRobinRouter: "round_robin",
    ConsistentHashRouter: "consistent_hash",
}


def options(config: Any) -> Dict[str, Any]:
    """The option request_router of a RequestRouterConfig. A class that the node cannot run is a mistake."""
    kind = config.get_request_router_class()
    if kind not in POLICIES:
        raise NotImplementedError(f"request_router_config: {config.request_router_class}: {REFUSED}")
    chosen: Dict[str, Any] = {"policy": POLICIES[kind]}
    names = {"num_virtual_nodes": "virtual_nodes", "num_fallback_replicas": "fallback_replicas"} if kind is ConsistentHashRouter else {}
    for name, value in config.request_router_kwargs.items():
        if name not in names:
            raise ValueError(f"request_router_kwargs: {kind.__name__} has no argument {name!r}; there are {', '.join(names) or 'none'}")
        chosen[names[name]] = value
    return chosen


__all__ = [
    "ConsistentHashRouter", "FIFOMixin", "LocalityMixin", "MultiplexMixin", "PendingRequest", "PowerOfTwoChoicesRequestRouter", "ReplicaID", "RequestRouter",
    "RoundRobinRouter", "RunningReplica",
]
