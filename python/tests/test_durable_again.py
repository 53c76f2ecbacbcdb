"""Programs whose durable node ends: they find the next one."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from durable import ENVIRONMENT, Durable
from eventually import eventually
from running import Running

from helve import _driver, _find, serve
from helve._opening import ask
from helve.serve.exceptions import ReplicaUnavailableError, RequestCancelledError


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    directory = tmp_path_factory.mktemp("durable")
    made = Durable(directory)
    with made.command:
        made.pid()
        yield made


@pytest.fixture
def attached(node, monkeypatch):
    """This process has the environment of a program beside the node, and no node of its own."""
    _driver.shutdown()
    monkeypatch.setenv("HELVE_RUNTIME_DIR", node.runtime)
    yield node
    _driver.shutdown()


@serve.deployment(max_ongoing_requests=10)
class Echo:
    async def __call__(self, x=1):
        return x

    async def items(self, n):
        for i in range(n):
            yield i

    async def block(self, path):
        with open(path, "w"):
            pass
        await asyncio.sleep(3600)


def test_calls_after_the_end_of_the_node(attached, tmp_path):
    """A call that was under way fails, because it has run; one that comes next waits for the next node. The replica goes on."""
    handle = serve.run(Echo.bind(), name="again", route_prefix=None)
    first = _driver.running()
    assert (first.durable, first.dir) == (True, attached.state)
    under_way = handle.block.remote(str(tmp_path / "begun"))
    eventually((tmp_path / "begun").exists)
    os.kill(attached.pid(), signal.SIGKILL)
    with pytest.raises(ReplicaUnavailableError, match="the node has gone away"):
        under_way.result(timeout_s=60)
    assert handle.remote(2).result(timeout_s=60) == 2
    second = _driver.running()
    assert second is not first and second.pid != first.pid and second.dir == attached.state
    assert serve.get_app_handle("again").remote(3).result(timeout_s=60) == 3
    serve.delete("again")
    assert "again" not in serve.status().applications


def test_threads_that_call_while_the_node_is_started_again(attached):
    handle = serve.run(Echo.bind(), name="threads", route_prefix=None)
    os.kill(attached.pid(), signal.SIGKILL)
    eventually(lambda: _driver._driver is None or _driver._driver.conn.lost is not None)
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(handle.remote(i).result(timeout_s=60)), daemon=True) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert sorted(answers) == list(range(8))
    serve.delete("threads")


def test_a_program_that_waits_goes_on_with_the_next_node(node, tmp_path):
    (tmp_path / "app.py").write_text("""
from helve import serve

@serve.deployment
class A:
    def __call__(self) -> str:
        return ""

serve.run(A.bind(), name="waits", route_prefix=None, blocking=True)
""")
    before = node.pid()
    with Running("run", "--node", "app.py", cwd=tmp_path, env=node.environment) as run:
        run.wait("Application 'waits' is ready")
        os.kill(before, signal.SIGKILL)
        assert node.pid() != before
        node.script("print(serve.get_app_handle('waits').remote().result(timeout_s=60))")
        code, text = run.end(signal.SIGTERM)
        assert code == 0 and "The durable node goes on with 'waits'" in text, text
    node.script("serve.delete('waits')")


PLACE = """
import asyncio, os
from helve import serve

@serve.deployment
class Place:
    def where(self):
        return os.environ["HELVE_NODE"]

    async def hold(self, until):
        while not os.path.exists(until):
            await asyncio.sleep(0.01)
        return os.environ["HELVE_NODE"]

