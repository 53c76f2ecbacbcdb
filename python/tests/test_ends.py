"""The behaviour of a worker when user code ends it, or fails while it describes its failure."""

import asyncio
import itertools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from eventually import eventually

from helve import _encoding as encoding
from helve import serve
from helve.serve.exceptions import RayServeException, RequestCancelledError

ROOT = os.path.dirname(__file__)


@pytest.fixture(scope="module", autouse=True)
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


_names = (f"app{i}" for i in itertools.count())


@pytest.fixture
def run():
    """serve.run under a name of its own; its applications are deleted."""
    running = []

    def run(app):
        handle = serve.run(app, name=next(_names), route_prefix=None)
        running.append(handle.app_name)
        return handle

    yield run
    for name in running:
        serve.delete(name)


def raising(what):
    def method(self, *args):
        raise what

    return method


class Reducing:
    """Raises when it is pickled, or when it is unpickled."""

    def __init__(self, at_once):
        self.at_once = at_once

    def __reduce__(self):
        if self.at_once:
            raise SystemExit(3)
        return sys.exit, (3,)


@serve.deployment(max_ongoing_requests=20)
class Leaver:
    """Ends its process in many ways, and would hold the end up in three."""

    def __init__(self):
        import atexit

        forever = threading.Event()
        threading.Thread(target=forever.wait).start()
        ThreadPoolExecutor().submit(forever.wait)
        atexit.register(forever.wait)
        self.sick = False

    async def pid(self):
        return os.getpid()

    def sync(self):
        sys.exit(3)

    async def text(self):
        sys.exit("no configuration")

    async def interrupted(self):
        raise KeyboardInterrupt

    async def later(self):
        await asyncio.sleep(0)
        raise SystemExit

    async def awaited(self):
        await asyncio.get_running_loop().run_in_executor(None, sys.exit)

    def items(self):
        yield 1
        sys.exit(3)

    async def async_items(self):
        yield 1
        await asyncio.sleep(0)
        sys.exit(3)

    async def task(self):
        async def leave():
            sys.exit(3)

        self.kept = asyncio.ensure_future(leave())

    async def callback(self):
        asyncio.get_running_loop().call_soon(sys.exit, 3)

    async def stop(self):
        asyncio.get_running_loop().stop()

    async def takes(self, value):
        pass

    async def gives(self):
        return Reducing(True)


def list_of(method):
    return lambda handle: list(handle.options(stream=True, method_name=method).remote())


def result_of(method, *args):
    return lambda handle: handle.options(method_name=method).remote(*args).result(timeout_s=20)


@pytest.mark.parametrize("leave, raises, threads", [
    (result_of("sync"), RayServeException, True), (list_of("items"), RayServeException, True),
    (result_of("sync"), RayServeException, False), (result_of("text"), RayServeException, False), (result_of("interrupted"), RayServeException, False),
    (result_of("later"), RayServeException, False), (result_of("awaited"), RayServeException, False),
    (list_of("items"), RayServeException, False), (list_of("async_items"), RayServeException, False),
    (result_of("task"), None, False), (result_of("callback"), None, False), (result_of("stop"), None, False),
    (result_of("takes", Reducing(False)), TypeError, False), (result_of("gives"), RayServeException, False),
    (lambda handle: handle.broadcast("sync").results(timeout_s=20), RayServeException, False),
], ids=[
    "sync in a thread", "items in a thread", "sync", "text", "interrupted", "later", "awaited", "items", "async_items", "task", "callback", "stop", "takes", "gives", "broadcast",
])
def test_a_worker_that_leaves_gets_nothing_more_and_waits_for_nothing(run, leave, raises, threads):
    threads = {"env_vars": {"RAY_SERVE_RUN_SYNC_IN_THREADPOOL": "1" if threads else ""}}
    handle = run(Leaver.options(runtime_env=threads).bind())
    before = handle.pid.remote().result()
    if raises is None:
        leave(handle)
    else:
        with pytest.raises(raises):
            leave(handle)
    if raises is not None:
        assert handle.pid.remote().result(timeout_s=20) != before
    else:  # the worker leaves after its answer
        await_another(handle, before)


def await_another(handle, before):
    def replaced():
        try:
            return handle.pid.remote().result(timeout_s=20) != before
        except RayServeException:  # a call that the worker had when it left
            return False

    eventually(replaced)


