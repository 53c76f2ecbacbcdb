"""Choosing a replica before a call is sent there: handle.choose_replica() and handle.dispatch(selection, ...)."""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Any, Dict, Optional

from helve import _runtime
from helve._encoding import MSGPACK
from helve._errors import ReplicaUnavailableError, RequestCancelledError
from helve._stream import StreamCall
from helve._call import Call
from helve._frames import entry
from helve.serve.responses import STREAM, DeploymentResponse, DeploymentResponseGenerator

logger = logging.getLogger("helve.serve")

RESERVE = entry(b"reserve", b"")
LEASE = struct.Struct("<Q")


def _give_back(conn: Any, lease: int) -> None:
    """Gives a slot back. It runs on the loop and does not wait."""

    def done(future: Any) -> None:
        error = future.exception() or (future.result() or {}).get("error")
        if error and conn.lost is None:
            logger.warning("a slot that was not used could not be given back: %s", error)

    if conn.over is None:  # a node that has gone has no slots
        conn.control("release", lease=lease).add_done_callback(done)


class ReserveCall(Call):
    """A call that holds a slot. If its caller has given up, it gives back the slot of its answer."""

    __slots__ = ()

    def finish(self, value: Any, error: Any) -> None:  # type: ignore[override]
        if self.done:
            if error is None:
                _give_back(self.conn, value["lease"])
            return
        super().finish(value, error)

    def cancel(self) -> None:
        self.cancelled = True
        if self.done:
            return
        if self.id and self.id in self.conn.pending:  # it stays pending: the slot may be on its way
            self.conn.send_cancel(self.id)
        super().finish(None, RequestCancelledError(f"Request {self.request_text()} was cancelled."))


class ReplicaSelection:
    """A chosen replica with a slot that is held there: the value of `DeploymentHandle.choose_replica`.

    The slot is given back when the context ends, and after 10 s, if it was not dispatched.

    Attributes:
        replica_id: Id of the replica.
        node_id: Id of its node.
        node_ip: Address of its machine: 127.0.0.1, because there is one node.
        port: None: a replica has no port, calls go through the node.
        availability_zone: None.
        replica_metadata: An empty dict.
    """

    __slots__ = ("replica_id", "node_id", "node_ip", "port", "availability_zone", "replica_metadata", "_handle", "_conn", "_lease", "_used")

    def __init__(self, handle: Any, conn: Any, held: Dict[str, Any]):
        self.replica_id: str = held["replica"]
        self.node_id: str = held["node"]
        self.node_ip = "127.0.0.1"  # the replica is on this machine
        self.port: Optional[int] = None  # it has none: calls go through the node
        self.availability_zone: Optional[str] = None
        self.replica_metadata: Dict[str, Any] = {}
        self._handle, self._conn, self._lease, self._used = handle, conn, held["lease"], False

    def __repr__(self) -> str:
        return f"ReplicaSelection(replica_id={self.replica_id!r}, node_id={self.node_id!r})"

    @property
    def address(self) -> str:
        """The address of the replica's machine, with its port if it has one."""
        return self.node_ip if self.port is None else f"{self.node_ip}:{self.port}"

    def to_dict(self) -> Dict[str, Any]:
        """The replica as plain values."""
        return {name: getattr(self, name) for name in self.__slots__ if not name.startswith("_")}

    def _release(self) -> None:
        if self._used:
            return
        self._used = True
        if self._conn.lost is not None:  # a node that has gone has no slots
            return
        if asyncio._get_running_loop() is self._conn.loop:
            _give_back(self._conn, self._lease)
        else:
            self._conn.post(_give_back, self._conn, self._lease)


class Choosing:
    """The result of choose_replica: a context, for `async with` on event loops and for `with` elsewhere."""

    def __init__(self, handle: Any):
        self._handle = handle
        self._selection: Any = None

    def _reserve(self) -> Any:
        options = self._handle._options.copy()
        options.python, options.request_codec = False, MSGPACK  # it has no arguments, not even a packed pair of none
        h = type(self._handle)(self._handle._deployment, self._handle._app, language=self._handle._language, _options=options, _state=self._handle._state)
        return DeploymentResponse(h._start(ReserveCall, RESERVE, (), {}))

    def _chosen(self, response: Any, held: dict) -> ReplicaSelection:
        self._selection = ReplicaSelection(self._handle, response._call.conn, held)
        return self._selection

    async def __aenter__(self) -> ReplicaSelection:
        response = self._reserve()
        try:
            return self._chosen(response, await response)
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def __aexit__(self, *exc: Any) -> None:
        self._selection._release()

    def __enter__(self) -> ReplicaSelection:
        response = self._reserve()
        try:
            return self._chosen(response, response.result())
        except BaseException:  # a Ctrl-C, for example
            response.cancel()
            raise

    def __exit__(self, *exc: Any) -> None:
        self._selection._release()


def dispatch(handle: Any, selection: ReplicaSelection, args: tuple, kwargs: dict) -> Any:
    """The response of a call to the chosen replica."""
    if not isinstance(selection, ReplicaSelection):
        raise TypeError(f"dispatch() takes what choose_replica() gave, not {type(selection).__name__}")
    chosen = selection._handle
    if (chosen._app, chosen._deployment) != (handle._app, handle._deployment):
        raise ValueError(
            f"Cannot dispatch a selection created for a different deployment: it is of {chosen.deployment_id}, the handle of {handle.deployment_id}"
        )
    stream = chosen._options.stream
    kind, response = (StreamCall, DeploymentResponseGenerator) if stream else (Call, DeploymentResponse)
    error: Optional[Exception] = None
    if selection._used:
        error = RuntimeError("the selection was dispatched before, or its context has ended; choose again")
    elif _runtime.connection is not selection._conn:
        error = ReplicaUnavailableError("the node that held the selection has gone away; choose again")
    selection._used = True
    if error is not None:
        call = kind(selection._conn, b"\0" * 16)
        call.finish(None, error)
        return response(call)
    h = handle.options(method_name=chosen._options.method, stream=stream)
    tail = entry(b"lease", LEASE.pack(selection._lease))
    return response(h._start(kind, tail + STREAM if stream else tail, args, kwargs))


__all__ = ["ReplicaSelection"]
