"""Programs whose durable node ends: they find the next one."""

import asyncio
import os
import signal
import threading

import pytest
from durable import Durable
from eventually import eventually
from running import Running

from helve import _driver, _find, serve
from helve.serve.exceptions import ReplicaUnavailableError


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
