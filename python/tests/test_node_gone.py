"""A node that goes away under a driver: every wait of the driver ends at once with the reason, and results that were
read stay readable.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from helve import _driver, serve
from helve.serve.exceptions import DataLossError, RayServeException, ReplicaUnavailableError


@serve.deployment(max_ongoing_requests=100)
class Echo:
    async def echo(self, x):
        return x

    async def make(self, n):
        return b"x" * n

    async def items(self, n):
        for i in range(n):
            yield i
        await asyncio.sleep(3600)

    async def block(self):
        await asyncio.sleep(3600)


@pytest.fixture
def echo():
    serve.start(http_options={"port": None})
    yield serve.run(Echo.bind(), route_prefix=None)
    serve.shutdown()


def kill():
    os.kill(_driver._driver.process.pid, signal.SIGKILL)


def stop():
    """Stops the node's answers from now on."""
    os.kill(_driver._driver.process.pid, signal.SIGSTOP)


def ended(fn):
    """The exception of fn, as text."""
    try:
        return f"gave {fn()!r}"
    except Exception as e:
        return f"{type(e).__name__}: {e}"


async def as_coroutine(awaitable):
    return await awaitable


async def last(generator):
    async for item in generator:
        pass


async def chosen(h):
    async with h.echo.choose_replica():
        pass


def choose(h):
    with h.echo.choose_replica():
        pass


WAITS = {
    "run": lambda h: serve.run(Echo.bind(), name="other", route_prefix=None),
    "status": lambda h: serve.status(),
    "delete": lambda h: serve.delete("default"),
    "result": lambda h: h.echo.remote(1).result(),
    "result with a time limit": lambda h: h.echo.remote(1).result(timeout_s=60),
    "result of a composed call": lambda h: h.echo.remote(h.echo.remote(1)).result(),
    "await": lambda h: asyncio.run(as_coroutine(h.echo.remote(1))),
    "gather": lambda h: asyncio.run(as_coroutine(asyncio.wait_for(as_coroutine(h.echo.remote(1)), 60))),
    "iteration": lambda h: list(h.options(stream=True).items.remote(3)),
    "async iteration": lambda h: asyncio.run(last(h.options(stream=True).items.remote(3))),
    "broadcast": lambda h: h.broadcast("echo", 1).results(),
    "broadcast on a loop": lambda h: asyncio.run(h.broadcast("echo", 1).results_async()),
    "broadcast entries": lambda h: h.broadcast("echo", 1).entries(),
    "choose": choose,
    "choose on a loop": lambda h: asyncio.run(chosen(h)),
    "object ref": lambda h: h.echo.remote(1)._to_object_ref_sync().result(),
}


CONTROLS = 3  # run, status and delete are control requests, the others are calls


def test_every_wait_ends_with_what_happened(echo):
    stop()
    waiting, said = threading.Barrier(len(WAITS) + 1), {}

    def work(name, wait):
        waiting.wait()
        said[name] = ended(lambda: wait(echo))

    threads = [threading.Thread(target=work, args=w, daemon=True) for w in WAITS.items()]
    for t in threads:
        t.start()
    blocked = echo.block.remote()
    waiting.wait()
    conn = _driver._driver.conn
    while len(conn.controls) < CONTROLS or len(conn.pending) < len(WAITS) - CONTROLS + 1:  # a deploy after the kill would start a node
        threading.Event().wait(0.001)
    kill()
    for t in threads:
        t.join(120)
    assert sorted(said) == sorted(WAITS)
    assert all("the node has gone away: it was ended by SIGKILL" in text for text in said.values()), said
    assert "SIGKILL" in ended(blocked.result)
    blocked.cancel()


def test_a_deploy_that_waits_for_a_constructor_ends(echo, tmp_path):
    @serve.deployment
    class Slow:
        def __init__(self, path):
            import time

            with open(path, "w"):
                pass
            time.sleep(3600)

    pipe = tmp_path / "begun"
    os.mkfifo(pipe)

    def end():
        open(pipe).close()  # opened by the constructor
        kill()

    t = threading.Thread(target=end, daemon=True)
    t.start()
    with pytest.raises(RayServeException, match="SIGKILL"):
        serve.run(Slow.bind(str(pipe)), name="slow", route_prefix=None)
    t.join(30)