def test_a_constructor_that_leaves_says_why(run):
    @serve.deployment
    class Unconfigured:
        def __init__(self):
            threading.Thread(target=threading.Event().wait).start()
            sys.exit("no configuration")

    with pytest.raises(RuntimeError, match="no configuration"):
        run(Unconfigured.bind())


def test_a_health_check_that_leaves_has_the_replica_replaced(run):
    @serve.deployment(health_check_period_s=0.05)
    class Checked:
        def __init__(self):
            self.sick = False

        async def fall_sick(self):
            self.sick = True
            return os.getpid()

        async def pid(self):
            return os.getpid()

        def check_health(self):
            if self.sick:
                sys.exit(3)

    handle = run(Checked.bind())
    before = handle.fall_sick.remote().result()
    await_another(handle, before)


# ---- exceptions whose own methods fail

class Lying(str):
    def encode(self, *args):
        raise RuntimeError

    def __str__(self):
        raise RuntimeError


def odd_exceptions():
    out = {}
    for name, what in {
        "error": RuntimeError(), "exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "cancel": asyncio.CancelledError(),
        "stop": StopIteration(), "generator": GeneratorExit(),
    }.items():
        for method in ("__str__", "__repr__", "__reduce__", "__getattr__", "__getattribute__", "__setstate__"):
            out[f"{method} {name}"] = type("Odd", (Exception,), {method: raising(what)})("text")
        for attribute in ("__class__", "__cause__", "__context__", "__traceback__", "__notes__", "_helve"):
            out[f"{attribute} {name}"] = type("Odd", (Exception,), {attribute: property(raising(what))})("text")
    out["a number"] = type("Odd", (Exception,), {"__str__": lambda self: 3})()
    out["text of its own"] = type("Odd", (Exception,), {"__str__": lambda self: Lying("text")})()
    out["an argument"] = ValueError(type("Arg", (), {"__repr__": raising(SystemExit(3)), "__str__": raising(SystemExit(3))})())
    out["no unicode"] = ValueError("\udc80")
    out["notes"] = ValueError("text")
    out["notes"].__notes__ = 5
    out["its cause"] = ValueError("text")
    out["its cause"].__cause__ = out["__str__ exit"]
    out["a mark of another"] = ValueError("text")
    out["a mark of another"]._helve = 5

    class Meta(type):
        def __getattribute__(cls, name):
            if name in ("__name__", "__qualname__", "__module__"):
                raise RuntimeError
            return type.__getattribute__(cls, name)

    out["its class"] = Meta("Odd", (Exception,), {})("text")
    return out


@pytest.mark.parametrize("name", odd_exceptions())
def test_an_exception_whose_methods_fail_is_told(name):
    try:
        raise odd_exceptions()[name]
    except BaseException as e:
        told = encoding.parse_envelope(encoding.encode_error(e))
    assert told["type"] in ("Odd", "ValueError")
    assert told["message"] and "test_ends.py" in told["traceback"]


@serve.deployment
class Odd:
    def __init__(self, name=None):
        if name:
            raise odd_exceptions()[name]

    async def call(self, name):
        raise odd_exceptions()[name]

    def items(self, name):
        yield 1
        raise odd_exceptions()[name]

    def reconfigure(self, name):
        if name:
            raise odd_exceptions()[name]


ODD = ["__str__ error", "__reduce__ exit", "__class__ error"]


@pytest.mark.parametrize("name", ODD)
def test_a_start_that_fails_with_such_an_exception_fails(run, name):
    with pytest.raises(RuntimeError, match="Odd.constructor"):
        run(Odd.options(max_constructor_retry_count=1).bind(name))
    with pytest.raises(RuntimeError, match="Odd.reconfigure"):
        run(Odd.options(user_config=name, max_constructor_retry_count=1).bind())


@pytest.mark.parametrize("name", ODD)
def test_a_call_that_fails_with_such_an_exception_fails_alone(run, name):
    handle = run(Odd.bind())
    for fails in (
        lambda: handle.call.remote(name).result(timeout_s=20), lambda: list(handle.options(stream=True).items.remote(name)),
        lambda: handle.broadcast("call", name).results(timeout_s=20), lambda: handle.call.remote(name).result(timeout_s=20),
    ):
        with pytest.raises(Exception):
            fails()


