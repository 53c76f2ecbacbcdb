"""Handles and responses."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import warnings
from typing import Any, Optional

from helve import _encoding, _runtime
from helve._encoding import CLOUDPICKLE, CODECS, MSGPACK
from helve._stream import ROOM, StreamCall, WINDOW
from helve._parts import passable
from helve._wire import Call, Waiter, entry, new_request, request_info
from helve.serve.broadcast import BROADCAST, BroadcastCall, DeploymentBroadcastResponse
from helve.serve.choose import Choosing, dispatch


class _Default:
    """The value of an option that was not given."""

    def __repr__(self) -> str:
        return "DEFAULT.VALUE"


class DEFAULT:
    VALUE = _Default()


class _Options:
    __slots__ = ("method", "model", "session", "python", "request_codec", "response_codec", "by_reference", "local", "stream")

    def __init__(self, python: bool):
        self.method = self.model = self.session = ""
        self.python = python
        self.request_codec = self.response_codec = CLOUDPICKLE if python else MSGPACK
        self.by_reference = self.local = None
        self.stream = False

    def copy(self) -> "_Options":
        new = _Options.__new__(_Options)
        for name in _Options.__slots__:
            setattr(new, name, getattr(self, name))
        return new


def _codec(option: str, name: Any) -> int:
    codec = CODECS.get(name.lower()) if isinstance(name, str) else None
    if codec is None:
        raise ValueError(f"{option}: {name!r} is not one of {', '.join(map(repr, CODECS))}")
    return codec


class DeploymentHandle:
    """A client of one deployment. Cheap to copy; usable from any thread and any event loop."""

    def __init__(self, deployment_name: str, app_name: str = "default", *, language: str = "python", _options: Optional[_Options] = None):
        self._deployment, self._app, self._language = deployment_name, app_name, language
        self._options = _options or _Options(language == "python")
        self._target = (app_name, deployment_name, self._options.method)

    @property
    def deployment_name(self) -> str:
        return self._deployment

    @property
    def app_name(self) -> str:
        return self._app

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment='{self._deployment}')"

    def __reduce__(self):
        return _restore, (self._deployment, self._app, self._language, {n: getattr(self._options, n) for n in _Options.__slots__})

    def options(
        self, *, method_name=DEFAULT.VALUE, multiplexed_model_id=DEFAULT.VALUE, session_id=DEFAULT.VALUE, stream=DEFAULT.VALUE,
        use_new_handle_api=DEFAULT.VALUE, _prefer_local_routing=DEFAULT.VALUE, _by_reference=DEFAULT.VALUE,
        request_serialization=DEFAULT.VALUE, response_serialization=DEFAULT.VALUE,
    ) -> "DeploymentHandle":
        """A handle with these options changed; the others stay."""
        o, given = self._options.copy(), lambda v: v is not DEFAULT.VALUE
        if given(use_new_handle_api):
            warnings.warn("use_new_handle_api has no effect: there is one handle API", DeprecationWarning, stacklevel=2)
        if given(stream):
            o.stream = bool(stream)
        if given(method_name):
            o.method = method_name
        if given(multiplexed_model_id):
            o.model = multiplexed_model_id
        if given(session_id):
            o.session = session_id
        if given(_prefer_local_routing):
            o.local = bool(_prefer_local_routing)
        if given(_by_reference):
            o.by_reference = bool(_by_reference)
        if given(request_serialization):
            o.request_codec = _codec("request_serialization", request_serialization)
        if given(response_serialization):
            o.response_codec = _codec("response_serialization", response_serialization)
        return DeploymentHandle(self._deployment, self._app, language=self._language, _options=o)

    def __getattr__(self, name: str) -> "DeploymentHandle":
        if name.startswith("_"):
            raise AttributeError(name)
        handle = self.options(method_name=name)
        self.__dict__[name] = handle  # found without __getattr__ from now on
        return handle

    def remote(self, *args, **kwargs) -> "DeploymentResponse | DeploymentResponseGenerator":
        """Sends a call on its way and returns at once. The method runs whether or not anybody reads the response; with
        stream=True at most 256 items or 1 MiB ahead of whoever reads, until nobody can read any more."""
        if not self._options.stream:
            return DeploymentResponse(self._start(Call, b"", args, kwargs))
        return DeploymentResponseGenerator(self._start(StreamCall, _STREAM, args, kwargs))

    def broadcast(self, method_name: str, /, *args, **kwargs) -> "DeploymentBroadcastResponse":
        """Calls a method of every replica that the deployment has now, and returns at once. It takes no slots and waits for none: the
        calls run beside others. Arguments that are responses are waited for first."""
        handle = self.options(method_name=method_name, stream=False)
        return DeploymentBroadcastResponse(handle._start(BroadcastCall, BROADCAST, args, kwargs))

    def choose_replica(self, *args, **kwargs):
        """A context in which a slot of a replica is held, for dispatch(): `async with handle.choose_replica() as selection`, or `with`
        outside of event loops. It waits for a slot as a call does. The arguments play no part in the choice."""
        return Choosing(self)

    def dispatch(self, selection, /, *args, **kwargs) -> "DeploymentResponse | DeploymentResponseGenerator":
        """remote() to the replica that was chosen, with its slot: the method and stream are those of the handle that chose."""
        return dispatch(self, selection, args, kwargs)

    def _start(self, kind: type, tail: bytes, args: tuple, kwargs: dict) -> Call:
        for v in (*args, *kwargs.values()):
            if type(v) is DeploymentResponseGenerator:
                raise RuntimeError("streaming results cannot be passed to downstream handle calls; read the items, and pass those")
        conn = _runtime.current()
        info = request_info.get()
        call = kind(conn, (info.text or info.request) if info is not None else new_request())
        call.tail = tail
        call.by_value = self._options.by_reference is False
        on_loop = asyncio._get_running_loop() is conn.loop
        if info is not None and on_loop:
            if info.children is None:
                info.children = {call}
            else:
                info.children.add(call)
            call.parent = info.children
        for v in args:
            if type(v) in _RESPONSES:
                break
        else:
            if not kwargs or not any(type(v) in _RESPONSES for v in kwargs.values()):
                if on_loop:
                    conn.start(call, self._target, info, self._options, args, kwargs)
                else:
                    conn.loop.call_soon_threadsafe(conn.start, call, self._target, info, self._options, args, kwargs)
                return call
        resolve = _resolve(conn, call, self._target, info, self._options, args, kwargs)
        if on_loop:
            _keep(conn.loop.create_task(resolve))
        else:
            asyncio.run_coroutine_threadsafe(resolve, conn.loop)
        return call


_tasks: set = set()


def _keep(task: asyncio.Task) -> None:
    _tasks.add(task)  # the loop itself keeps only weak references
    task.add_done_callback(_tasks.discard)


async def _resolve(conn, call, target, info, options, args, kwargs) -> None:
    """Waits for the responses among the arguments, all at once, and then sends the call."""
    names = list(kwargs)
    values = [*args, *kwargs.values()]
    try:
        for i, v in enumerate(values):
            if type(v) in _RESPONSES:
                if not v._call.done:
                    await Waiter.of(v._call)
                part = v._call.part
                if part is not None and v._call.error is None and part.goes_over(conn) and passable(part, options):
                    values[i], call.passes = part, True
                else:
                    values[i] = await v._call
    except BaseException as e:  # the upstream's error is this call's
        call.finish(None, e if isinstance(e, Exception) else RuntimeError("the argument was cancelled"))
        if not isinstance(e, Exception):
            raise
        return
    conn.start(call, target, info, options, tuple(values[: len(args)]), dict(zip(names, values[len(args) :])))


def _restore(deployment: str, app: str, language: str, options: dict) -> DeploymentHandle:
    o = _Options(language == "python")
    for name, value in options.items():
        setattr(o, name, value)
    return DeploymentHandle(deployment, app, language=language, _options=o)


def _from_ref(ref: dict) -> DeploymentHandle:
    """The handle that a graph declared in Go passes to a constructor."""
    handle = DeploymentHandle(ref["deployment"], ref["app"], language=ref["language"])
    return handle.options(method_name=ref["method"]) if ref["method"] else handle


_encoding.handle_of = _from_ref


_STREAM = entry(b"window", WINDOW.pack(*ROOM))


class DeploymentResponse:
    """The answer to come of a call. It may be awaited and read any number of times, from any thread or loop."""

    __slots__ = ("_call", "__weakref__")

    def __init__(self, call: Call):
        self._call = call

    @property
    def request_id(self) -> str:
        return self._call.request_text()

    def cancelled(self) -> bool:
        """Whether cancel() was called; the request may have completed all the same."""
        return self._call.cancelled

    def cancel(self) -> None:
        """Cancels the request, at best effort. Reading the response raises RequestCancelledError from then on."""
        call = self._call
        call.cancelled = True
        if asyncio._get_running_loop() is call.conn.loop:
            call.cancel()
        else:
            call.conn.loop.call_soon_threadsafe(call.cancel)

    def __await__(self):
        call = self._call
        if asyncio._get_running_loop() is call.conn.loop:
            return call.__await__()
        return asyncio.wrap_future(self._future()).__await__()

    def _future(self) -> concurrent.futures.Future:
        """A future that other threads and loops can wait on. Cancelling it does not cancel the request."""
        future: concurrent.futures.Future = concurrent.futures.Future()

        def tell(call: Call) -> None:
            if call.unread() and call.error is None:
                _keep(call.conn.loop.create_task(_read(call, future)))
            elif future.set_running_or_notify_cancel():
                if call.error is not None:
                    future.set_exception(call.error)
                else:
                    future.set_result(call.value)

        self._call.conn.loop.call_soon_threadsafe(self._call.add_listener, tell)
        return future

    def result(self, *, timeout_s: Optional[float] = None) -> Any:
        """Waits for the answer, in code that is not on an event loop. After TimeoutError the request runs on."""
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("result() would block the event loop; use `await response` in async code")
        if threading.current_thread() is getattr(self._call.conn, "thread", None):
            raise RuntimeError("result() cannot wait on the thread that receives the answer")
        if self._call.done and not self._call.unread():
            return self._call.outcome()
        try:
            return self._future().result(timeout_s)
        except concurrent.futures.TimeoutError as e:
            if self._call.done and self._call.error is e:
                raise
            raise TimeoutError(f"no answer within {timeout_s} s; the request runs on") from None

    def __reduce__(self):
        from helve.serve.exceptions import RayServeException

        raise RayServeException("a response cannot be serialized; pass it as a top-level argument, not inside of another object")

    @property
    def by_reference(self) -> bool:
        """Whether the result may stay where it is until it is read: all but those of handles with _by_reference=False."""
        return not self._call.by_value

    async def _to_object_ref(self) -> "ObjectRef":
        """A reference to the result, before that is there."""
        return self._to_object_ref_sync(_allow_running_in_asyncio_loop=True)

    def _to_object_ref_sync(self, _timeout_s: Optional[float] = None, _allow_running_in_asyncio_loop: bool = False) -> "ObjectRef":
        """A reference to the result, before that is there."""
        _may_refer(self._call, _allow_running_in_asyncio_loop)
        return ObjectRef(self._call)


def _may_refer(call: Call, in_loop: bool) -> None:
    if call.by_value:
        raise RuntimeError("by-value responses cannot become object refs: the handle has _by_reference=False")
    if not in_loop and asyncio._get_running_loop() is not None:
        raise RuntimeError("_to_object_ref_sync() in an event loop: use `await response._to_object_ref()`")


class ObjectRef(DeploymentResponse):
    """A reference to the result of a call. It may be awaited, read with result(), and passed to other calls, which take the value
    from where it lies."""

    __slots__ = ()


async def _read(call: Call, future: concurrent.futures.Future) -> None:
    """Reads a result that lies somewhere else, for another thread or loop."""
    try:
        await call.load()
    except BaseException as e:
        if future.set_running_or_notify_cancel():
            future.set_exception(e)
        if not isinstance(e, Exception):
            raise
        return
    if future.set_running_or_notify_cancel():
        future.set_result(call.value)


_RESPONSES = frozenset((DeploymentResponse, ObjectRef))


class DeploymentResponseGenerator:
    """The items to come of a streaming call. It is read once, with `for` outside of event loops or `async for` in one. When
    nobody holds it any more, or it is cancelled, the generator at the other end is closed."""

    __slots__ = ("_call", "__weakref__")

    def __init__(self, call: StreamCall):
        self._call = call

    @property
    def request_id(self) -> str:
        return self._call.request_text()

    def cancelled(self) -> bool:
        """Whether cancel() was called; the request may have completed all the same."""
        return self._call.cancelled

    def cancel(self) -> None:
        """Ends the stream: the next read raises RequestCancelledError, and the generator is closed."""
        call = self._call
        call.cancelled = True
        if asyncio._get_running_loop() is call.conn.loop:
            call.cancel()
        else:
            call.conn.loop.call_soon_threadsafe(call.cancel)

    def __iter__(self) -> "DeploymentResponseGenerator":
        return self

    def __next__(self) -> Any:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("next() would block the event loop; use `async for` in async code")
        if threading.current_thread() is getattr(self._call.conn, "thread", None):
            raise RuntimeError("next() cannot wait on the thread that receives the items")
        while True:
            there, item = self._call.take()
            if there:
                return item
            self._call.block()

    def __aiter__(self):
        if asyncio._get_running_loop() is self._call.conn.loop:
            return self._items()
        return self

    async def _items(self):
        """`async for` on the connection's loop, at a quarter of what __anext__ costs: an asynchronous generator's step is no
        coroutine of its own. It holds self, so that a reader that breaks off is seen to have gone."""
        call = self._call
        while True:
            for item in call.take_many():
                yield item
            if call.done and not call.items:
                if call.error is not None:
                    raise call.error
                return
            await call.wait()

    async def __anext__(self) -> Any:
        while True:
            try:
                there, item = self._call.take()
            except StopIteration:
                raise StopAsyncIteration from None
            if there:
                return item
            await self._call.wait()

    @property
    def by_reference(self) -> bool:
        return not self._call.by_value

    async def _to_object_ref_gen(self) -> "ObjectRefGenerator":
        """The items as references."""
        return self._to_object_ref_gen_sync(_allow_running_in_asyncio_loop=True)

    def _to_object_ref_gen_sync(self, _timeout_s: Optional[float] = None, _allow_running_in_asyncio_loop: bool = False) -> "ObjectRefGenerator":
        """The items as references."""
        _may_refer(self._call, _allow_running_in_asyncio_loop)
        return ObjectRefGenerator(self)

    def __await__(self):
        raise TypeError("a stream cannot be awaited; use `async for`")

    def result(self, *, timeout_s: Optional[float] = None) -> Any:
        raise TypeError("a stream has no result(); use `for`, or `async for` in async code")

    def __del__(self) -> None:
        try:
            call = self._call
            if not call.done:
                call.conn.loop.call_soon_threadsafe(call.cancel)
        except (AttributeError, RuntimeError):  # half made, or the loop is closed
            pass

    def __reduce__(self):
        from helve.serve.exceptions import RayServeException

        raise RayServeException("a stream cannot be serialized; read the items, and pass those")


class ObjectRefGenerator:
    """The items of a stream, each as a reference to what has come."""

    def __init__(self, stream: DeploymentResponseGenerator):
        self._stream = stream

    def _ref(self, item: Any) -> ObjectRef:
        call = Call(self._stream._call.conn, self._stream._call.request_id)
        call.finish(item, None)
        return ObjectRef(call)

    def __iter__(self) -> "ObjectRefGenerator":
        return self

    def __next__(self) -> ObjectRef:
        return self._ref(next(self._stream))

    def __aiter__(self) -> "ObjectRefGenerator":
        return self

    async def __anext__(self) -> ObjectRef:
        return self._ref(await self._stream.__anext__())


__all__ = ["DEFAULT", "DeploymentBroadcastResponse", "DeploymentHandle", "DeploymentResponse", "DeploymentResponseGenerator"]
