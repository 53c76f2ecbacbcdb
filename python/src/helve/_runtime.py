"""The connection of this process to its node: a worker has one from the start, another program makes one at the first use."""

from __future__ import annotations

import os
import sys
from typing import Any, Optional

from helve._drain import Drain

connection: Optional[Any] = None  # helve._wire.Connection
replica: Optional[Any] = None  # helve.serve.context.ReplicaContext, in a worker
node: Optional[Any] = None  # helve._attach.Node, in a worker
max_ongoing_requests: Optional[int] = None  # of the replica at its start, in a worker
drain = Drain()  # of the replica, in a worker
building = False  # the process is a builder, which a node has started to import the modules of applications
forked = False  # the process is a copy, made by a fork, of the one that had the connection

NONE = (
    "no application is running: call serve.run(app) first, in this process or in another program of this user, whose node is found then "
    "(the environment variable HELVE_NODE names one of several)"
)


def in_worker() -> bool:
    """Whether the process is a worker, and no copy of it that a fork made."""
    return node is not None and not forked


def current():
    """The connection for calls. It blocks while a program attaches to the node of another one, for a millisecond, and outside of event loops while a durable
    node is being started again.
    """
    if connection is None or connection.lost is not None:
        return _connect()
    return connection


def _connect():
    if in_worker():
        from helve._errors import ReplicaUnavailableError

        raise ReplicaUnavailableError("the node has gone away, and none has taken over yet")
    from helve import _driver

    return _driver.connection()


def _in_child() -> None:
    global forked
    forked = True
    wire = sys.modules.get("helve._wire")
    if wire is not None:
        wire.request_info.set(None)  # the calls of the child are not part of the call that its parent executes


os.register_at_fork(after_in_child=_in_child)
