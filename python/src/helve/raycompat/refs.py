"""References to results: ray.ObjectRef, ray.get, ray.put, ray.wait and ray.cancel."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from typing import Any, Callable, Optional

from helve import _runtime
from helve._arguments import Arguments, start_elsewhere
from helve._call import Call, new_request
from helve._encoding import Failure
from helve._pickling import dumps, loads
from helve._stream import StreamCall
from helve.raycompat import link
from helve.raycompat.exceptions import GetTimeoutError
from helve.serve.handle import _Options
from helve.serve.responses import (
    RESPONSES, STREAM, DeploymentResponse, DeploymentResponseGenerator, ObjectRef, ObjectRefGenerator,
)


class Ref(ObjectRef):
    """The result of a task or of an actor's method, or a value of ray.put. Its call belongs to the connection of tasks and actors; a handle or
    an event loop that uses another connection gets a call there, which ends together with it.
    """

    __slots__ = ("_own", "_bridge")

    def __init__(self, call: Call):
        self._own, self._bridge = call, None

    @property
    def _call(self) -> Call:  # type: ignore[override]
        here = _runtime.connection
        if here is None or here is self._own.conn or self._own.done and not self._own.unread():
            return self._own
        if self._bridge is None or self._bridge.conn is not here:
            self._bridge = bridge(self._own, here)
        return self._bridge

    def __await__(self):
        return self._await_elsewhere().__await__()

    async def _await_elsewhere(self) -> Any:
        failure = None
        if not self._own.done or self._own.unread():
            failure = await asyncio.wrap_future(settled(self._own))
        if failure is not None:
            raise failure.exception()
        return self._own.outcome()

    def future(self) -> concurrent.futures.Future:
        """The result as a concurrent.futures.Future."""
        future: concurrent.futures.Future = concurrent.futures.Future()

        def tell(done: concurrent.futures.Future) -> None:
            try:
                future.set_result(_outcome(self._own, done.result()))
            except Exception as e:
                future.set_exception(e)

        settled(self._own).add_done_callback(tell)
        return future

    def as_future(self) -> asyncio.Future:
        return asyncio.ensure_future(self)

    def hex(self) -> str:
        return self._own.request_text().replace("-", "")

    def binary(self) -> bytes:
        return bytes.fromhex(self.hex())

    def is_nil(self) -> bool:
        return False

    def __hash__(self) -> int:
        return hash(self._own.request_id)

    def __eq__(self, other: object) -> bool:
        return type(other) is Ref and other._own is self._own

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"

    def __reduce__(self):
        """A reference inside of another value travels with its result: it is waited for here."""
        try:
            return _restore, (get(self), None)
        except Exception as e:
            return _restore, (None, e)


RESPONSES.add(Ref)


def _restore(value: Any, error: Optional[BaseException]) -> Ref:
    return Ref(_ended(value, error))


def _ended(value: Any, error: Optional[BaseException] = None) -> Call:
    """A call that has ended."""
    call = Call(_runtime.connection or link.connection(), new_request())
    call.finish(value, error)
    return call


def bridge(upstream: Call, conn: Any) -> Call:
    """A call of another connection that ends when a call ends, in the same way."""
    call = Call(conn, upstream.request_id)

    def tell(ended: Call) -> None:
        ended.read(lambda failure: conn.post(_finish, call, ended, failure))

    upstream.conn.post(upstream.add_listener, tell)
    return call


def _finish(call: Call, ended: Call, failure: Optional[Failure]) -> None:
    failure = failure or ended.failure
    call.finish(None if failure is not None else ended.value, failure)


def settled(call: Call) -> concurrent.futures.Future:
    """A future that is done when the value of a call can be read. Its result is None, or the reason why it cannot be read. A reader that gives up
    cancels it.
    """
    from helve._call import wake

    future: concurrent.futures.Future = concurrent.futures.Future()

    def tell(ended: Call) -> None:
        ended.read(lambda failure: wake(future, failure))

    call.conn.post(call.add_listener, tell)
    future.add_done_callback(lambda done: call.conn.post(call.remove_listener, tell) if done.cancelled() else None)
    return future


def _outcome(call: Call, failure: Optional[Failure]) -> Any:
    if failure is not None:
        raise failure.exception()
    return call.outcome()


def _call_of(ref: Any, mistake: str = "") -> Call:
    """The call behind a reference, for ray.get and ray.wait. The mistake is the text about an item of a list that is none, with places for the
    item and its type.
    """
    if isinstance(ref, Ref):
        return ref._own
    if isinstance(ref, ObjectRef):
        return ref._call
    advice = ""
    if isinstance(ref, DeploymentResponse):
        advice = " A DeploymentResponse is read with response.result() or `await response`; response._to_object_ref_sync() makes a reference of it."
    if mistake:
        raise TypeError(mistake.format(ref, type(ref)) + advice)
    raise ValueError(f"Invalid type of object refs, {type(ref)}, is given: 'object_refs' must either be an ObjectRef or a list of ObjectRefs.{advice}")


def _may_block(call: Call) -> None:
    """An error for a call whose answer comes on the loop that would be blocked."""
    if call.done:
        return
    if threading.current_thread() is getattr(call.conn, "thread", None) or asyncio._get_running_loop() is call.conn.loop:
        raise RuntimeError(
            "ray.get() would block the event loop on which the answer of this deployment arrives: use `await` in an async method"
        )


# ---- the functions of ray


def get(object_refs: Any, *, timeout: Optional[float] = None, **_: Any) -> Any:
    """The value of a reference, or the values of a list of them."""
    if isinstance(object_refs, (list, tuple)):
        calls = [_call_of(r, "Attempting to call `get` on the value {0!r}, which is not an ray.ObjectRef.") for r in object_refs]
    elif isinstance(object_refs, (DeploymentResponseGenerator, ObjectRefGenerator)):
        raise ValueError("a generator of references is iterated, and each of its references is given to ray.get")
    else:
        calls = [_call_of(object_refs)]
    end = None if timeout is None else time.monotonic() + timeout
    values = []
    for call in calls:
        failure = None
        if not call.done or call.unread():
            _may_block(call)
            future = settled(call)
            try:
                failure = future.result(None if end is None else max(0.0, end - time.monotonic()))
            except concurrent.futures.TimeoutError:
                future.cancel()  # a program that asks again and again leaves nothing behind
                raise GetTimeoutError(f"Get timed out: some object(s) not ready within {timeout:g} s") from None
        values.append(_outcome(call, failure))
    return values if isinstance(object_refs, (list, tuple)) else values[0]


def put(value: Any, **_: Any) -> Ref:
    """A reference to a copy of a value."""
    if isinstance(value, ObjectRef):
        raise TypeError("Calling 'put' on an ray.ObjectRef is not allowed. Similarly, a reference is given to a task as it is.")
    from helve.raycompat.session import session

    session()
    return Ref(_ended(loads(dumps(value))))


def wait(ray_waitables: list, *, num_returns: int = 1, timeout: Optional[float] = None, fetch_local: bool = True) -> tuple:
    """Two lists: references that are ready, at most num_returns of them, and the others."""
    if isinstance(ray_waitables, ObjectRef):
        raise TypeError("wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator, got a single one")
    expected = "wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator, got "
    if not isinstance(ray_waitables, list):
        raise TypeError(f"{expected}{type(ray_waitables)}")
    refs = list(ray_waitables)
    calls = [_call_of(r, f"{expected}list containing {{1}}") for r in refs]
    if len(set(map(id, calls))) != len(calls):
        raise ValueError("Wait requires a list of unique ray.ObjectRefs.")
    if not 0 < num_returns <= max(len(refs), 1):
        raise ValueError(f"num_returns cannot be greater than the number of ray_waitables, or less than 1, is {num_returns}")
    for call in calls:
        _may_block(call)
    changed, end = threading.Condition(), None if timeout is None else time.monotonic() + timeout

    def tell(_: Call) -> None:
        with changed:
            changed.notify()

    asked = [call for call in calls if not call.done]
    for call in asked:
        call.conn.post(call.add_listener, tell)
    with changed:
        changed.wait_for(lambda: sum(c.done for c in calls) >= num_returns, None if end is None else max(0.0, end - time.monotonic()))
    for call in asked:
        if not call.done:
            call.conn.post(call.remove_listener, tell)
    done = [r for r, c in zip(refs, calls) if c.done][:num_returns]
    return done, [r for r in refs if not any(r is d for d in done)]


def cancel(ray_waitable: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancels a task or a call of an actor's async method. Reading from it raises TaskCancelledError then."""
    if isinstance(ray_waitable, (DeploymentResponseGenerator, ObjectRefGenerator)):
        stream = ray_waitable._stream if isinstance(ray_waitable, ObjectRefGenerator) else ray_waitable
        stream.cancel()
        return
    if not isinstance(ray_waitable, ObjectRef):
        raise TypeError(f"ray.cancel() only supported for object refs and generators of them, got: {type(ray_waitable)}.")
    call = _call_of(ray_waitable)
    call.cancelled = True
    call.conn.post(call.cancel)


