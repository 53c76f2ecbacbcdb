"""Applications over a real node, as a program sees them."""

import asyncio
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from helve import _driver, serve
from helve.serve.exceptions import DeploymentUnavailableError, RayServeException, RequestCancelledError
from helve.serve.handle import DeploymentHandle
from programs import SLOW

ROOT = Path(__file__).resolve().parents[2]


class Quota(Exception):
    def __init__(self, limit, used):
        super().__init__(f"{used} of {limit}")
        self.limit, self.used = limit, used

    def __reduce__(self):
        return Quota, (self.limit, self.used)


@serve.deployment(max_ongoing_requests=20)
class Down:
    def __init__(self):
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()

    def say_hi(self, message: str):
        return f"Hello {message}!"

    async def echo(self, *args, **kwargs):
        return args, kwargs

    async def fail(self):
        raise Quota(10, 11)

    async def block(self):
        self.started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def await_started(self):
        await self.started.wait()

    async def await_cancelled(self):
        await self.cancelled.wait()

    async def pid(self):
        return os.getpid()


@serve.deployment(
    runtime_env={"env_vars": {"SUPERVISED": "yes"}, "working_dir": "/"}, limits={"open_files": 99}, max_unresponsive_s=60,
)
class Supervised:
    def __call__(self):
        import resource

        return os.environ["SUPERVISED"], os.getcwd(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@serve.deployment(num_replicas=3, request_router={"policy": "round_robin"}, request_routing_stats_period_s=1)
class Turns:
    def __call__(self):
        return os.getpid()


@serve.deployment
class Front:
    def __init__(self, down: DeploymentHandle, nested):
        self.down, self.nested = down, nested

    async def __call__(self, name: str) -> str:
        return await self.down.say_hi.remote(name)

    async def chain(self, name):
        hi = self.down.say_hi.remote(name)
        return await self.down.echo.remote(hi, again=hi)

    async def chain_fails(self):
        await self.down.echo.remote(self.down.fail.remote())

    async def fails(self):
        await self.down.fail.remote()

    async def both(self, name):
        return await asyncio.gather(*(h.say_hi.remote(name) for h in (self.down, self.nested["same"][0])))

    async def gives_up(self):
        response = self.down.block.remote()
        await self.down.await_started.remote()
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(as_coroutine(response))), 0.01)
        except asyncio.TimeoutError:
            pass
        response.cancel()
        try:
            await response
        except RequestCancelledError:
            await self.down.await_cancelled.remote()
            return "cancelled"

    async def cancelled_by_caller(self):
        await self.down.block.remote()

    def context(self):
        c = serve.get_replica_context()
        return c.app_name, c.deployment, c.replica_tag.split("#")[0]

    async def by_name(self):
        return await serve.get_deployment_handle("Down").say_hi.remote("name")

    async def blocking(self):
        return self.down.say_hi.remote("x").result()

    def _hidden(self):
        return 1


async def as_coroutine(response):
    return await response


@pytest.fixture(scope="module")
def front():
    serve.start(http_options={"port": 0})
    down = Down.bind()
    handle = serve.run(Front.bind(down, {"same": [down]}))
    yield handle
    serve.shutdown()


def test_result_is_repeatable(front):
    r = front.remote("world")
    assert r.result() == "Hello world!"
    assert r.result(timeout_s=1) == "Hello world!"
    assert len(r.request_id) == 36


def test_attribute_and_options_are_the_same(front):
    assert front.options(method_name="chain").remote("a").result() == front.chain.remote("a").result() == (("Hello a!",), {"again": "Hello a!"})


@pytest.mark.parametrize("value", [None, 1, "x", b"\0\xff", [1, {"a": (2, 3)}], {1, 2}, 3 + 4j, "long" * 100_000, b"b" * 3_000_000])
def test_values(front, value):
    down = serve.get_deployment_handle("Down", "default")
    assert down.echo.remote(value, key=value).result() == ((value,), {"key": value})


