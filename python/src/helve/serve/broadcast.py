"""Calls to every replica of a deployment: handle.broadcast(method, ...)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import struct
import threading
from dataclasses import dataclass
from typing import Any, List, Optional

from helve import _limits
from helve._call import Call, wake
from helve._encoding import Failure, decode, parse_envelope
from helve._errors import DeploymentUnavailableError, RayServeException, ReplicaUnavailableError
from helve._stream import ITEM
from helve._frames import WINDOW, entry
from helve.serve._types import T
from helve.serve.responses import IN_LOOP, Pending

BROADCAST = entry(b"broadcast", b"") + entry(b"window", WINDOW.pack(0xFFFFFFFF, 0xFFFFFFFF))  # no credit: the answers are few
ANSWER = struct.Struct("<IB")
FAILED = 255


@dataclass(frozen=True)
class ReplicaResult:
    """The answer of one replica to a broadcast.

    Attributes:
        replica_id: Id of the replica.
        node_id: Id of its node.
        value: Result of the method; None if it failed.
        error: Exception of the method, a TimeoutError for a late answer, or None.
        missed: Whether the replica was gone before the call was sent to it. Then error is a `ReplicaUnavailableError`.
    """

    replica_id: str
    node_id: str
    value: Any = None
    error: Optional[BaseException] = None
    missed: bool = False


@dataclass(frozen=True)
class _Answer:
    """A ReplicaResult as it is kept: every reader gets an exception of its own."""

    replica: str
    node: str
    value: Any = None
    failure: Optional[Failure] = None
    missed: bool = False

    def result(self) -> ReplicaResult:
        error = None if self.failure is None else self.failure.exception()
        return ReplicaResult(self.replica, self.node, self.value, error, self.missed)


class BroadcastCall(Call):
    """One broadcast, which the node makes: its first item lists the replicas, and then one item comes for each
    answer.
    """

    __slots__ = ("asked", "answers", "failed", "wanted")

    def __init__(self, conn: Any, request_id: Any) -> None:
        super().__init__(conn, request_id)
        self.asked: Optional[list] = None
        self.answers: list = []
        self.failed = False  # an answer is an error
        self.wanted: list = []  # (future, whether a failure is enough)

    def on_items(self, body: Any) -> None:
        data, p = bytes(body), 0
        while p < len(data):
            size, codec = ITEM.unpack_from(data, p)
            p += ITEM.size
            if size > len(data) - p:
                raise ValueError("malformed items")
            self.answer(codec, data[p : p + size])
            p += size
        self.tell()

    def answer(self, codec: int, data: bytes) -> None:
        if self.asked is None:
            asked = [(t["replica"], t["node"]) for t in json.loads(data)]
            self.answers = [None] * len(asked)
            self.asked = asked
            return
        index, codec = ANSWER.unpack_from(data)
        if index >= len(self.answers):
            raise ValueError(f"an answer of replica {index} of {len(self.answers)}")
        replica, node = self.asked[index]
        data = data[ANSWER.size :]
        missed = False
        if codec != FAILED:
            try:
                answer = _Answer(replica, node, decode(codec, data))
            except BaseException as e:  # a user's class that is unpickled: its SystemExit does not end this loop
                answer = _Answer(replica, node, failure=Failure(e))
        else:
            where = parse_envelope(data)  # the reason alone may be the reason of another call, which the method made
            missed = where.get("reason") == "replica_unavailable" and where.get("replica", replica) == replica
            answer = _Answer(replica, node, failure=Failure(None, data), missed=missed)
        self.answers[index] = answer
        self.failed = self.failed or answer.failure is not None and not missed

    def finish(self, value: Any, error: Any) -> None:  # type: ignore[override]
        super().finish(None, error)
        self.tell()

    def forget(self) -> None:
        super().forget()
        self.wanted = []

    def tell(self) -> None:
        wanted, self.wanted = self.wanted, []
        for future, first in wanted:
            self.want(future, first)

    def want(self, future: Any, first: bool) -> None:
        """Completes future at the end, or when a replica has failed if that is enough. It runs on the loop."""
        if self.over() or first and self.failed:
            wake(future)
        else:
            self.wanted.append((future, first))

    def entries(self, late: str) -> list:
        """One entry per replica. A replica without an answer has the error of the whole broadcast, or a
        TimeoutError.
        """
        done, out = self.done, []  # read before the answers, because they come before the end
        if self.asked is None:
            if not done:
                raise TimeoutError(late)
            raise self.error or RayServeException("the broadcast ended without an answer")
        for i, (replica, node) in enumerate(self.asked):
            answer = self.answers[i]
            if answer is not None:
                out.append(answer.result())
            else:
                error = self.error or RayServeException("the broadcast ended without its answer") if done else TimeoutError(late)
                out.append(ReplicaResult(replica, node, error=error))
        return out


class DeploymentBroadcastResponse(Pending[T]):
    """The answers of a broadcast that is under way: the result of `DeploymentHandle.broadcast`.

    They may be read any number of times, from any thread or loop. The type variable is the type of one result.
    """

    __slots__ = ()

    @property
    def missed(self) -> List[str]:
        """The ids of replicas that were gone before the call was sent to them, as far as they are known; complete after `results`."""
        return [a.replica for a in list(self._call.answers) if a is not None and a.missed]

    def results(self, *, timeout_s: Optional[float] = None, return_exceptions: bool = False) -> List[T]:
        """Waits for all answers, in code that is not on an event loop.

        Args:
            timeout_s: Seconds to wait. None stands for no limit. A replica that has not answered then has a TimeoutError; its call runs on, and may
                be asked for again.
            return_exceptions: Whether an exception stands in the place of the result of its replica.

        Returns:
            The results in the order of the replicas, without the replicas in `missed`.

        Raises:
            Exception: Without return_exceptions, the first exception of a method.
            TimeoutError: Without return_exceptions, a late answer.
            DeploymentUnavailableError: Every replica was gone.
            RuntimeError: The caller is on an event loop.
        """
        timeout_s = _limits.wait("timeout_s", timeout_s)
        self._block(timeout_s, not return_exceptions)
        return self._values(timeout_s, return_exceptions)

    async def results_async(self, *, timeout_s: Optional[float] = None, return_exceptions: bool = False) -> List[T]:
        """`results` for code on an event loop.

        Args:
            timeout_s: Seconds to wait. None stands for no limit.
            return_exceptions: Whether an exception stands in the place of the result of its replica.

        Returns:
            The results in the order of the replicas, without the replicas in `missed`.
        """
        timeout_s = _limits.wait("timeout_s", timeout_s)
        await self._wait(timeout_s, not return_exceptions)
        return self._values(timeout_s, return_exceptions)

    def entries(self, *, timeout_s: Optional[float] = None) -> List[ReplicaResult]:
        """Waits like `results`, and returns a `ReplicaResult` for every replica, also for the replicas in `missed`.

        Args:
            timeout_s: Seconds to wait. None stands for no limit.
        """
        timeout_s = _limits.wait("timeout_s", timeout_s)
        self._block(timeout_s, False)
        return self._call.entries(_late(timeout_s))

    async def entries_async(self, *, timeout_s: Optional[float] = None) -> List[ReplicaResult]:
        """`entries` for code on an event loop.

        Args:
            timeout_s: Seconds to wait. None stands for no limit.
        """
        timeout_s = _limits.wait("timeout_s", timeout_s)
        await self._wait(timeout_s, False)
        return self._call.entries(_late(timeout_s))

    def _values(self, timeout_s: Optional[float], return_exceptions: bool) -> list:
        entries = [e for e in self._call.entries(_late(timeout_s)) if not e.missed]
        if not entries:
            raise DeploymentUnavailableError("every replica was gone before the call was sent to it")
        if not return_exceptions:
            errors = [e.error for e in entries if e.error is not None]
            if errors:  # the error of a replica goes before a timeout
                try:
                    raise next((e for e in errors if not isinstance(e, TimeoutError)), errors[0])
                finally:
                    del errors, entries  # this frame, which the exception holds, would hold it
        return [e.value if e.error is None else e.error for e in entries]

    def _block(self, timeout_s: Optional[float], first: bool) -> None:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(IN_LOOP.format("await response.results_async()"))
        if threading.current_thread() is getattr(self._call.conn, "thread", None):
            raise RuntimeError("results() cannot wait on the thread that receives the answers")
        if self._call.done:
            return
        future: concurrent.futures.Future = concurrent.futures.Future()
        self._call.conn.post(self._call.want, future, first)
        try:
            future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            pass  # the entries show it

    async def _wait(self, timeout_s: Optional[float], first: bool) -> None:
        call, loop = self._call, asyncio.get_running_loop()
        if call.done:
            return
        if loop is call.conn.loop:
            future = loop.create_future()
            call.want(future, first)
        else:
            other: concurrent.futures.Future = concurrent.futures.Future()
            call.conn.post(call.want, other, first)
            future = asyncio.wrap_future(other)
        await asyncio.wait([future], timeout=timeout_s)

    def __reduce__(self) -> Any:
        raise RayServeException("`DeploymentBroadcastResponse` is not serializable: pass its results")


def _late(timeout_s: Optional[float]) -> str:
    return f"no answer within {timeout_s} s; the calls run on"


__all__ = ["DeploymentBroadcastResponse", "ReplicaResult"]
