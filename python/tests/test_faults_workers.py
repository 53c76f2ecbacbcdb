"""Workers that are killed, stopped, or busy for long: answers of calls, lost calls, and calls that go on."""

import asyncio
import collections
import os
import signal
import threading

import httpx
import pytest

from faults import Ledger, alive, pids, raised, replicas, until
from ports import free_port
from helve import _driver, serve
from helve.serve.exceptions import RayServeException


@pytest.fixture(scope="module", autouse=True)
def node():
    port = free_port()
    serve.start(http_options={"port": port})
    yield f"http://127.0.0.1:{port}/"
    serve.shutdown()
    _driver._http = None


@pytest.fixture
def run():
    yield lambda app, route_prefix=None: serve.run(app, route_prefix=route_prefix)
    serve.delete("default")


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger")


@serve.deployment(num_replicas=2, max_ongoing_requests=10)
class Writer:
    """Writes every call that it executes into a ledger."""

    def __init__(self, ledger):
        self.ledger, self.forever = ledger, asyncio.Event()

    async def add(self, n):
        self.ledger.write(f"add {n}")
        return n

    async def hold(self):
        self.ledger.write(f"hold {os.getpid()}")
        await self.forever.wait()

    async def items(self):
        yield os.getpid()
        self.ledger.write("streams")
        await self.forever.wait()

    async def __call__(self, request):
        async def parts():
            yield str(os.getpid())
            while True:
                yield "x" * 65536

        from starlette.responses import StreamingResponse

        return StreamingResponse(parts())

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=60)
    async def together(self, numbers):
        self.ledger.write(f"batch {os.getpid()} {len(numbers)}")
        await self.forever.wait()


def held(ledger):
    """The process that executes hold()."""
    return int(until(lambda: [line for line in ledger.lines() if line.startswith("hold")], "a call is executed")[0].split()[1])


def test_killed_in_a_call(run, ledger):
    """The call that ran is lost and says so; all others are executed once, and a new process takes the place of the old one."""
    h = run(Writer.bind(ledger))
    before = until(lambda: len(pids("Writer")) == 2 and pids("Writer"), "two replicas")
    blocked = h.hold.remote()
    pid = held(ledger)
    answers = [h.add.remote(n) for n in range(100)]
    os.kill(pid, signal.SIGKILL)
    answers += [h.add.remote(n) for n in range(100, 200)]
    assert isinstance(raised(lambda: blocked.result(timeout_s=60)), RayServeException)
    acknowledged, lost = [], []
    for n, answer in enumerate(answers):
        try:
            acknowledged.append(answer.result(timeout_s=60))
        except RayServeException:
            lost.append(n)
    written = collections.Counter(line for line in ledger.lines() if line.startswith("add"))
    assert all(written[f"add {n}"] == 1 for n in acknowledged) and max(written.values()) == 1, written
    assert len(lost) <= 10, lost  # no more than the killed process had slots for
    # The status shows the killed process until the node has heard of its end, which may be after its last answers.
    after = until(lambda: (now := pids("Writer") - {pid}) and len(now) == 2 and now, "two replicas again")
    assert before & after
    until(lambda: not alive(pid), "the killed process has ended")


def test_killed_while_idle(run, ledger):
    h = run(Writer.options(num_replicas=1).bind(ledger))
    for round in range(3):
        (pid,) = until(lambda: len(now := pids("Writer")) == 1 and now, "one replica")
        os.kill(pid, signal.SIGKILL)
        until(lambda: (now := pids("Writer")) and pid not in now, "another replica")
        assert h.add.remote(round).result(timeout_s=60) == round
    assert ledger.lines() == [f"add {n}" for n in range(3)]


def test_killed_in_a_stream(run, ledger):
    h = run(Writer.bind(ledger))
    stream = h.options(stream=True).items.remote()
    pid = next(stream)
    until(lambda: ledger.has("streams"), "the stream waits")
    os.kill(pid, signal.SIGKILL)
    assert isinstance(raised(lambda: next(stream)), RayServeException)
    assert h.add.remote(1).result(timeout_s=60) == 1