# ---- calls


class Gate:
    """The calls of an actor or task that is still starting. They are sent in their order when it is ready, and fail when it does not start."""

    def __init__(self, conn: Any):
        self.conn, self.segments, self.start = conn, conn.segments, conn.start
        self.lock = threading.Lock()
        self.waiting: Optional[list] = []  # (call, function, arguments); None when it is open
        self.failure: Optional[BaseException] = None

    def post(self, fn: Callable, *args: Any) -> None:
        call = args[0] if args else fn.__self__.call  # type: ignore[attr-defined]
        with self.lock:
            if self.failure is not None:
                self.conn.post(call.finish, None, self.failure)
            elif self.waiting is None:
                self.conn.post(fn, *args)
            else:
                self.waiting.append((call, fn, args))

    def open(self) -> None:
        with self.lock:
            waiting, self.waiting = self.waiting or (), None
            for _, fn, args in waiting:
                self.conn.post(fn, *args)

    def close(self, failure: BaseException) -> None:
        """Fails the calls that wait, and all that come."""
        with self.lock:
            self.failure = failure
            waiting, self.waiting = self.waiting or (), None
            for call, _, _ in waiting:
                self.conn.post(call.finish, None, failure)


_OPTIONS = _Options(True)
_STREAMED = _Options(True)
_STREAMED.stream = True


