"""The results of handle calls: responses, streams, and references to results."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, Optional

from helve import _limits
from helve._call import Call, wake
from helve._stream import ROOM, WINDOW
from helve._frames import entry
from helve.serve._types import T

if TYPE_CHECKING:
    from typing import AsyncIterator, Generator

STREAM = entry(b"window", WINDOW.pack(*ROOM))
IN_LOOP = "Sync methods should not be called from within an `asyncio` event loop. Use `{}` instead."


class Pending(Generic[T]):
    """The common part of all responses: their request, and its end by cancel()."""

    __slots__ = ("_call", "__weakref__")

    def __init__(self, call: Any):
        self._call = call

    @property
    def request_id(self) -> str:
        """The id of the request: that of the HTTP request or call in which it was made, else an id of its own."""
        return self._call.request_text()

    @property
    def by_reference(self) -> bool:
        """Whether results may stay in the node or in shared memory until they are read: for all handles but those with _by_reference=False."""
        return not self._call.by_value

    def cancelled(self) -> bool:
        """Whether cancel() was called; the request may have completed all the same."""
        return self._call.cancelled

    def cancel(self) -> None:
        """Cancels the request, at best effort, with all calls that its method has made.

        Reading from it raises `RequestCancelledError` from then on. The method gets a `CancelledError` at its next `await`, and a generator
        is closed.
        """
        call = self._call
        call.cancelled = True
        if asyncio._get_running_loop() is call.conn.loop:
            call.cancel()
        else:
            call.conn.post(call.cancel)


class DeploymentResponse(Pending[T]):
    """The answer of a call, which may be still to come: the result of `DeploymentHandle.remote`.

    It may be awaited and read any number of times, from any thread or loop, and passed to another call in place of its result:

        doubled = doubler.remote(2)             # runs
        total = await adder.remote(doubled, 1)  # the result of doubled goes from replica to replica

    The type variable is the type of the result: `DeploymentResponse[str]`. A read raises the exception of the method, or one of
    `helve.serve.exceptions`.
    """

    __slots__ = ()

    def __await__(self) -> "Generator[Any, None, T]":
        call = self._call
        if get_ident() == call.conn.thread_id:
            return call.__await__()
        return self._await_elsewhere().__await__()

    async def _await_elsewhere(self) -> Any:
        failure = None
        if not self._call.done or self._call.unread():
            failure = await asyncio.wrap_future(self._future())
        if failure is not None:
            raise failure.exception()
        return self._call.outcome()

    def _future(self) -> concurrent.futures.Future:
        """A future that other threads and loops can wait on until the answer can be read. Its result is None, or the
        reason why it cannot be read: an exception in a future changes on its way, and some do not go into one.
        Cancelling it does not cancel the request.
        """
        future: concurrent.futures.Future = concurrent.futures.Future()

        def tell(call: Call) -> None:
            call.read(lambda failure: wake(future, failure))

        self._call.conn.post(self._call.add_listener, tell)
        return future

    def result(self, *, timeout_s: Optional[float] = None) -> T:
        """Waits for the answer, in code that is not on an event loop.

        Args:
            timeout_s: Seconds to wait. None stands for no limit.

        Returns:
            The result of the method.

        Raises:
            TimeoutError: No answer within timeout_s. The request runs on, and may be read again.
            RuntimeError: The caller is on an event loop: it must `await` the response.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(IN_LOOP.format("await response"))
        if threading.current_thread() is getattr(self._call.conn, "thread", None):
            raise RuntimeError("result() cannot wait on the thread that receives the answer")
        failure, timeout_s = None, _limits.wait("timeout_s", timeout_s)
        if not self._call.done or self._call.unread():
            try:
                failure = self._future().result(timeout_s)
            except concurrent.futures.TimeoutError:
                raise TimeoutError(f"no answer within {timeout_s} s; the request runs on") from None
        if failure is not None:
            raise failure.exception()
        return self._call.outcome()

    def __reduce__(self) -> Any:
        from helve.serve.exceptions import RayServeException

        raise RayServeException(
            "`DeploymentResponse` is not serializable: pass it as a top-level argument of a call, not inside of another object such as a list, or await "
            "it and pass its value"
        )

    async def _to_object_ref(self) -> "ObjectRef[T]":
        """A reference to the result, which may be still to come."""
        return self._to_object_ref_sync(_allow_running_in_asyncio_loop=True)

    def _to_object_ref_sync(self, _timeout_s: Optional[float] = None, _allow_running_in_asyncio_loop: bool = False) -> "ObjectRef[T]":
        """A reference to the result, which may be still to come."""
        _may_refer(self._call, _allow_running_in_asyncio_loop)
        return ObjectRef(self._call)


