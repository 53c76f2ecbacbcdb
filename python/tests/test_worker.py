"""A worker without a node: frames go into its connection, and its answers are checked."""

import asyncio
import json
import pickle
import threading

import pytest

from helve import _encoding as encoding
from helve import _wire as wire
from helve._attach import duration
from helve._errors import TooLargeError
from helve._worker import Worker
from helve.serve.deployment import methods_of

from transport import Transport


class Methods:
    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()
        self.log = []

    async def later(self):
        await asyncio.sleep(3600)

    def sync(self):
        return 1

    def awaitable(self):
        return self.later()

    def waits(self):
        self.begun.set()
        self.go.wait()
        self.log.append("ended")
        return 1

    async def items(self):
        yield 1
        await asyncio.sleep(3600)

    def sync_items(self):
        while True:
            yield 1

    def waiting_items(self):
        try:
            yield 1
            self.begun.set()
            self.go.wait()
            yield 2
        finally:
            self.log.append("closed")

    def stops(self):
        raise StopIteration

    def large(self):
        return b"x" * 2000

    async def large_items(self):
        yield 1
        yield b"x" * 2000

    async def small_items(self):
        for _ in range(10):
            yield b"x" * 400

    async def large_error(self):
        raise ValueError("x" * 2000)

    async def mute(self):
        class Mute(Exception):
            def __str__(self):
                raise ValueError

        raise Mute


class Bench:
    """A worker that hosts Methods."""

    def __init__(self, factory=False):
        self.loop = asyncio.new_event_loop()
        if factory:
            self.loop.set_task_factory(lambda loop, coro, **k: asyncio.Task(coro, loop=loop, **k))
        self.worker, self.transport = Worker(self.loop), Transport()
        self.worker.conn.connection_made(self.transport)
        w = self.worker
        w.target, w.instance, w.replica, w.deployment = Methods, Methods(), "r", "Methods"
        w.methods = methods_of(Methods)
        self.names = [m["name"] for m in w.methods]
        for i, name in enumerate(self.names):
            w.on_route(i + 1, {"replica": "r", "method": name})

    @property
    def instance(self):
        return self.worker.instance

    def call(self, id, method, stream=False, args=()):
        body = pickle.dumps((args, {}))
        tail = wire.entry(b"window", wire.WINDOW.pack(256, 1 << 20)) if stream else b""
        return wire.CALL_PACKED.pack(
            len(body), 72 + len(tail), wire.CALL, 0, id, self.names.index(method) + 1, encoding.CLOUDPICKLE, 0, 1, 0,
            b"\1" * 16, b"", b"", 7, 0, encoding.CLOUDPICKLE, 0, len(body),
        ) + tail + body

    def feed(self, *frames):
        """All in one read, on the loop."""
        data = b"".join(frames)
        self.worker.conn.get_buffer(-1)[: len(data)] = data
        self.loop.call_soon(self.worker.conn.buffer_updated, len(data))
        self.turn(1)

    def ends(self):
        return [f for f in self.transport.frames() if f[0] == wire.END]

    async def until(self, what):
        while not what():
            await asyncio.sleep(0.001)  # threads have no other way to tell this loop

    def run(self, what):
        self.loop.run_until_complete(asyncio.wait_for(self.until(what), 60))

    def turn(self, times=5):
        for _ in range(times):
            self.loop.run_until_complete(asyncio.sleep(0))


def cancel(id):
    return wire.HEADER.pack(0, 0, wire.CANCEL, 0, id)


def reason(end):
    assert end[1] == wire.FLAG_ERROR
    return encoding.parse_envelope(end[4])["reason"]


@pytest.fixture
def bench(request, monkeypatch):
    how = getattr(request, "param", "")
    if "pool" in how:
        monkeypatch.setenv("RAY_SERVE_RUN_SYNC_IN_THREADPOOL", "1")
    b = Bench(factory="factory" in how)
    yield b
    if b.worker.pool is not None:
        b.instance.go.set()
    for task in asyncio.all_tasks(b.loop):
        task.cancel()
    b.turn()
    b.loop.close()


@pytest.mark.parametrize("bench", ["", "factory", "pool", "pool factory"], indirect=True)
@pytest.mark.parametrize("method, stream", [
    ("later", False), ("sync", False), ("awaitable", False), ("waits", False), ("items", True), ("sync_items", True),
    ("waiting_items", True), ("later", True),
])
def test_a_call_and_its_cancel_in_one_read_end_once(bench, method, stream):
    bench.instance.go.set()
    bench.feed(bench.call(1, method, stream), cancel(1))
    bench.run(bench.ends)
    bench.turn()
    assert [e[2] for e in bench.ends()] == [1]
    assert not bench.worker.running and not bench.worker.flows
    bench.feed(bench.call(2, "sync"))  # and the worker goes on
    bench.run(lambda: len(bench.ends()) == 2)
    assert pickle.loads(bench.ends()[1][4]) == 1