def test_classes_of_main_travel_by_value():
    done = subprocess.run([sys.executable, str(ROOT / "examples" / "python" / "hello.py")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Hello world!"


def test_user_exception_is_itself(front):
    for method in ("fails", "chain_fails"):
        with pytest.raises(Quota) as e:
            getattr(front, method).remote().result()
        assert (e.value.limit, e.value.used) == (10, 11)
        assert "raise Quota(10, 11)" in str(e.value.__cause__)


def test_missing_method_lists_those_there_are(front):
    with pytest.raises(RayServeException, match=r"call a method 'nope' that does not exist. Available methods: .*'chain'"):
        front.nope.remote().result()


def test_methods_that_no_list_has_can_be_called(front):
    assert front.options(method_name="_hidden").remote().result() == front._hidden.remote().result() == 1
    with pytest.raises(RayServeException, match="call a method '_nope' that does not exist"):
        front._nope.remote().result()
    with pytest.raises(RayServeException, match="call a method '__init__' that does not exist"):
        front.options(method_name="__init__").remote().result()


def test_wrong_arguments(front):
    with pytest.raises(TypeError, match="positional argument"):
        front.chain.remote().result()


def test_missing_deployment(front):
    with pytest.raises(KeyError, match="Nobody"):
        serve.get_deployment_handle("Nobody", "default")
    with pytest.raises(DeploymentUnavailableError, match="Nobody"):
        serve.get_deployment_handle("Nobody", "default", _check_exists=False).remote().result()


def test_bound_once_is_one_deployment(front):
    assert front.both.remote("x").result() == ["Hello x!", "Hello x!"]
    assert set(serve.status().applications["default"].deployments) == {"Front", "Down"}


def test_cancel_reaches_the_method(front):
    assert front.gives_up.remote().result(timeout_s=30) == "cancelled"


def test_cancelling_a_parent_cancels_its_children(front):
    r = front.cancelled_by_caller.remote()
    serve.get_deployment_handle("Down", "default").await_started.remote().result(timeout_s=30)
    r.cancel()
    with pytest.raises(RequestCancelledError):
        r.result()
    assert r.cancelled()
    serve.get_deployment_handle("Down", "default").await_cancelled.remote().result(timeout_s=30)


def test_timeout_leaves_the_request_running(front):
    down = serve.get_deployment_handle("Down", "default")
    r = down.block.remote()
    with pytest.raises(TimeoutError):
        r.result(timeout_s=0.01)
    assert not r.cancelled()
    r.cancel()
    with pytest.raises(RequestCancelledError):
        r.result()


def test_result_on_an_event_loop_is_an_error(front):
    with pytest.raises(RuntimeError, match="await response"):
        front.blocking.remote().result()

    async def main():
        front.remote("x").result()

    with pytest.raises(RuntimeError, match="await response"):
        asyncio.run(main())


def test_await_from_any_loop_and_thread(front):
    async def main():
        r = front.remote("loop")
        return [await r, await r, *(await asyncio.gather(*(as_coroutine(front.remote(str(i))) for i in range(20))))]

    results = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(main()))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    expect = ["Hello loop!", "Hello loop!"] + [f"Hello {i}!" for i in range(20)]
    assert results == [expect] * 3


def test_context(front):
    assert front.context.remote().result() == ("default", "Front", "Front")
    assert front.by_name.remote().result() == "Hello name!"


def test_options_of_the_process(front):
    h = serve.run(Supervised.bind(), name="supervised", route_prefix=None)
    try:
        assert h.remote().result() == ("yes", "/", 99)
    finally:
        serve.delete("supervised")
    with pytest.raises(ValueError, match="open_files: must be 0"):
        serve.run(Supervised.options(limits={"open_files": 1}).bind(), name="supervised", route_prefix=None)


def test_request_router(front):
    """Round robin looks at no session; every other policy sends one session to one replica."""
    h = serve.run(Turns.bind(), name="turns", route_prefix=None).options(session_id="a")
    try:
        assert len({h.remote().result() for _ in range(9)}) == 3
    finally:
        serve.delete("turns")


def test_http(front):
    from helve import _driver

    url = _driver.running().control("http", host="127.0.0.1", port=0)["url"]
    for data in (b"world", b'"world"'):
        assert urllib.request.urlopen(urllib.request.Request(url, data=data, method="POST")).read() == b"Hello world!"
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(url)
    assert e.value.code == 405


def test_several_applications_and_delete(front, caplog):
    h = serve.run(Down.options(name="Only").bind(), name="second", route_prefix=None)
    assert h.say_hi.remote("two").result() == "Hello two!"
    with pytest.raises(RayServeException, match="Prefix / is being used by application \"default\""):
        serve.run(Down.bind(), name="third")
    serve.delete("second")
    with pytest.raises(DeploymentUnavailableError):
        h.say_hi.remote("gone").result()
    serve.delete("second")
    assert "no application 'second' runs here" in caplog.text


def test_constructor_that_raises(front):
    @serve.deployment
    class Bad:
        def __init__(self):
            raise ValueError("no weights")

        def __call__(self) -> str:
            return ""

    with pytest.raises(RuntimeError, match="no weights") as e:
        serve.run(Bad.bind(), name="bad", route_prefix=None)
    assert "ValueError" in str(e.value) and 'raise ValueError("no weights")' in str(e.value)
    assert serve.status().applications["bad"].status == "DEPLOY_FAILED"
    serve.delete("bad")
    assert "bad" not in serve.status().applications


def test_handles_of_derived_options_pickle(front):
    import pickle

    h = pickle.loads(pickle.dumps(front.options(method_name="chain", multiplexed_model_id="m")))
    assert h.remote("p").result() == (("Hello p!",), {"again": "Hello p!"})
    with pytest.raises(RayServeException, match="top-level argument"):
        pickle.dumps(front.remote("x"))


def test_codecs(front):
    down = serve.get_deployment_handle("Down", "default")
    for codec in ("pickle", "MsgPack", "orjson"):
        h = down.echo.options(request_serialization=codec, response_serialization=codec)
        args, kwargs = h.remote("a", k=1).result()
        assert (list(args), kwargs) == (["a"], {"k": 1})
    with pytest.raises(ValueError, match="request_serialization: 'xml'"):
        down.options(request_serialization="xml")


def test_port_in_use():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        code = f"""
from helve import _driver, serve
@serve.deployment
class A:
    def __call__(self) -> str: return ""
serve.start(http_options={{"port": {port}}})
serve.run(A.bind())
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr and "http_options" in done.stderr


@pytest.mark.parametrize("options, kwargs", [
    ({"multiplexed_model_id": "m" * 70_000}, {}), ({"session_id": "s" * 70_000}, {}),
    ({"request_serialization": "raw"}, {"x": b"x" * 2000}), ({"request_serialization": "cloudpickle"}, {"x": b"x" * 2000}),
])
def test_a_call_that_does_not_fit_fails_and_the_next_one_works(front, monkeypatch, options, kwargs):
    monkeypatch.setattr(_driver.running().conn, "max_body", 1000)
    down = serve.get_deployment_handle("Down", "default")
    with pytest.raises(Exception, match=r"at most \d+"):
        down.options(**options).echo.remote(**kwargs).result(timeout_s=10)
    assert down.say_hi.remote("x").result(timeout_s=10) == "Hello x!"


def test_an_application_that_does_not_fit(front, monkeypatch):
    monkeypatch.setattr(_driver.running().conn, "max_body", 1000)
    with pytest.raises(RayServeException, match="application 'large'.* at most 1000"):
        serve.run(Down.bind(b"x" * 2000), name="large", route_prefix=None)
    assert front.remote("x").result(timeout_s=10) == "Hello x!"


@serve.deployment
def scale(x, by=2):
    return x * by


@serve.deployment
async def later(x):
    return x + 1


@serve.deployment
def below(n):
    yield from range(n)


@pytest.mark.parametrize("target, args, kwargs, want", [
    (scale, (4,), {}, 8), (scale, (4,), {"by": 3}, 12), (later, (4,), {}, 5), (below, (4,), {}, [0, 1, 2, 3]),
])
def test_functions_are_deployments(front, target, args, kwargs, want):
    name = target.name + "-" + str(len(kwargs))
    handle = serve.run(target.bind(), name=name, route_prefix=None)
    try:
        if isinstance(want, list):
            assert list(handle.options(stream=True).remote(*args, **kwargs)) == want
        else:
            assert handle.remote(*args, **kwargs).result(timeout_s=10) == want
    finally:
        serve.delete(name)


@pytest.mark.parametrize("inside", [lambda r: [r], lambda r: {"a": (r,)}, lambda r: {1: [[r]]}])
def test_a_response_inside_of_another_object_is_refused(front, inside):
    handle = serve.run(scale.bind(), name="refuses", route_prefix=None)
    try:
        with pytest.raises(RayServeException, match="`DeploymentResponse` is not serializable: pass it as a top-level argument"):
            handle.remote(inside(handle.remote(1))).result(timeout_s=10)
        assert handle.remote(handle.remote(1)).result(timeout_s=10) == 4
    finally:
        serve.delete("refuses")


@serve.deployment
class Held:
    def __init__(self):
        self.event = asyncio.Event()

    async def __call__(self, x):
        await self.event.wait()
        return x

    async def release(self):
        self.event.set()


def test_a_name_is_free_again_when_the_former_has_drained(front):
    """serve.run waits for the end of a delete of its name, and a handle from before finds what has the name then."""
    before = serve.run(Held.bind(), name="again", route_prefix=None)
    slow = before.remote(3)
    deleting = threading.Thread(target=serve.delete, args=("again",))
    deleting.start()
    while serve.status().applications["again"].status != "DELETING":
        pass
    started = []
    starting = threading.Thread(target=lambda: started.append(serve.run(later.options(name="Held").bind(), name="again", route_prefix=None)))
    starting.start()
    before.release.remote().result(timeout_s=10)
    assert slow.result(timeout_s=10) == 3
    deleting.join(30)
    starting.join(30)
    try:
        assert started[0].remote(1).result(timeout_s=10) == before.remote(1).result(timeout_s=10) == 2
    finally:
        serve.delete("again")


def test_attributes_that_handles_of_the_reference_have_are_no_methods(front):
    assert front.deployment_id.name == "Front" and front.deployment_id.app_name == "default"
    assert str(front.deployment_id) == "Deployment(name='Front', app='default')"
    assert front.shutdown() is None and asyncio.run(front.shutdown_async()) is None
    assert front.remote("x").result(timeout_s=10) == "Hello x!"
    with pytest.raises(RayServeException, match="call a method 'shutdown' that does not exist"):  # a class may have a method of this name all the same
        front.options(method_name="shutdown").remote().result(timeout_s=10)


def test_what_cannot_be_pickled_is_named_with_its_deployment(front):
    with pytest.raises(TypeError, match="application 'lock' cannot be pickled: deployment 'Down' argument .*: cannot pickle '_thread.lock' object"):
        serve.run(Front.bind(Down.bind(threading.Lock()), 1), name="lock", route_prefix=None)


@pytest.mark.parametrize("wait", ["serve.run(Hangs.bind(), name='hangs', route_prefix=None)", "serve.run(Hangs.bind(), route_prefix=None).block.remote().result()"])
def test_a_ctrl_c_is_the_programs_alone(wait, tmp_path):
    """Beside the user's KeyboardInterrupt nothing is said, and the node ends."""
    import signal

    pipe = tmp_path / "begun"
    os.mkfifo(pipe)
    code = f"""
import asyncio, time
from helve import _driver, serve

@serve.deployment
class Hangs:
    def __init__(self):
        if {"hangs" in wait}:
            open({str(pipe)!r}, "w").close()
            time.sleep(3600)
    async def block(self):
        open({str(pipe)!r}, "w").close()
        await asyncio.sleep(3600)

serve.start(http_options={{"port": None}})
print(_driver._driver.process.pid, flush=True)
{wait}
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        open(pipe).close()  # opened by the method, or the constructor
        program.send_signal(signal.SIGINT)
        said = program.communicate(timeout=60)[1]
    lines = [line for line in said.splitlines() if not line.startswith(SLOW)]
    assert program.returncode == -signal.SIGINT, said
    assert lines[0].startswith("Traceback") and lines[-1].endswith("KeyboardInterrupt") and said.count("Traceback") == 1, said


def test_modules_are_not_taken_from_the_current_directory(tmp_path):
    """A program in one directory is started in another, which has files that are called as modules of the library are. What its driver
    does not import from there its replicas do not either; a working_dir comes after the library."""
    app, shared, work = tmp_path / "app", tmp_path / "shared", tmp_path / "work"
    for directory in (app, shared, work):
        directory.mkdir()
    for directory in (shared, work):
        for name in ("hmac", "json", "asyncio", "helve"):
            (directory / f"{name}.py").write_text("raise SystemExit('a module of the current directory')")
    (work / "extra.py").write_text("name = 'extra of the working_dir'")
    (shared / "extra.py").write_text("name = 'extra of the current directory'")
    (app / "mine.py").write_text("name = 'mine'")
    (app / "main.py").write_text(f"""
from helve import serve

@serve.deployment
class Replica:
    def __call__(self):
        import asyncio, hmac, json
        from mine import name
        try:
            import extra
        except ImportError:
            return name, None
        return name, extra.name

serve.start(http_options={{"port": None}})
print(serve.run(Replica.bind(), route_prefix=None).remote().result())
working = Replica.options(runtime_env={{"working_dir": {str(work)!r}}})
print(serve.run(working.bind(), name="working", route_prefix=None).remote().result())
""")
    done = subprocess.run([sys.executable, str(app / "main.py")], cwd=shared, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["('mine', None)", "('mine', 'extra of the working_dir')"]
