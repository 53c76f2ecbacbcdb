"""The context of code inside of a replica."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from helve import _refused, _runtime
from helve.serve._request_context import (
    _get_serve_batch_request_context, _get_serve_request_context, _RequestContext, _serve_request_context, _set_internal_replica_context,
    _set_request_context, get_multiplexed_model_id, get_trace_context, span,
)
from helve.serve._replica import ReplicaID, rank
from helve.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from helve.serve.schema import ReplicaRank


@dataclass(frozen=True)
class ReplicaContext:
    """The replica that runs the calling code: the result of `serve.get_replica_context`.

    Attributes:
        replica_id: Its id, with the names of its deployment and application.
        servable_object: Its instance; None while the constructor runs.
        world_size: Number of replicas that its deployment should have. Their ranks are 0 to world_size - 1.
        gang_context: None, because there are no gangs.
        code_version: A text that changes when the code or the process of the deployment does.
    """

    replica_id: ReplicaID
    servable_object: Any
    _deployment_config: Any = None
    _rank: int = 0
    world_size: int = 1
    gang_context: Any = None
    code_version: Optional[str] = None

    @property
    def app_name(self) -> str:
        """Name of its application."""
        return self.replica_id.deployment_id.app_name

    @property
    def deployment(self) -> str:
        """Name of its deployment."""
        return self.replica_id.deployment_id.name

    @property
    def replica_tag(self) -> str:
        """Its id as text, which no other replica of the node has or had."""
        return self.replica_id.unique_id

    @property
    def rank(self) -> "ReplicaRank":
        """The number of the replica among those of its deployment, from 0 upwards. The replica that takes the place of another has its rank. It
        changes when the deployment has fewer replicas; ask again for the present one.
        """
        return rank(self._rank)


def get_replica_context() -> ReplicaContext:
    """The context of the replica that calls this, in its constructor and its methods.

    Raises:
        RayServeException: The caller is not in a replica.
    """
    if _runtime.replica is None:
        raise RayServeException("`serve.get_replica_context()` may only be called from within a deployment: it works inside of a replica only")
    return _runtime.replica


def draining() -> bool:
    """Whether the drain of the replica that calls this has begun: the replica is stopped, for example because a deploy replaces it, or its node is.
    It serves on until its calls have ended or `graceful_shutdown_timeout_s` is over. A stream without an end can stop then. False outside of
    replicas.
    """
    return _runtime.drain.begun


async def wait_for_drain() -> None:
    """Returns when `draining()` is true. A task that waits for it can send good-bye on a WebSocket without an end. It waits forever outside of
    replicas.
    """
    await _runtime.drain.wait()


__all__ = [
    "ReplicaContext", "_RequestContext", "_get_serve_batch_request_context", "_get_serve_request_context", "_serve_request_context",
    "_set_internal_replica_context", "_set_request_context", "draining", "get_multiplexed_model_id", "get_replica_context", "get_trace_context", "span", "wait_for_drain",
]
if not TYPE_CHECKING:
    __getattr__ = _refused.attributes(__name__, known=__all__)