@pytest.mark.parametrize("bench", ["pool", "pool factory"], indirect=True)
def test_a_thread_has_its_slot_until_it_is_done(bench):
    bench.feed(bench.call(1, "waits"))
    bench.run(bench.instance.begun.is_set)
    bench.feed(cancel(1))
    bench.turn()
    bench.feed(cancel(1))
    bench.turn()
    assert not bench.ends(), "the method still runs, and its slot was given back"
    bench.instance.go.set()
    bench.run(bench.ends)
    assert bench.instance.log == ["ended"] and reason(bench.ends()[0]) == "cancelled"


@pytest.mark.parametrize("bench", ["pool"], indirect=True)
def test_a_generator_in_a_thread_is_closed_when_its_step_is_done(bench):
    bench.feed(bench.call(1, "waiting_items", True))
    bench.run(bench.instance.begun.is_set)
    bench.feed(cancel(1))
    bench.turn()
    assert not bench.ends() and not bench.instance.log
    bench.instance.go.set()
    bench.run(bench.ends)
    assert bench.instance.log == ["closed"] and reason(bench.ends()[0]) == "cancelled"


@pytest.mark.parametrize("bench", ["", "pool"], indirect=True)
@pytest.mark.parametrize("method", ["stops", "mute"])
def test_odd_exceptions_are_answered(bench, method):
    bench.feed(bench.call(1, method))
    bench.run(bench.ends)
    assert reason(bench.ends()[0]) == "user"


# ---- limits

@pytest.mark.parametrize("method, stream", [("large", False), ("large_items", True), ("large_error", False)])
def test_what_the_other_side_does_not_take_fails_alone(bench, method, stream):
    bench.worker.conn.max_body = 1000
    bench.feed(bench.call(1, method, stream), bench.call(2, "sync"))
    bench.run(lambda: len(bench.ends()) == 2)
    ends = {e[2]: e for e in bench.ends()}
    assert reason(ends[1]) == "too_large"
    text = encoding.parse_envelope(ends[1][4])["message"]
    assert "1000" in text or "995" in text, text
    assert any(n > "1000" for n in text.split() if n.isdigit()), text
    assert pickle.loads(ends[2][4]) == 1 and not bench.transport.closed
    assert all(len(f[4]) <= 1000 for f in bench.transport.frames())


def test_items_of_one_frame_are_within_the_limit(bench):
    bench.worker.conn.max_body = 1000
    bench.feed(bench.call(1, "small_items", True))
    bench.run(bench.ends)
    frames = [f for f in bench.transport.frames() if f[0] == wire.ITEMS]
    assert all(len(f[4]) <= 1000 for f in frames) and not bench.ends()[0][1]
    assert sum(len(f[4]) for f in frames) > 10 * 400


@pytest.mark.parametrize("bench", [""], indirect=True)
def test_a_large_reply_to_the_node(bench):
    bench.worker.conn.max_body = 500
    bench.worker.on_control(1, {"op": "x" * 2000})
    bench.run(lambda: bench.transport.data)
    [(kind, _, _, _, body)] = bench.transport.frames()
    assert kind == wire.REPLY and len(body) <= 500 and json.loads(body)["error"]["reason"] == "too_large"


class Server:
    def on_lost(self, error):
        pass


class Options:
    def __init__(self, python=True, codec=encoding.CLOUDPICKLE, model="", session=""):
        self.python, self.request_codec, self.response_codec = python, codec, encoding.CLOUDPICKLE
        self.model, self.session, self.by_reference, self.plain = model, session, None, False


@pytest.mark.parametrize("options, args, kwargs, says", [
    (Options(model="m" * 70_000), (), {}, ["the model id", "70000", "65535"]),
    (Options(session="s" * 70_000), (), {}, ["the session id", "70000", "65535"]),
    (Options(model="m" * 40_000, session="s" * 40_000), (), {}, ["80", "65535"]),
    (Options(False, encoding.MSGPACK), (1,) * 70_000, {}, ["70000 arguments", "65535"]),
    (Options(False, encoding.MSGPACK), (1,) * 10_000, {}, ["65535", "arguments"]),
    (Options(False, encoding.MSGPACK), (), {"k" * 70_000: 1}, ["the name of an argument", "70000", "65535"]),
    (Options(False, encoding.MSGPACK), (b"x" * 2_000_000,), {}, ["the arguments", "20000", "1000000"]),
    (Options(False, encoding.RAW), (b"x" * 2_000_000,), {}, ["the arguments", "2000000", "1000000"]),
    (Options(), (b"x" * 2_000_000,), {}, ["the arguments", "20000", "1000000"]),
    (Options(False, encoding.MSGPACK), (), {"\ud800": 1}, ["surrogates"]),
])
def test_what_does_not_fit_into_a_call_ends_it(bench, options, args, kwargs, says):
    conn, transport = wire.Connection(bench.loop, Server()), Transport()
    conn.connection_made(transport)
    conn.max_body = 1_000_000
    call = wire.Call(conn, wire.new_request())
    conn.start(call, ("a", "d", ""), None, options, args, kwargs)
    assert call.done and not conn.pending
    assert all(s in str(call.error) for s in says), str(call.error)
    good = wire.Call(conn, wire.new_request())
    conn.start(good, ("a", "d", ""), None, Options(), (1,), {})
    assert conn.pending == {good.id: good} and not good.done
    bench.turn()
    assert [f[0] for f in transport.frames()] == [wire.ROUTE, wire.CALL] and not transport.closed
    conn.connection_lost(None)


