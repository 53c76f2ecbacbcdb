"""The context of code inside of a replica."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helve import _refused, _runtime
from helve.serve._request_context import (
    _get_serve_batch_request_context, _get_serve_request_context, _RequestContext, _serve_request_context, _set_internal_replica_context,
    _set_request_context, get_multiplexed_model_id, get_trace_context,
)
from helve.serve.exceptions import RayServeException


@dataclass(frozen=True)
class ReplicaContext:
    """The replica that runs the calling code."""

    app_name: str
    deployment: str
    replica_tag: str
    servable_object: Any

    @property
    def replica_id(self) -> str:
        return self.replica_tag


def get_replica_context() -> ReplicaContext:
    """The context of the replica that calls this. It raises RayServeException outside of replicas."""
    if _runtime.replica is None:
        raise RayServeException("get_replica_context() works inside of a replica only")
    return _runtime.replica


def draining() -> bool:
    """Whether the drain of the replica that calls this has begun: the replica is stopped, for example because a deploy replaces it, or its node is.
    It serves on until its calls have ended or ``graceful_shutdown_timeout_s`` is over. A stream without an end can stop then. False outside of
    replicas.
    """
    return _runtime.drain.begun


async def wait_for_drain() -> None:
    """Returns when ``draining()`` is true. A task that waits for it can send good-bye on a WebSocket without an end. It waits forever outside of
    replicas.
    """
    await _runtime.drain.wait()


__all__ = [
    "ReplicaContext", "_RequestContext", "_get_serve_batch_request_context", "_get_serve_request_context", "_serve_request_context",
    "_set_internal_replica_context", "_set_request_context", "draining", "get_multiplexed_model_id", "get_replica_context", "get_trace_context", "wait_for_drain",
]
__getattr__ = _refused.attributes(__name__, known=__all__)