def test_what_came_stays_readable(echo):
    """As often as wanted, from threads and loops, after the node has died and after it was shut down."""
    for end in (kill, serve.shutdown):
        serve.run(Echo.bind(), name="again", route_prefix=None)
        h = serve.get_app_handle("again")
        small, large, unread = h.echo.remote("small"), h.make.remote(1 << 20), h.make.remote(1 << 20)
        items = h.options(stream=True).items.remote(3)
        answers = h.broadcast("echo", 1)
        assert (small.result(), len(large.result()), next(items), answers.results()) == ("small", 1 << 20, 0, [1])
        ref = small._to_object_ref_sync()
        never = h.block.remote()
        while not (unread._call.done and len(items._call.items) == 2):
            h.echo.remote(1).result(timeout_s=20)
        end()
        if end is kill:
            assert "SIGKILL" in ended(lambda: never.result(timeout_s=20))
        for read in (lambda r: r.result(timeout_s=20), lambda r: asyncio.run(as_coroutine(r))):
            assert read(small) == read(ref) == "small" and len(read(large)) == 1 << 20
            with pytest.raises(DataLossError, match="lost with the node"):
                read(unread)
            with pytest.raises(ReplicaUnavailableError):
                read(never)
        assert (next(items), next(items)) == (1, 2)
        with pytest.raises(ReplicaUnavailableError):
            next(items)
        assert answers.results() == asyncio.run(answers.results_async()) == [1]
        for r in (small, never, items, answers):
            r.cancel()
        assert small.result() == "small"


def test_what_is_started_afterwards_says_why_it_cannot(echo):
    kill()
    assert "SIGKILL" in ended(lambda: echo.block.remote().result())
    for fn in (lambda: echo.echo.remote(1), serve.status, lambda: serve.delete("default"), lambda: serve.get_app_handle("default")):
        text = ended(fn)
        assert "SIGKILL" in text and "serve.run(app) starts another" in text and "no application is running" not in text, text
    serve.shutdown()
    assert "no application is running: call serve.run(app) first" in ended(lambda: echo.echo.remote(1))
    assert not serve.status().applications


def test_a_result_from_a_former_node_is_an_argument_still(echo):
    small, large = echo.echo.remote([1, 2]), echo.make.remote(1 << 20)
    assert small.result() == [1, 2] and len(large.result()) == 1 << 20
    kill()
    assert "SIGKILL" in ended(lambda: echo.block.remote().result())
    h = serve.run(Echo.bind(), route_prefix=None)
    assert h.echo.remote(small).result(timeout_s=20) == [1, 2]
    assert len(h.echo.remote(large).result(timeout_s=20)) == 1 << 20


@pytest.mark.parametrize("end", ["kill", "shutdown"])
def test_a_node_that_is_started_anew_has_the_http_options(end, caplog):
    serve.start(http_options={"host": "127.0.0.2", "port": 0})
    try:
        serve.run(Echo.bind(), route_prefix=None)
        kill() if end == "kill" else serve.shutdown()
        while end == "kill" and _driver._driver.conn.lost is None:
            ended(serve.status)
        serve.run(Echo.bind(), route_prefix=None)
        assert (_driver._driver.http.host, _driver._driver.http.port) == ("127.0.0.2", 0)
        serve.start(http_options={"port": None})
        assert "call serve.shutdown() first" in caplog.text and _driver._driver.http.port == 0
        serve.shutdown()
        serve.start(http_options={"port": None})
        assert _driver._driver.http.port is None
    finally:
        serve.shutdown()
        _driver._http = None


def test_a_port_that_is_taken_can_be_changed(monkeypatch):
    """As the error says: HTTP is not on yet, so there is nothing to shut down."""
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        serve.start(http_options={"port": s.getsockname()[1]})
        try:
            with pytest.raises(RuntimeError, match="serve.start"):
                serve.run(Echo.bind(), route_prefix=None)
            serve.start(http_options={"port": None})
            assert serve.run(Echo.bind(), route_prefix=None).echo.remote(1).result(timeout_s=20) == 1
        finally:
            serve.shutdown()
            _driver._http = None


@pytest.mark.parametrize("binary, says", [("/bin/false", "exit status 1"), ("/nowhere/helve", "No such file")])
def test_a_node_that_does_not_start(monkeypatch, binary, says):
    monkeypatch.setenv("HELVE_BINARY", binary)
    with pytest.raises(RayServeException, match=f"the node did not start.*{says}"):
        serve.start(http_options={"port": None})
    monkeypatch.undo()
    serve.start()
    serve.shutdown()
    _driver._http = None


def test_a_program_that_only_waits_ends_with_its_node():
    code = """
import os, signal, threading
from helve import _driver, serve

@serve.deployment
class A:
    def __call__(self) -> str: return ""

ready = threading.Event()

def end():
    while True:
        try:
            if serve.status().applications["default"].status == "RUNNING":
                break
        except Exception:
            pass
    os.kill(_driver._driver.process.pid, signal.SIGKILL)

serve.start(http_options={"port": None})
threading.Thread(target=end, daemon=True).start()
serve.run(A.bind(), route_prefix=None, blocking=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "the node has gone away: it was ended by SIGKILL" in done.stderr, done.stderr


def test_a_frame_that_cannot_be_handled_leaves_no_call_waiting(echo, monkeypatch):
    """The driver ends the connection, and the call of that frame ends with it."""
    def refused(*args):
        raise ValueError("not today")

    monkeypatch.setattr("helve._wire.parse_end", refused)
    text = ended(lambda: echo.make.remote(1 << 20).result(timeout_s=20))
    assert "the node has gone away" in text, text