def test_killed_in_a_batch(run, ledger):
    """Every member of the batch learns of it."""
    h = run(Writer.options(num_replicas=1).bind(ledger))
    members = [h.together.remote(n) for n in range(4)]
    line = until(lambda: [line for line in ledger.lines() if line.startswith("batch")], "the batch runs")[0]
    assert line.endswith(" 4")
    os.kill(int(line.split()[1]), signal.SIGKILL)
    for member in members:
        assert isinstance(raised(lambda m=member: m.result(timeout_s=60)), RayServeException)
    assert h.add.remote(1).result(timeout_s=60) == 1


def test_killed_while_its_answer_is_passed_on(node, run, ledger):
    """The client sees that the answer is not complete, and the next request is served."""
    run(Writer.bind(ledger), route_prefix="/")
    with httpx.stream("GET", node, timeout=60) as answer:
        parts = answer.iter_text()
        first = next(parts)
        os.kill(int(first.partition("x")[0]), signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in parts:
                pass
    with httpx.stream("GET", node, timeout=60) as answer:
        assert answer.status_code == 200 and next(answer.iter_text())


@serve.deployment(max_constructor_retry_count=1)
class Waits:
    """Its first constructor and its third do not end."""

    def __init__(self, ledger):
        ledger.write(os.getpid())
        if len(ledger.lines()) % 2:
            threading.Event().wait()

    def pid(self):
        return os.getpid()


def test_killed_in_the_constructor(run, ledger):
    """A deploy with one attempt fails and says why; the replica of an application that runs has one more process."""

    def kill(n):
        os.kill(int(until(lambda: ledger.lines()[n - 1 : n], "a constructor runs")[0]), signal.SIGKILL)

    t = threading.Thread(target=kill, args=(1,))
    t.start()
    with pytest.raises(RuntimeError, match="SIGKILL"):
        run(Waits.bind(ledger))
    t.join()
    h = run(Waits.bind(ledger))
    os.kill(h.pid.remote().result(timeout_s=60), signal.SIGKILL)
    kill(3)
    until(lambda: len(ledger.lines()) == 4 and pids("Waits"), "the replica runs again")
    assert str(h.pid.remote().result(timeout_s=60)) == ledger.lines()[3]


@serve.deployment(num_replicas=2, max_ongoing_requests=1, unresponsive_after_s=0.5)
class Stops:
    def __init__(self, ledger):
        self.ledger = ledger

    async def pid(self):
        return os.getpid()

    async def blocks(self, path):
        self.ledger.write(f"hold {os.getpid()}")
        with open(path) as f:  # of a FIFO: the event loop stands until the test writes
            return f.read()


def unresponsive():
    return {r["pid"] for r in replicas("Stops") if r.get("unresponsive")}


def test_a_stopped_worker(run, ledger):
    """A worker that hangs is reported; the other replica serves, and the call that was sent to the first one is answered when it goes on."""
    h = run(Stops.bind(ledger))
    stopped, other = sorted(until(lambda: len(pids("Stops")) == 2 and pids("Stops"), "two replicas"))
    os.kill(stopped, signal.SIGSTOP)
    try:
        calls = [h.pid.remote() for _ in range(50)]
        until(lambda: unresponsive() == {stopped}, "the stopped worker is reported")
        until(lambda: sum(c._call.done for c in calls) >= 49, "the other replica serves")
        assert {c.result() for c in calls if c._call.done} == {other}
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert {c.result(timeout_s=60) for c in calls} <= {stopped, other}
    until(lambda: not unresponsive(), "the worker answers again")
    assert pids("Stops") == {stopped, other}


def test_a_method_that_blocks_its_loop(run, ledger, tmp_path):
    h = run(Stops.bind(ledger))
    path = tmp_path / "fifo"
    os.mkfifo(path)
    blocked = h.blocks.remote(str(path))
    pid = held(ledger)
    until(lambda: unresponsive() == {pid}, "the worker is reported")
    assert {h.pid.remote().result(timeout_s=60) for _ in range(20)} == pids("Stops") - {pid}
    path.write_text("go on")
    assert blocked.result(timeout_s=60) == "go on"
    until(lambda: not unresponsive(), "the worker answers again")
