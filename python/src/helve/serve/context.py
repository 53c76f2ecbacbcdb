"""The context of code inside of a replica."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helve import _runtime
from helve._wire import request_info
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


def get_multiplexed_model_id() -> str:
    """The model id of the request being served, '' if it has none."""
    info = request_info.get()
    return info.model if info is not None else ""


__all__ = ["ReplicaContext", "get_replica_context", "get_multiplexed_model_id"]
