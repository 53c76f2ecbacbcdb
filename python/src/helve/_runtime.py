"""The connection of this process to its node: a worker has one from the start, a driver makes one at the first use."""

from __future__ import annotations

from typing import Any, Optional

from helve._drain import Drain

connection: Optional[Any] = None  # helve._wire.Connection
replica: Optional[Any] = None  # helve.serve.context.ReplicaContext, in a worker
node: Optional[Any] = None  # helve._attach.Node, in a worker
max_ongoing_requests: Optional[int] = None  # of the replica at its start, in a worker
drain = Drain()  # of the replica, in a worker

NONE = "no application is running: call serve.run(app) first, in this process; a handle works in the program that runs its application, and in replicas"


def current():
    if connection is None or connection.lost is not None:
        from helve._errors import RayServeException, ReplicaUnavailableError

        if connection is not None and connection.was_forked:
            raise connection.over.exception()
        if replica is not None:
            raise ReplicaUnavailableError("the node has gone away, and none has taken over yet")
        if connection is None:
            raise RayServeException(NONE)
        raise ReplicaUnavailableError(f"{connection.over.exception()}; serve.run(app) starts another")
    return connection