def send(gate: Gate, call: Call, target: tuple, args: tuple, kwargs: dict) -> Call:
    """Starts a call, from any thread."""
    options = _OPTIONS
    if isinstance(call, StreamCall):
        call.tail, options = STREAM, _STREAMED
    if not any(type(v) in RESPONSES for v in (*args, *kwargs.values())):
        start_elsewhere(gate, call, target, None, options, args, kwargs)
        return call
    values = [_here(v, gate.conn) if type(v) in RESPONSES else v for v in (*args, *kwargs.values())]
    arguments = Arguments(gate.conn, call, target, None, options, values, list(kwargs))
    if arguments.take():
        gate.post(arguments.wait)
    return call


def _here(ref: DeploymentResponse, conn: Any) -> Call:
    """The call behind a reference, on a connection."""
    call = ref._own if type(ref) is Ref else ref._call
    return call if call.conn is conn or call.done and not call.unread() else bridge(call, conn)


def several(call: Call, n: int) -> list:
    """The references of a call that returns n results."""
    parts = [Call(call.conn, new_request()) for _ in range(n)]

    def give(failure: Optional[Failure], ended: Call) -> None:
        error: Any = failure
        values: list = []
        if error is None:
            values = list(ended.value) if isinstance(ended.value, (list, tuple)) else [ended.value]
            if len(values) != n:
                error = ValueError(f"Task returned {len(values)} objects, but num_returns={n}.")
        for i, part in enumerate(parts):
            part.finish(values[i] if error is None else None, error)

    call.conn.post(call.add_listener, lambda ended: ended.read(lambda failure: give(failure or ended.failure, ended)))
    return [Ref(p) for p in parts]


def results(call: Call, num_returns: Any) -> Any:
    """The result of .remote(): a reference, a list of them for several results, or a generator of them."""
    if isinstance(call, StreamCall):
        return Items(DeploymentResponseGenerator(call))
    if num_returns == 0:
        return None
    return Ref(call) if num_returns in (None, 1) else several(call, num_returns)


class Items(ObjectRefGenerator):
    """The items of a generator of a task or of an actor, each as a reference."""

    def _ref(self, item: Any) -> Ref:
        call = Call(self._stream._call.conn, new_request())
        call.finish(item, None)
        return Ref(call)

    def __next__(self) -> Ref:
        call = self._stream._call
        while True:  # without the check of DeploymentResponseGenerator for a running loop: ray lets it be blocked
            there, item = call.take()
            if there:
                return self._ref(item)
            call.block()




__all__ = ["Gate", "Items", "Ref", "bridge", "cancel", "get", "put", "results", "send", "settled", "wait"]