def _may_refer(call: Call, in_loop: bool) -> None:
    if call.by_value:
        raise RuntimeError("Converting by-value DeploymentResponses to ObjectRefs is not supported. The handle has _by_reference=False.")
    if not in_loop and asyncio._get_running_loop() is not None:
        raise RuntimeError(IN_LOOP.format("await response._to_object_ref()"))


class ObjectRef(DeploymentResponse[T]):
    """A reference to the result of a call. It may be awaited, read with `result`, and passed to other calls, which get the value without a detour
    over this process.
    """

    __slots__ = ()


RESPONSES = {DeploymentResponse, ObjectRef}  # the types of arguments that stand for their results


class DeploymentResponseGenerator(Pending[T]):
    """The items of a streaming call: the result of `handle.options(stream=True).remote`.

    It is read once, with `for` outside of event loops or `async for` in one:

        async for token in handle.options(stream=True).generate.remote("prompt"):
            print(token)

    When the last reference to it is gone, or it is cancelled, the generator at the other end is closed. An exception of the generator is raised
    behind its last item. `await` and `result` are a TypeError. The type variable is the type of an item.
    """

    __slots__ = ()

    def __iter__(self) -> "DeploymentResponseGenerator[T]":
        return self

    def __next__(self) -> T:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(IN_LOOP.format("async for` or `await response.__anext__()"))
        if threading.current_thread() is getattr(self._call.conn, "thread", None):
            raise RuntimeError("next() cannot wait on the thread that receives the items")
        while True:
            there, item = self._call.take()
            if there:
                return item
            self._call.block()

    def __aiter__(self) -> "AsyncIterator[T]":
        if asyncio._get_running_loop() is self._call.conn.loop:
            return self._items()
        return self

    async def _items(self) -> "AsyncIterator[T]":
        """`async for` on the connection's loop, at a quarter of the cost of __anext__: a step of an asynchronous
        generator is no coroutine of its own. It holds self, so that a reader that breaks off is noticed.
        """
        call = self._call
        while True:
            for item in call.take_many():
                yield item
            if call.done and not call.items:
                call.outcome()
                return
            await call.wait()

    async def __anext__(self) -> T:
        while True:
            try:
                there, item = self._call.take()
            except StopIteration:
                raise StopAsyncIteration from None
            if there:
                return item
            await self._call.wait()

    async def _to_object_ref_gen(self) -> "ObjectRefGenerator[T]":
        """The items as references."""
        return self._to_object_ref_gen_sync(_allow_running_in_asyncio_loop=True)

    def _to_object_ref_gen_sync(self, _timeout_s: Optional[float] = None, _allow_running_in_asyncio_loop: bool = False) -> "ObjectRefGenerator[T]":
        """The items as references."""
        _may_refer(self._call, _allow_running_in_asyncio_loop)
        return ObjectRefGenerator(self)

    if not TYPE_CHECKING:  # type checkers refuse both

        def __await__(self):
            raise TypeError("`DeploymentResponseGenerator` cannot be awaited directly. Use `async for` or `await response.__anext__()` instead.")

        def result(self, *, timeout_s: Optional[float] = None) -> Any:
            """Raises a TypeError: a stream has no single result.

            Args:
                timeout_s: As of `DeploymentResponse.result`.
            """
            raise TypeError("`DeploymentResponseGenerator` doesn't support `.result()`. Use `for item in response`, or `async for` on an event loop.")

    def __del__(self) -> None:
        try:
            call = self._call
            if not call.done and call.conn.lost is None:  # in the child of a fork the loop is the parent's
                call.conn.loop.call_soon_threadsafe(call.cancel)
        except (AttributeError, RuntimeError):  # partly constructed, or the loop is closed
            pass

    def __reduce__(self) -> Any:
        from helve.serve.exceptions import RayServeException

        raise RayServeException("`DeploymentResponseGenerator` is not serializable: read the items, and pass those")


class ObjectRefGenerator(Generic[T]):
    """The items of a stream, each as a reference."""

    def __init__(self, stream: DeploymentResponseGenerator[T]):
        self._stream = stream

    def _ref(self, item: Any) -> ObjectRef[T]:
        call = Call(self._stream._call.conn, self._stream._call.request_id)
        call.finish(item, None)
        return ObjectRef(call)

    def __iter__(self) -> "ObjectRefGenerator[T]":
        return self

    def __next__(self) -> ObjectRef[T]:
        return self._ref(next(self._stream))

    def __aiter__(self) -> "ObjectRefGenerator[T]":
        return self

    async def __anext__(self) -> ObjectRef[T]:
        return self._ref(await self._stream.__anext__())


__all__ = [
    "DeploymentResponse", "DeploymentResponseGenerator", "ObjectRef", "ObjectRefGenerator", "Pending", "RESPONSES", "STREAM",
]