def test_a_control_request_that_does_not_fit(bench):
    conn, transport = wire.Connection(bench.loop, Server()), Transport()
    conn.connection_made(transport)
    conn.max_body = 1000
    with pytest.raises(TooLargeError, match="deploy.* 20.. bytes.* 1000"):
        bench.loop.run_until_complete(conn.control("deploy", app="x" * 2000))
    assert not conn.controls and not transport.data


# ---- a peer that does not keep to the protocol

def frame(kind, meta=b"", body=b"", id=1):
    return wire.HEADER.pack(len(body), len(meta), kind, 0, id) + meta + body


CALL = wire.CALL_META.pack(1, encoding.CLOUDPICKLE, 0, 1, 0, b"", b"", b"", 7)
SLOT = wire.SLOT.pack(0, encoding.CLOUDPICKLE, 0, 0)


@pytest.mark.parametrize("data", [
    frame(wire.CALL, b"short"), frame(wire.CALL, CALL),
    frame(wire.CALL, CALL + wire.SLOT.pack(2, 1, 500, 0) + b"name"), frame(wire.CALL, CALL + SLOT + b"\x05model\xff\xff"),
    frame(wire.CALL, CALL + SLOT + b"\x05model\x00\x01x"), frame(wire.CALL, CALL + SLOT + b"\x06window\x01\x00x"),
    frame(wire.CALL, CALL + SLOT + b"\x05model\x01\x00\xff"), frame(99), frame(wire.CONTROL, b"", b"{"), frame(wire.CREDIT, b"x"),
    wire.HEADER.pack(wire.MAX_BODY + 1, 0, wire.CALL, 0, 1),
])
def test_what_does_not_parse_ends_the_connection_with_its_reason(bench, data):
    bench.loop.set_exception_handler(lambda loop, context: None)
    bench.feed(data, bench.call(2, "sync"))
    kind, _, _, _, body = bench.transport.frames()[-1]
    assert kind == wire.GOAWAY and json.loads(body)["reason"] == "protocol" and json.loads(body)["message"]
    assert bench.transport.closed and not bench.ends()


@pytest.mark.parametrize("data", [
    frame(wire.CALL, CALL + SLOT, b"not a pickle"), frame(wire.CALL, CALL + wire.SLOT.pack(1, encoding.MSGPACK, 0, 9), b"\x01"),
    frame(wire.CALL, CALL + wire.SLOT.pack(1, encoding.MSGPACK, 0, 0), b"\x01"), frame(wire.CALL, CALL + wire.SLOT.pack(1, 77, 0, 1), b"\x01"),
    frame(wire.CALL, CALL + wire.SLOT.pack(7, 1, 0, 1), b"\x01"),
])
def test_arguments_that_do_not_parse_fail_their_call(bench, data):
    bench.feed(data, bench.call(2, "sync"))
    assert [reason(e) if e[1] else e[2] for e in bench.ends()] == ["bad_input", 2] and not bench.transport.closed


def test_an_attribute_that_fails_fails_its_call(bench):
    bench.worker.methods.append({"name": "broken"})
    bench.worker.on_route(50, {"replica": "r", "method": "broken"})
    bench.feed(frame(wire.CALL, wire.CALL_META.pack(50, 2, 0, 0, 0, b"", b"", b"", 7)), bench.call(2, "sync"))
    assert [reason(e) if e[1] else e[2] for e in bench.ends()] == ["user", 2]


def test_an_error_that_does_not_parse_is_the_calls(bench):
    conn = wire.Connection(bench.loop, Server())
    conn.connection_made(Transport())
    call = wire.Call(conn, wire.new_request())
    conn.start(call, ("a", "d", ""), None, Options(), (), {})
    data = wire.HEADER.pack(4, 2, wire.END, wire.FLAG_ERROR, call.id) + b"\0\0" + b"\xff\xff\xff\xff"
    conn.get_buffer(-1)[: len(data)] = data
    conn.buffer_updated(len(data))
    assert call.done and "does not parse" in str(call.error)
    conn.connection_lost(None)


# ---- a node that is gone

@pytest.mark.parametrize("text, seconds", [("30s", 30), ("1m0.5s", 60.5), ("0s", 0), ("100ms", 0.1), ("2h1m", 7260)])
def test_durations(text, seconds):
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "1d", "-1s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError):
        duration(text)