def test_a_traceback_has_the_frames_of_the_user(run):
    @serve.deployment
    class Fails:
        def __init__(self, at_once=False):
            if at_once:
                self.fail()

        def fail(self):
            try:
                raise KeyError("cause")
            except KeyError as e:
                raise ValueError("text") from e

        async def relay(self):
            serve.get_deployment_handle("Fails").options(stream=3, method_name=4)
            raise AssertionError

    def frames(text):
        return [line for line in text.splitlines() if line.startswith("  File ")]

    handle = run(Fails.bind())
    with pytest.raises(ValueError) as e:
        handle.fail.remote().result()
    for text in (str(e.value.__cause__), str(pytest.raises(RuntimeError, run, Fails.bind(True)).value)):
        assert frames(text) and all("test_ends.py" in f for f in frames(text)), text


# ---- cancel

@serve.deployment(max_ongoing_requests=20)
class Inner:
    def __init__(self):
        self.begun, self.cancelled = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def block(self):
        self.begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.release()

    async def items(self):
        yield 1
        await self.block()

    async def await_begun(self):
        await self.begun.acquire()

    async def await_cancelled(self):
        await self.cancelled.acquire()


@serve.deployment(max_ongoing_requests=20)
class Swallows:
    """Catches its cancel, and goes on until it is told to end."""

    def __init__(self, inner):
        self.inner, self.end, self.thread_end = inner, asyncio.Event(), threading.Event()

    async def swallow(self, made):
        try:
            await made
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await self.end.wait()

    async def kept(self):
        response = self.inner.block.remote()
        await self.swallow(asyncio.Event().wait())
        return response

    async def awaited(self):
        await self.swallow(self.inner.block.remote())

    async def gathered(self):
        await self.swallow(asyncio.gather(self.inner.block.remote()))

    async def in_a_task(self):
        async def call():
            await self.inner.block.remote()

        task = asyncio.ensure_future(call())
        await self.swallow(asyncio.Event().wait())
        await task

    async def stream(self):
        items = self.inner.options(stream=True).items.remote()
        await self.swallow(asyncio.Event().wait())
        return items

    async def broadcast(self):
        response = self.inner.broadcast("block")
        await self.swallow(asyncio.Event().wait())
        return response

    async def waits_for_an_argument(self):
        response = self.inner.await_begun.remote(self.inner.block.remote())
        await self.swallow(asyncio.Event().wait())
        return response

    def sync(self):
        try:
            self.inner.block.remote().result()
        except RequestCancelledError:
            self.thread_end.wait()

    async def release(self):
        self.end.set()
        self.thread_end.set()


@pytest.mark.parametrize("method", [
    "kept", "awaited", "gathered", "in_a_task", "stream", "broadcast", "waits_for_an_argument", "sync",
])
def test_a_cancel_reaches_the_children_of_a_method_that_catches_it(run, method):
    inner = Inner.bind()
    handle = run(Swallows.options(runtime_env={"env_vars": {"RAY_SERVE_RUN_SYNC_IN_THREADPOOL": "1"}}).bind(inner))
    inner = serve.get_deployment_handle("Inner", handle.app_name)
    response = handle.options(method_name=method).remote()
    inner.await_begun.remote().result(timeout_s=20)
    response.cancel()
    inner.await_cancelled.remote().result(timeout_s=20)
    handle.release.remote().result(timeout_s=20)


def test_the_threads_of_sync_methods_are_as_many_as_the_calls_that_have_slots(run):
    @serve.deployment(max_ongoing_requests=50, health_check_period_s=0.05, health_check_timeout_s=20)
    class Sync:
        def __init__(self):
            self.all, self.checked = threading.Barrier(50), threading.Event()
            self.busy = False

        def meet(self):
            self.busy = True
            if self.all.wait() == 0:
                self.checked.clear()
                self.checked.wait()
            return serve.get_deployment_handle("Other").leaf.remote().result()

        def check_health(self):
            self.checked.set()

    @serve.deployment(max_ongoing_requests=50)
    class Other:
        def leaf(self):
            return 1

    @serve.deployment
    class Front:
        def __init__(self, *used):
            pass

    threads = {"env_vars": {"RAY_SERVE_RUN_SYNC_IN_THREADPOOL": "1"}}
    front = run(Front.bind(Sync.options(runtime_env=threads).bind(), Other.options(runtime_env=threads).bind()))
    handle = serve.get_deployment_handle("Sync", front.app_name)
    responses = [handle.meet.remote() for _ in range(50)]
    assert [r.result(timeout_s=20) for r in responses] == [1] * 50
