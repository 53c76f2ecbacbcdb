"""Drivers and nodes that are killed, and clients that are slow or go away."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from faults import Ledger, alive, node_pid, pids, pss, raised, until
from ports import free_port
from helve import _driver, serve
from helve.serve.exceptions import RayServeException

PROGRAM = """
import json, os, sys, threading
from helve import _driver, serve

@serve.deployment(num_replicas=2)
class A:
    def __call__(self, size):
        return bytes(size)

serve.start(http_options={"port": None})
h = serve.run(A.bind(), route_prefix=None)
value = h.remote(8 << 20).result()  # in shared memory
d = _driver._driver
workers = [r["pid"] for r in d.control("status")["applications"]["default"]["deployments"]["A"]["replicas"]]
print(json.dumps({"node": d.process.pid, "workers": workers, "dir": d.dir}), flush=True)
threading.Event().wait()
"""


@pytest.fixture
def program():
    p = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    yield p, json.loads(p.stdout.readline())
    p.kill()
    p.wait()
    p.stdout.close()


def gone(of):
    return not any(alive(pid) for pid in (of["node"], *of["workers"]))


def test_a_killed_driver_leaves_nothing(program):
    """Its node and the workers end, and their files are gone."""
    p, of = program
    shared = set(os.listdir("/dev/shm"))
    assert os.path.isdir(of["dir"]) and len(of["workers"]) == 2
    p.kill()
    until(lambda: gone(of), "node and workers have ended")
    until(lambda: not os.path.exists(of["dir"]), "the directory of the node is gone")
    assert not {name for name in set(os.listdir("/dev/shm")) - shared if "helve" in name}


def test_a_killed_node_takes_its_workers_along(program):
    p, of = program
    os.kill(of["node"], signal.SIGKILL)
    until(lambda: gone(of), "node and workers have ended")
    assert alive(p.pid)


@serve.deployment(max_ongoing_requests=100)
class Streams:
    def __init__(self, ledger):
        self.ledger, self.made = ledger, 0

    async def items(self):
        try:
            while True:
                self.made += 1
                yield bytes(65536)
        finally:
            self.ledger.write("closed")

    async def count(self):
        return self.made

    async def pid(self):
        return os.getpid()

    async def __call__(self, request):
        from starlette.responses import StreamingResponse

        return StreamingResponse(self.items())


@pytest.fixture
def streams(tmp_path):
    port = free_port()
    ledger = Ledger(tmp_path / "ledger")
    serve.start(http_options={"port": port})
    yield serve.run(Streams.bind(ledger)), port, ledger
    serve.shutdown()
    _driver._http = None


def stands(h):
    """The number of items that were made, when no more are made. The replica answers a hundred calls meanwhile: it had time for more items."""

    def same():
        n = h.count.remote().result(timeout_s=60)
        return n if n and all(h.count.remote().result(timeout_s=60) == n for _ in range(100)) else 0

    return until(same, "the producer stops")


MOST = 1000  # items, 64 MB: more than all buffers on the way hold, and much less than an endless producer would make


def memory(h):
    return {pid: pss(pid) for pid in (node_pid(), os.getpid(), *pids("Streams"))}


def bounded(before, after):
    return all(after[pid] - before[pid] < MOST * 65536 for pid in before)


def test_a_slow_consumer(streams):
    """The producer waits for its reader, goes on with it, and ends when the reader leaves."""
    h, _, ledger = streams
    before = memory(h)
    stream = h.options(stream=True).items.remote()
    assert len(next(stream)) == 65536
    made = stands(h)
    assert made < MOST
    for _ in range(2 * made):
        next(stream)
    assert made < stands(h) <= 2 * made + MOST and bounded(before, memory(h))
    stream.cancel()
    until(lambda: ledger.has("closed"), "the producer has ended")


def test_a_slow_http_client(streams):
    """A client that reads nothing stops the producer, and ends it when it goes away."""
    h, port, ledger = streams
    before = memory(h)
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        made = stands(h)
        assert made < MOST and bounded(before, memory(h))
        got = 0
        while got < 2 * made * 65536:
            got += len(s.recv(1 << 20))
        assert stands(h) > made and not ledger.has("closed")
    until(lambda: ledger.has("closed"), "the producer has ended")
    assert h.pid.remote().result(timeout_s=60) in pids("Streams")


def test_a_node_that_is_killed_under_a_stream(streams):
    """The reader has an error that says what happened, and serve.run starts a node anew."""
    h, _, ledger = streams
    stream = h.options(stream=True).items.remote()
    next(stream)
    (worker,) = pids("Streams")
    old = node_pid()
    os.kill(old, signal.SIGKILL)
    error = raised(lambda: [None for _ in stream])
    assert isinstance(error, RayServeException) and "SIGKILL" in str(error)
    h = serve.run(Streams.bind(ledger))
    assert h.pid.remote().result(timeout_s=60) != worker and node_pid() != old
    until(lambda: not alive(worker), "the worker of the old node has ended")