handle = serve.run(Place.bind(), name="place", route_prefix=None)
"""


def test_a_node_that_hands_over(attached, tmp_path):
    """It says which node is the next one. A call that is under way ends where it is, the next one goes there, and the connection ends when it is idle."""
    attached.script(PLACE)
    handle, first = serve.get_app_handle("place"), _driver.running()
    until = tmp_path / "until"
    under_way = handle.hold.remote(str(until))
    second = Durable(tmp_path)
    with second.command:
        second.pid()
        second.script(PLACE)
        assert handle.where.remote().result(timeout_s=60) == attached.state
        first.loop.call_soon_threadsafe(first.on_goaway, {"code": "Unavailable", "reason": "handover", "message": "", "node": _find.private(second.state)})
        eventually(lambda: first.left)
        assert handle.where.remote().result(timeout_s=60) == second.state
        assert first.conn.lost is None
        until.touch()
        assert under_way.result(timeout_s=60) == attached.state
        eventually(lambda: first.conn.lost is not None)
        assert handle.where.remote().result(timeout_s=60) == second.state
        _driver.shutdown()
    attached.script("serve.delete('place')")


def test_an_upgrade_loses_no_call(attached):
    """A program calls all the while: each call is answered, by the node of before or by the next one."""
    handle = serve.run(Echo.bind(), name="upgraded", route_prefix=None)
    before, stop, errors = _driver.running().pid, threading.Event(), []

    def call():
        n = 0
        while not stop.is_set():
            n += 1
            try:
                assert handle.remote(n).result(timeout_s=60) == n
            except Exception as e:
                errors.append(e)

    threads = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        done = attached.python("-m", "helve", "upgrade", HELVE_STATE_DIR=attached.state)
        assert done.returncode == 0, done.stderr
        eventually(lambda: _driver.running().pid != before)
    finally:
        stop.set()
        for t in threads:
            t.join(60)
    assert not errors
    assert handle.remote(2).result(timeout_s=60) == 2
    serve.delete("upgraded")


def test_an_event_loop_goes_on_while_the_node_is_started_again(attached):
    """The next node is started by this test, after another task of the loop has run: the calls that wait for it have not held up the loop."""
    handle = serve.run(Echo.bind(), name="loop", route_prefix=None)
    keeper = attached.command.process.pid

    async def call():
        os.kill(keeper, signal.SIGSTOP)  # it starts no node
        os.kill(before, signal.SIGKILL)
        await asyncio.to_thread(eventually, lambda: _driver._driver is None or _driver._driver.conn.lost is not None)
        calls = [handle.remote(i) for i in range(4)]
        calls.append(handle.remote(calls[0]))
        items = handle.options(method_name="items", stream=True).remote(3)
        cancelled = handle.remote(9)
        cancelled.cancel()
        beside = asyncio.create_task(asyncio.to_thread(os.kill, keeper, signal.SIGCONT))
        answers = await asyncio.gather(*calls)
        await beside
        with pytest.raises(RequestCancelledError):
            await cancelled
        assert [item async for item in items] == [0, 1, 2]
        assert await handle.remote("direct") == "direct"
        return answers

    before = attached.pid()
    try:
        assert asyncio.run(call()) == [0, 1, 2, 3, 0]
    finally:
        os.kill(keeper, signal.SIGCONT)
    assert _driver.running().pid != before
    serve.delete("loop")


def test_calls_on_an_event_loop_whose_node_does_not_come_back(tmp_path, monkeypatch):
    """Each of them has the error; the loop goes on meanwhile."""
    _driver.shutdown()
    node = Durable(tmp_path)
    monkeypatch.setenv("HELVE_RUNTIME_DIR", node.runtime)
    monkeypatch.setattr(_driver, "AGAIN", 0.2)
    try:
        with node.command:
            node.pid()
            handle = serve.run(Echo.bind(), name="ends", route_prefix=None)
            first = _driver.running()
        eventually(lambda: first.conn.lost is not None)

        async def call():
            return await asyncio.gather(*(handle.remote(i) for i in range(3)), return_exceptions=True)

        errors = asyncio.run(call())
        assert [type(e) for e in errors] == [ReplicaUnavailableError] * 3, errors
        assert "the node has gone away" in str(errors[0])
    finally:
        _driver.shutdown()


def test_a_deploy_goes_on_when_its_program_is_killed(node, tmp_path):
    """From when the node has taken it: the constructor waits until the program is gone."""
    code = f"""
import os, time
from helve import serve

@serve.deployment
class Slow:
    def __init__(self):
        open({str(tmp_path / "begun")!r}, "w").close()
        while not os.path.exists({str(tmp_path / "go")!r}):
            time.sleep(0.01)

    def __call__(self):
        return "there"

serve.run(Slow.bind(), name="slow", route_prefix=None)
"""
    with subprocess.Popen([sys.executable, "-c", code], env={**ENVIRONMENT, **node.environment}) as program:
        try:
            eventually((tmp_path / "begun").exists)
        finally:
            program.kill()
    (tmp_path / "go").touch()
    assert node.script("print(serve.get_app_handle('slow').remote().result(timeout_s=60))") == "there"
    state = "print(serve.status().applications['slow'].status.value)"
    eventually(lambda: node.script(state) == "RUNNING")
    node.script("serve.delete('slow')")


ACTORS = """
import sys, time
from helve import raycompat
raycompat.install()
import ray

ray.init("auto")

@ray.remote
class Counter:
    def add(self):
        return 1

@ray.remote
def task():
    return 2

Stays = Counter.options(name="stays", lifetime="detached")
actors = [Counter.remote(), Counter.options(name=sys.argv[1]).remote(), *([Stays.remote()] if sys.argv[1] == "first" else [])]
assert ray.get([*[a.add.remote() for a in actors], task.remote()])[-1] == 2
open(sys.argv[2], "w").close()
time.sleep(3600)
"""


def test_actors_and_tasks_end_with_a_program_that_is_killed(node, tmp_path):
    """Tasks of two programs have one process, which ends with the second of them. A detached actor stays."""

    def hidden():
        sock, _, _ = _find.dial(node.state, "ask")
        with sock:
            return [name for name in ask(sock, "status")["applications"] if name.startswith("_hidden.")]

    def numbers():
        return len([name for name in hidden() if "actor" in name]), len([name for name in hidden() if "tasks" in name])

    @contextmanager
    def program(name):
        mark, env = tmp_path / name, {**ENVIRONMENT, **node.environment}
        with subprocess.Popen([sys.executable, "-c", ACTORS, name, str(mark)], env=env) as running:
            try:
                eventually(lambda: mark.exists() or running.poll() is not None)
                assert running.poll() is None
                yield
            finally:
                running.kill()

    with program("second"):
        with program("first"):
            assert numbers() == (5, 1)
        eventually(lambda: numbers() == (3, 1))
    eventually(lambda: numbers() == (1, 0))
    node.script(f"serve.delete({hidden()[0]!r})")
    assert numbers() == (0, 0)
