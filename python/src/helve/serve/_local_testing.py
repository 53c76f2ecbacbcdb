"""serve.run(app, _local_testing_mode=True): an application whose deployments run in this process, without a node. Unit tests use it.

Each deployment has one instance, and a thread with an event loop for it; plain methods run in threads, so that they may wait for responses. One
more thread, of `Home`, has the state of all calls: local handles have it in place of the connection to a node. Responses, streams and broadcasts are
the same classes as over a connection.

A call gets copies of its arguments, as over a connection; its result is the object itself. Options that limit or place replicas have no effect.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import itertools
import logging
import os
import threading
from concurrent.futures import Future
from typing import Any, Callable, Optional

from helve import _logging
from helve._call import Call, new_request, wake
from helve._encoding import Failure
from helve._errors import RayServeException, ReplicaUnavailableError, RequestCancelledError
from helve._hooks import DEFINITION, hook, no_reconfigure
from helve._names import match_name
from helve._pickling import dumps, dumps_replacing, loads
from helve._stream import ROOM, StreamCall, is_stream
from helve._threads import Threads
from helve._frames import RequestInfo, request_info
from helve.serve.broadcast import BroadcastCall, _Answer
from helve.serve.choose import ReplicaSelection
from helve.serve.deployment import Application, Deployment, methods_of
from helve.serve.handle import DeploymentHandle, _Options
from helve.serve.responses import DeploymentResponse, DeploymentResponseGenerator

logger = logging.getLogger("helve.serve")

NO_REFERENCES = "Converting DeploymentResponses to ObjectRefs is not supported in local testing mode."
END = 5.0  # seconds that the end of a deployment waits for its tasks

_lock = threading.RLock()
_home: Optional["Home"] = None
_apps: dict[str, "LocalApp"] = {}
_copying = threading.local()  # its attribute "on" is set while the arguments of a local call are pickled


class Home:
    """The calls of all local handles. Its methods run on its loop, but for `post`."""

    thread_id = 0  # no code of users runs on its loop

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.lost = self.over = None
        self.was_forked = False
        self.pending: dict[int, Call] = {}
        self.running: dict[int, "Execution"] = {}
        self.ids = itertools.count(1)
        self.ending = threading.RLock()
        self.thread = threading.Thread(target=_run, args=(self.loop,), name="helve-local", daemon=True)
        self.thread.start()

    def post(self, fn: Callable, *args: Any) -> None:
        """Runs fn on the loop, or here when the loop has ended: a response can be read for as long as it lives."""
        if self.lost is None:
            try:
                self.loop.call_soon_threadsafe(fn, *args)
                return
            except RuntimeError:  # the loop is closed
                pass
        with self.ending:
            fn(*args)

    def begin(self, execution: "Execution") -> None:
        """Gives a call whose arguments are there to its replica."""
        call = execution.call
        if call.over():
            return
        call.id = next(self.ids)
        self.pending[call.id], self.running[call.id] = call, execution
        try:
            execution.replica.loop.call_soon_threadsafe(execution.start)
        except RuntimeError:
            self.end(execution, None, _gone(execution.replica))

    def end(self, execution: "Execution", value: Any, error: Optional[BaseException]) -> None:
        """Ends a call with its value, or with the exception of its method."""
        call = execution.call
        self.running.pop(call.id, None)
        self.pending.pop(call.id, None)
        if call.done:
            return
        if isinstance(error, asyncio.CancelledError):
            cancelled = RequestCancelledError(f"Request {call.request_text()} was cancelled.")
            error = _gone(execution.replica) if execution.replica.closing else cancelled
        failure = None if error is None else Failure(error)
        if isinstance(call, LocalBroadcast):
            call.answers[0] = _Answer(*call.asked[0], value, failure)
            call.failed = failure is not None
            call.finish(None, None)
        elif failure is not None:
            call.finish(None, failure)
        else:
            call.finish(value, None)

    def send_cancel(self, id: int) -> None:
        execution = self.running.get(id)
        if execution is not None:
            execution.info.cancel_children()
            execution.replica.post(execution.cancel)

    def close(self) -> None:
        self.post(self.stop)
        self.thread.join(END)

    def stop(self) -> None:
        self.lose("serve.shutdown() has ended the application, which ran in _local_testing_mode")
        self.loop.stop()

    def lose(self, why: str) -> None:
        self.over, self.lost = Failure(ReplicaUnavailableError(why)), ConnectionError(why)
        pending, self.pending = self.pending, {}
        for call in list(pending.values()):
            call.finish(None, self.over)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _in_child() -> None:
    """Runs after a fork: the threads of local deployments are the parent's."""
    global _home, _lock
    _lock = threading.RLock()
    home, _home = _home, None
    _apps.clear()
    if home is not None:
        home.was_forked, home.ending = True, threading.RLock()
        home.lose("the application runs in _local_testing_mode in the parent of this process")


os.register_at_fork(after_in_child=_in_child)


class LocalStream(StreamCall):
    """A streaming call whose items are the objects themselves. Its method is at most ROOM items ahead of the reader."""

    __slots__ = ()

    def on_item(self, item: Any) -> None:
        if not self.done:
            self.items.append(item)
            self._tell()

    def take(self) -> tuple:
        done = self.done  # read before the items, because the last items come before the end
        try:
            item = self.items.popleft()
        except IndexError:
            if not done:
                return False, None
            self.outcome()
            raise StopIteration from None
        self.owed_items += 1
        if not done and self.owed_items >= ROOM[0] // 2:
            owed, self.owed_items = self.owed_items, 0
            self.conn.post(self.repay, owed)
        return True, item

    def repay(self, items: int) -> None:
        execution = self.conn.running.get(self.id)
        if execution is not None:
            execution.replica.post(execution.credit, items)


class LocalBroadcast(BroadcastCall):
    """A broadcast to the one replica of a local deployment."""

    __slots__ = ()


_KINDS = {StreamCall: LocalStream, BroadcastCall: LocalBroadcast}


class LocalResponse(DeploymentResponse):
    __slots__ = ()

    def _to_object_ref_sync(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(NO_REFERENCES)


class LocalResponseGenerator(DeploymentResponseGenerator):
    __slots__ = ()

    def _to_object_ref_gen_sync(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(NO_REFERENCES)


class LocalSelection(ReplicaSelection):
    """The one replica of a local deployment, as choose_replica() gives it."""

    __slots__ = ()

    def __init__(self, handle: "LocalHandle"):
        super().__init__(handle, handle._replica.home, {"replica": handle._replica.id, "node": "local", "lease": 0})

    def _release(self) -> None:
        self._used = True


class LocalChoosing:
    def __init__(self, handle: "LocalHandle"):
        self._selection = LocalSelection(handle)

    def __enter__(self) -> LocalSelection:
        return self._selection

    async def __aenter__(self) -> LocalSelection:
        return self._selection

    def __exit__(self, *exc: Any) -> None:
        self._selection._release()

    async def __aexit__(self, *exc: Any) -> None:
        self._selection._release()


class LocalHandle(DeploymentHandle):
    """A handle to a deployment in this process."""

    _replica: "LocalReplica"

    def __reduce__(self):
        if not getattr(_copying, "on", False):
            raise RayServeException(
                f"a handle of _local_testing_mode cannot be pickled: deployment {self._deployment!r} runs in this process only. "
                "Run the application without _local_testing_mode to use its handles in other processes"
            )
        return _find, (self._app, self._deployment, {n: getattr(self._options, n) for n in _Options.__slots__})

    def options(self, **options: Any) -> "LocalHandle":
        handle = _handle(self._replica, super().options(**options)._options)
        handle._state = self._state
        return handle

    def remote(self, *args: Any, **kwargs: Any) -> "DeploymentResponse | DeploymentResponseGenerator":
        if self._options.stream:
            return LocalResponseGenerator(self._start(StreamCall, b"", args, kwargs))
        return LocalResponse(self._start(Call, b"", args, kwargs))

    def choose_replica(self, *args: Any, **kwargs: Any) -> LocalChoosing:
        return LocalChoosing(self)

    def dispatch(self, selection: Any, /, *args: Any, **kwargs: Any) -> "DeploymentResponse | DeploymentResponseGenerator":
        if not isinstance(selection, ReplicaSelection):
            raise TypeError(f"dispatch() takes what choose_replica() gave, not {type(selection).__name__}")
        chosen = selection._handle
        if (chosen._app, chosen._deployment) != (self._app, self._deployment):
            raise ValueError(f"the selection is of deployment {chosen._deployment!r}, not of {self._deployment!r}")
        if not selection._used:
            selection._used = True
            return self.options(method_name=chosen._options.method, stream=chosen._options.stream).remote(*args, **kwargs)
        call = (LocalStream if chosen._options.stream else Call)(self._replica.home, new_request())
        call.finish(None, RuntimeError("the selection was dispatched before, or its context has ended; choose again"))
        return (LocalResponseGenerator if chosen._options.stream else LocalResponse)(call)

    def _start(self, kind: type, tail: bytes, args: tuple, kwargs: dict) -> Call:
        self._state.use()
        self._state.calls += 1
        for v in (*args, *kwargs.values()):
            if isinstance(v, DeploymentResponseGenerator):
                raise RuntimeError("streaming results cannot be passed to downstream handle calls; read the items, and pass those")
        home, caller = self._replica.home, request_info.get()
        request = new_request() if caller is None else caller.text or caller.request
        call = _KINDS.get(kind, kind)(home, request)
        if caller is not None:
            caller.adopt(call, False)
        info = RequestInfo(b"" if type(request) is str else request, b"", b"", 0, 0 if caller is None else caller.depth + 1, None)
        info.text = request if type(request) is str else ""
        info.model, info.session = self._options.model, self._options.session
        execution = Execution(self._replica, call, info, self._options.method or "__call__", type(call) is LocalStream)
        if type(call) is LocalBroadcast:
            call.asked, call.answers = [(self._replica.id, "local")], [None]
        responses = {i: v for i, v in enumerate((*args, *kwargs.values())) if isinstance(v, DeploymentResponse)}
        execution.names = list(kwargs)
        try:
            execution.values = [None if i in responses else _copied(v) for i, v in enumerate((*args, *kwargs.values()))]
        except Exception as e:  # no other code has seen the call yet
            call.finish(None, e)
            return call
        home.post(execution.wait, responses)
        return call


def _copied(value: Any) -> Callable[[], Any]:
    """A function that returns a copy of the present value, as a call over a connection would carry it."""
    before, _copying.on = getattr(_copying, "on", False), True
    try:
        data = dumps(value)
    finally:
        _copying.on = before
    return lambda: loads(data)


def _handle(replica: "LocalReplica", options: _Options) -> LocalHandle:
    handle = LocalHandle(replica.name, replica.app, _options=options)
    handle._replica = replica
    return handle


def _find(app: str, deployment: str, options: dict) -> LocalHandle:
    """The handle in a copy of the arguments of a local call."""
    replica = _apps[app].replicas[deployment]
    o = _Options(True)
    for name, value in options.items():
        setattr(o, name, value)
    return _handle(replica, o)


class Execution:
    """A call at its replica. `wait` and `came` run on the loop of Home, the other methods on the replica's."""

    def __init__(self, replica: "LocalReplica", call: Call, info: RequestInfo, method: str, stream: bool):
        self.replica, self.call, self.info, self.method, self.is_stream = replica, call, info, method, stream
        self.names: list = []
        self.values: list = []
        self.missing = 0
        self.task: Optional[asyncio.Task] = None
        self.begun = False
        self.room, self.wanted = ROOM[0], None

    def wait(self, responses: dict) -> None:
        """Waits for the responses among the arguments, by their places."""
        self.missing = len(responses)
        if not responses:
            self.replica.home.begin(self)
        for i, response in responses.items():
            future = response._future()
            future.add_done_callback(lambda f, i=i, r=response: self.replica.home.post(self.came, i, r, f))

    def came(self, i: int, response: DeploymentResponse, future: Future) -> None:
        if self.call.done:
            return
        try:
            failure = future.result()
            if failure is None:
                self.values[i] = _copied(response._call.outcome())
        except BaseException as e:
            failure = Failure(e)
        if failure is not None:  # the failure of an argument is the failure of this call
            self.call.finish(None, failure)
            return
        self.missing -= 1
        if self.missing == 0:
            self.replica.home.begin(self)

    def start(self) -> None:
        if self.replica.closing:
            self.never_ran()
            return
        self.task = self.replica.loop.create_task(self.run())
        self.task.add_done_callback(lambda _: self.begun or self.never_ran())

    def never_ran(self) -> None:
        """A task that is cancelled before its first step does not run at all."""
        self.replica.home.post(self.replica.home.end, self, None, asyncio.CancelledError())

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def credit(self, items: int) -> None:
        self.room += items
        wanted, self.wanted = self.wanted, None
        if wanted is not None and not wanted.done():
            wanted.set_result(None)

    async def run(self) -> None:
        value, error, self.begun = None, None, True
        request_info.set(self.info)  # in the task's own context, so it is not reset
        try:
            value = await self.execute()
        except BaseException as e:  # also SystemExit, which would end the loop
            error = e
        self.replica.home.post(self.replica.home.end, self, value, error)

    async def execute(self) -> Any:
        fn = self.replica.find(self.method)
        values = [v() for v in self.values]
        split = len(values) - len(self.names)
        args, kwargs = values[:split], dict(zip(self.names, values[split:]))
        call = fn if inspect.isfunction(fn) or inspect.ismethod(fn) else getattr(fn, "__call__", fn)
        if inspect.iscoroutinefunction(call) or inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
            value = fn(*args, **kwargs)
        else:
            value = await self.replica.in_thread(fn, *args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        if is_stream(value) != self.is_stream:
            if self.is_stream:
                raise TypeError(f"Called method '{self.method}' with `handle.options(stream=True)` but it did not return a generator.")
            if inspect.isgenerator(value):
                value.close()
            raise TypeError(f"Method '{self.method}' returned a generator. You must use `handle.options(stream=True)` to call generators on a deployment.")
        if self.is_stream:
            await self.drain(value)
            return None
        return value

    async def drain(self, value: Any) -> None:
        """Hands all items to the reader, and closes the generator in every case."""
        post, call = self.replica.home.post, self.call
        if inspect.isasyncgen(value):
            try:
                async for item in value:
                    await self.have_room()
                    post(call.on_item, item)
            finally:
                await value.aclose()
            return
        end = object()
        try:
            while (item := await self.replica.in_thread(next, value, end)) is not end:
                await self.have_room()
                post(call.on_item, item)
        finally:
            await self.replica.in_thread(value.close)

    async def have_room(self) -> None:
        while self.room <= 0:
            self.wanted = self.replica.loop.create_future()
            await self.wanted
        self.room -= 1


class LocalReplica:
    """The instance of a deployment, and the thread whose loop runs its code."""

    def __init__(self, home: Home, app: str, name: str, deployment: Deployment, args: tuple, kwargs: dict):
        self.home, self.app, self.name, self.id = home, app, name, f"{name}#local"
        self.target = deployment._target
        self.methods = [m["name"] for m in methods_of(self.target)]
        self.instance: Any = None
        self.closing = False
        self.loop = asyncio.new_event_loop()
        self.pool = Threads()
        self.thread = threading.Thread(target=_run, args=(self.loop,), name=f"helve-local-{name}", daemon=True)
        self.thread.start()
        config = deployment._options.get("user_config")
        try:
            self.ask(lambda: self.construct(args, kwargs, config))
        except BaseException:
            self.close()
            raise

    def post(self, fn: Callable, *args: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:  # the loop is closed
            pass

    def ask(self, make: Callable) -> Any:
        """The result of a coroutine, which runs on the loop in the context of the caller."""
        future: Future = Future()
        context = contextvars.copy_context()

        async def run() -> None:
            try:
                value = await make()
            except BaseException as e:
                future.set_exception(e)
            else:
                wake(future, value)

        self.loop.call_soon_threadsafe(lambda: context.run(self.loop.create_task, run()))
        return future.result()

    async def construct(self, args: tuple, kwargs: dict, config: Any) -> None:
        target = self.target
        if not inspect.isclass(target):
            self.instance = target
        elif inspect.iscoroutinefunction(target.__init__):
            self.instance = target.__new__(target)
            await self.instance.__init__(*args, **kwargs)
        else:
            self.instance = target(*args, **kwargs)
        if config is not None:
            done = self.instance.reconfigure(config)
            if inspect.isawaitable(done):
                await done

    def find(self, method: str) -> Callable:
        if not inspect.isclass(self.target):  # a function deployment: every name is the function
            return self.instance
        found = match_name(method, self.methods)
        if found == "__call__" and hasattr(self.target, DEFINITION):
            raise RayServeException(f"deployment {self.name} is an ASGI application: HTTP requests go to it, handles call its methods")
        if found is None:
            raise RayServeException(f"Tried to call a method '{method}' that does not exist. Available methods: {self.methods}.")
        return getattr(self.instance, found)

    async def in_thread(self, fn: Callable, *args: Any, **kwargs: Any) -> Any:
        """The result of fn, which runs in a thread. A thread cannot be interrupted: a caller that is cancelled gets the cancel at its end."""
        context = contextvars.copy_context()

        def attempt() -> tuple:  # a future does not take StopIteration as its exception
            try:
                return True, context.run(fn, *args, **kwargs)
            except BaseException as e:
                return False, e

        work = asyncio.wrap_future(self.pool.submit(attempt), loop=self.loop)
        try:
            good, value = await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise
        if not good:
            raise value
        return value

    def close(self) -> None:
        """Ends the tasks, the loop and the threads. A plain method that does not end keeps its thread, which is a daemon."""

        async def end() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=END)
            await self.loop.shutdown_asyncgens()
            self.loop.stop()

        def begin() -> None:
            self.closing = True
            self.ending = self.loop.create_task(end())

        self.post(begin)
        if threading.current_thread() is not self.thread:
            self.thread.join(2 * END)
        self.pool.close()


def _gone(replica: LocalReplica) -> BaseException:
    return ReplicaUnavailableError(f"deployment {replica.name!r} of application {replica.app!r} has ended; run the application again")


class LocalApp:
    """An application with its replicas. Deployments that others are bound to are constructed first."""

    def __init__(self, home: Home, name: str, target: Application):
        self.home, self.name = home, name
        self.replicas: dict[str, LocalReplica] = {}
        self.names: dict[int, str] = {}  # of applications by their ids; a name is taken before its deployment is constructed
        self.keep: list = []  # keeps the objects alive, because their ids are keys
        try:
            self.ingress = self.add(target)
        except BaseException:
            self.close()
            raise

    def add(self, app: Application) -> str:
        if id(app) in self.names:  # bound once, used twice: one deployment
            return self.names[id(app)]
        d, n = app._bound, 0
        name = d._name
        if not isinstance(d, Deployment):
            raise TypeError(f"deployment {name!r} is written in Go, which the local testing mode cannot run; run it without _local_testing_mode, or bind a class in its place")
        while name in self.names.values():
            n += 1
            name = f"{d._name}_{n}"
        self.names[id(app)] = name
        self.keep.append(app)
        if d._options.get("user_config") is not None and hook(d._target, "reconfigure") is None:
            raise no_reconfigure(d._target, name)
        args, kwargs = self.bound(name, (app._args, app._kwargs))
        self.replicas[name] = LocalReplica(self.home, self.name, name, d, args, kwargs)
        return name

    def handle(self, name: str) -> LocalHandle:
        return _handle(self.replicas[name], _Options(True))

    def bound(self, name: str, values: Any) -> Any:
        """Arguments of a constructor with handles in place of the applications in them. Tuples, lists and dicts are copied; other objects are
        pickled to find the applications in them, and stay as they are if there are none or if they cannot be pickled.
        """
        cls = type(values)
        if isinstance(values, Application):
            return self.handle(self.add(values))
        if cls is tuple or cls is list:
            return cls(self.bound(name, v) for v in values)
        if cls is dict:
            return {k: self.bound(name, v) for k, v in values.items()}
        if values is None or cls in (str, int, float, bool, bytes):
            return values
        mistakes: list = []
        found: list = []

        def replace(value: Any) -> Any:
            if not isinstance(value, Application):
                return NotImplemented
            try:
                found.append(self.add(value))
            except BaseException as e:
                mistakes.append(e)
                raise
            return _find_new, (id(self), found[-1])

        try:
            data = dumps_replacing(values, replace)
        except Exception:
            if mistakes:
                raise mistakes[0]
            if found:
                raise
            return values
        if not found:
            return values
        _building[id(self)] = self
        try:
            return loads(data)
        finally:
            del _building[id(self)]

    def close(self) -> None:
        for replica in reversed(list(self.replicas.values())):
            replica.close()


_building: dict[int, LocalApp] = {}


def _find_new(app: int, deployment: str) -> LocalHandle:
    return _building[app].handle(deployment)


def run(target: Application, *, name: str = "default", route_prefix: Optional[str] = "/", logging_config: Any = None) -> DeploymentHandle:
    """Runs an application in this process, and returns a handle to its ingress. The exception of a constructor is raised as it is. An application of
    this name that runs here is replaced.
    """
    global _home
    if logging_config is not None:
        _logging.checked(logging_config)
    if not isinstance(target, Application):
        hint = "; call .bind() on it" if isinstance(target, Deployment) else ""
        raise TypeError(f"serve.run takes an application, got {type(target).__name__}{hint}")
    with _lock:
        if _home is None:
            _home = Home()
        home = _home
    app = LocalApp(home, name, target)  # without the lock: a constructor may run an application too
    with _lock:
        former, _apps[name] = _apps.get(name), app
    if former is not None:
        former.close()
    return app.handle(app.ingress)


def find(app: str, deployment: Optional[str] = None) -> Optional[DeploymentHandle]:
    """A handle to a deployment of an application that runs here, or to its ingress; None if there is none."""
    local = _apps.get(app)
    if local is None:
        return None
    name = local.ingress if deployment is None else deployment
    return local.handle(name) if name in local.replicas else None


def delete(name: str) -> bool:
    """Ends an application that runs here. False if there is none of this name."""
    with _lock:
        app = _apps.pop(name, None)
    if app is not None:
        app.close()
    return app is not None


def shutdown() -> None:
    """Ends all applications that run here."""
    global _home
    for name in list(_apps):
        delete(name)
    with _lock:
        home, _home = _home, None
    if home is not None:
        home.close()


__all__ = ["delete", "find", "run", "shutdown"]
