"""The short ways of frequent frames (Connection.end_quickly, call_quickly, exchange_quickly and send_quickly) do what the general ways do: the same bytes, cut at the
same places, give the same answers.
"""

import asyncio
import gc
import pickle
import weakref

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from helve import _wire as wire
from helve._encoding import CLOUDPICKLE, MSGPACK, PICKLE, Failure, envelope
from helve._request import Plain
from helve._tasks import make_eager, make_settle
from helve._worker import Worker

from transport import Transport

QUICK = settings(max_examples=80, deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow])


class General(wire.Connection):
    """A connection without the short ways."""

    def end_quickly(self, lo):
        return 0

    call_quickly = end_quickly

    def exchange_quickly(self, lo, length):
        return 0

    def send_quickly(self, *args):
        return False


class Target:
    async def echo(self, *args, **kwargs):
        return args[0] if args and not kwargs else [args, kwargs]

    async def fails(self, *args):
        raise ValueError(repr(args))

    async def waits(self, value):
        await asyncio.sleep(0)
        return value

    def plain(self, value):
        return value

    async def text(self, value):
        return str(value)


class Nasty:
    """An object whose unpickling fails."""

    def __reduce__(self):
        return int, ("x",)


METHODS = ["echo", "fails", "waits", "plain", "text"]


def worker(general: bool):
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    w = Worker(loop)
    if general:
        w.conn = General(loop, w)
    transport = Transport()
    w.conn.connection_made(transport)
    w.target, w.instance, w.replica, w.deployment = Target, Target(), "r", "Target"
    w.methods = [{"name": name} for name in METHODS]
    for i, name in enumerate(METHODS):
        w.on_route(i + 1, {"replica": "r", "method": name})
    return w, transport


def feed(conn, data: bytes, cuts: list) -> None:
    """Delivers data in reads of the sizes that cuts has, again and again."""
    i = 0
    while data:
        buffer = conn.get_buffer(-1)
        n = min(len(data), len(buffer), cuts[i % len(cuts)])
        i += 1
        buffer[:n] = data[:n]
        conn.buffer_updated(n)
        data = data[n:]


values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.binary(max_size=300), st.lists(st.integers(), max_size=3))
arguments = st.one_of(
    st.tuples(st.lists(values, max_size=3).map(tuple), st.just({})).map(pickle.dumps),
    st.tuples(st.lists(values, max_size=2).map(tuple), st.dictionaries(st.sampled_from(["a", "b"]), values)).map(pickle.dumps),
    st.sampled_from([pickle.dumps(((Nasty(),), {})), pickle.dumps(5), pickle.dumps((1, 2, 3)), pickle.dumps(((1,), 2)), b"", b"no pickle"]),
)


@st.composite
def calls(draw):
    """A CALL, most of them of the plain form, and some with one field that the plain form has not."""
    body, number, id = draw(arguments), draw(st.integers(1, 6)), draw(st.integers(1, 1 << 40))
    want = draw(st.sampled_from([CLOUDPICKLE, CLOUDPICKLE, CLOUDPICKLE, PICKLE, MSGPACK, 77]))
    left = draw(st.sampled_from([0, 0, 10**12]))
    kind, codec, slots, flags = 0, CLOUDPICKLE, 1, 0
    size, tail = len(body), b""
    odd = draw(st.sampled_from(["", "", "", "", "kind", "codec", "slots", "flags", "size", "tail", "positional"]))
    if odd == "kind":
        kind = draw(st.sampled_from([1, 2, 3, 4, 0x40, 0x80]))
    elif odd == "codec":
        codec = draw(st.sampled_from([0, 1, PICKLE, 5, 6, 99]))
    elif odd == "slots":
        slots = draw(st.sampled_from([0, 2, 65535]))
    elif odd == "flags":
        flags = draw(st.integers(1, 0x7F))
    elif odd == "size":
        size = draw(st.integers(0, 400))
    elif odd == "tail":
        tail = draw(st.sampled_from([wire.entry(b"rid", b"abc"), wire.entry(b"model", b"m:1"), wire.entry(b"unknown", b"x"), b"\1", b"\xff" * 8]))
    elif odd == "positional":
        kind, codec, body = 1, MSGPACK, b"\x05"
        size = 1
    meta = wire.CALL_META.pack(number, want, 1, slots, left, b"r" * 16, bytes(16), bytes(8), id) + wire.SLOT.pack(kind, codec, 0, size) + tail
    return wire.HEADER.pack(len(body), len(meta), wire.CALL, flags, id) + meta + body


cuts = st.lists(st.integers(1, 400), min_size=1, max_size=5)


def end_tasks(loop) -> None:
    """Ends the requests whose body goes on, or which wait for credit. The last lines of a task that is left would run where the collector finds it later."""
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))


def answers(general: bool, data: bytes, sizes: list) -> tuple:
    w, transport = worker(general)
    try:
        w.loop.call_soon(feed, w.conn, data, sizes)
        for _ in range(6):
            w.loop.run_until_complete(asyncio.sleep(0))
        return transport.data, transport.closed, w.conn.refused, sorted(w.running)
    finally:
        end_tasks(w.loop)
        w.loop.close()


def other(frame: bytes, at: int, by: int) -> bytes:
    """A frame with one byte changed."""
    at %= len(frame)
    return frame[:at] + bytes((by,)) + frame[at + 1 :]


@QUICK
@given(st.lists(calls(), max_size=6), cuts)
def test_calls(frames, sizes):
    data = b"".join(frames)
    assert answers(False, data, sizes) == answers(True, data, sizes)


@QUICK
@given(st.lists(calls(), min_size=1, max_size=3), st.integers(0, 1000), st.integers(0, 255), cuts)
def test_calls_with_a_changed_byte(frames, at, by, sizes):
    data = other(b"".join(frames), at, by)
    # A length that has become larger: the rest of that frame never comes, on both sides.
    assert answers(False, data, sizes) == answers(True, data, sizes)


# ---- HTTP requests


class Page:
    """The way of an answer is chosen by the query."""

    async def __call__(self, request):
        query, body = request.url.query, await request.body()
        if query == "fails":
            raise ValueError("no")
        if query == "waits":
            await asyncio.sleep(0)
        if query == "stream":
            return (c for c in "abc")
        values = {"none": None, "bytes": body, "dict": {"method": request.method}, "large": "x" * 9000, "headers": list(request.headers.items())}
        return values.get(query, request.method + body.decode("latin-1") + request.url.path)

    def plain(self, request):
        return request.method + request.url.query


async def application(scope, receive, send):
    """An ASGI application whose answer has all that it was given."""
    query = scope["query_string"]
    if query == b"fails":
        raise ValueError("no")
    message = await receive()
    body = repr((sorted(scope.items(), key=str), message)).encode()
    if query == b"waits":
        await asyncio.sleep(0)
    headers = [(b"Content-Type", b"text/plain")] + ([(b"content-length", b"%d" % len(body))] if query != b"bytes" else [])
    await send({"type": "http.response.start", "status": 404 if query == b"none" else 200, "headers": headers})
    if query == b"stream":
        for c in b"abc":
            await send({"type": "http.response.body", "body": bytes((c,)), "more_body": True})
    await send({"type": "http.response.body", "body": body if query != b"dict" else body[:-1]})


WINDOW = wire.entry(b"window", wire.WINDOW.pack(256, 1 << 20))


@st.composite
def requests(draw):
    """A request, most of them as a node sends it, and some with one field of another form."""
    method, query = draw(st.sampled_from([b"GET", b"POST", b"HEAD"])), draw(st.sampled_from([b"", b"fails", b"waits", b"stream", b"none", b"bytes", b"dict", b"large", b"headers"]))
    fields = [method, b"http", b"1.1", b"/app/a%20b", query, b"/app", b"127.0.0.1", b"50000", b"127.0.0.1", b"8000", b"host", b"x", b"a", draw(st.binary(max_size=9)).replace(b"\0", b"")]
    body, number, id = draw(st.binary(max_size=40)), draw(st.integers(6, 8)), draw(st.integers(1, 1 << 40))
    flags, left, window, http = 0, draw(st.sampled_from([0, 0, 10**12])), WINDOW, bytes((1, 0))
    odd = draw(st.sampled_from(["", "", "", "", "fields", "kind", "codec", "key", "slots", "flags", "size", "window", "http", "tail", "call"]))
    if odd == "fields":
        fields = fields[: draw(st.integers(1, 13))]
    head = b"\0".join(fields)
    slots = [[1, 5, 0, len(head)]] + ([[1, 5, 1, len(body)]] if body else [])
    if odd in ("kind", "codec", "key"):
        draw(st.sampled_from(slots))[["kind", "codec", "key"].index(odd)] = draw(st.sampled_from([0, 1, 2, 3, 4, 6, 0x41, 0x81]))
    n = len(slots)
    if odd == "slots":
        n = draw(st.sampled_from([0, 1, 2, 3, 65535]))
    elif odd == "flags":
        flags = draw(st.integers(1, 0x7F))
    elif odd == "size":
        draw(st.sampled_from(slots))[3] += draw(st.integers(-30, 30)) & 0xFFFF
    elif odd == "window":
        window = wire.entry(b"window", wire.WINDOW.pack(draw(st.integers(0, 3)), draw(st.integers(0, 100))))
    elif odd == "http":
        http = bytes((draw(st.integers(0, 3)), draw(st.integers(0, 3))))
    tail = window + wire.entry(b"http", http)
    if odd == "tail":
        tail = draw(st.sampled_from([wire.entry(b"rid", b"abc") + tail, wire.entry(b"unknown" * 3, b"xx"), wire.entry(b"http", bytes(19)), b"\xff" * 26, window + b"x" * 9]))
    elif odd == "call":
        number = draw(st.sampled_from([0, 9, 65536]))
    meta = wire.CALL_META.pack(number, 254, 1, n, left, b"r" * 16, bytes(16), bytes(8), id) + b"".join(wire.SLOT.pack(*s) for s in slots) + tail
    return wire.HEADER.pack(len(head) + len(body), len(meta), wire.CALL, flags, id) + meta + head + body




def opener(number: int) -> bytes:
    head = b"\0".join([b"GET", b"http", b"1.1", b"/", b"", b"", b"", b"", b"", b""])
    tail = WINDOW + wire.entry(b"http", bytes((1, 0)))
    meta = wire.CALL_META.pack(number, 254, 1, 1, 0, b"r" * 16, bytes(16), bytes(8), 1 << 41) + wire.SLOT.pack(1, 5, 0, len(head)) + tail
    return wire.HEADER.pack(len(head), len(meta), wire.CALL, 0, 1 << 41) + meta + head


def pages(general: bool, data: bytes, sizes: list, asgi: bool) -> tuple:
    w, transport = worker(general)
    page = Page()
    w.ingress.plains = {"__call__": Plain(w, page), "plain": Plain(w, page.plain)}
    if asgi:
        w.ingress.app = application
    for number, name in ((6, ""), (7, "plain"), (8, "nothing")):
        w.on_route(number, {"replica": "r", "method": name})
    try:
        w.loop.call_soon(feed, w.conn, opener(6) + opener(7), [1 << 20])
        w.loop.call_soon(feed, w.conn, data, sizes)
        for _ in range(8):
            w.loop.run_until_complete(asyncio.sleep(0))
        assert {6, 7} <= set(w.conn.exchanges)
        return transport.data, transport.closed, w.conn.refused, sorted(w.running), sorted(w.flows)
    finally:
        end_tasks(w.loop)
        w.loop.close()


@QUICK
@given(st.lists(requests(), max_size=6), cuts, st.booleans())
def test_requests(frames, sizes, asgi):
    data = b"".join(frames)
    assert pages(False, data, sizes, asgi) == pages(True, data, sizes, asgi)


@QUICK
@given(st.lists(requests(), min_size=1, max_size=3), st.integers(0, 1000), st.integers(0, 255), cuts, st.booleans())
def test_requests_with_a_changed_byte(frames, at, by, sizes, asgi):
    data = other(b"".join(frames), at, by)
    assert pages(False, data, sizes, asgi) == pages(True, data, sizes, asgi)


def test_a_request_takes_the_short_way():
    w, transport = worker(False)
    w.ingress.plains = {"__call__": Plain(w, Page())}
    w.on_route(6, {"replica": "r", "method": ""})
    ends = []
    quickly = w.conn.exchange_quickly
    w.conn.exchange_quickly = lambda lo, length: ends.append(quickly(lo, length)) or ends[-1]
    w.loop.call_soon(feed, w.conn, opener(6) * 3, [1 << 20])
    w.loop.run_until_complete(asyncio.sleep(0))
    w.loop.close()
    assert ends == [0, 2 * len(opener(6)), 3 * len(opener(6))]
    assert transport.data[: len(transport.data) // 3] * 3 == transport.data


def test_a_route_that_changes_closes_the_short_way():
    w, _ = worker(False)
    w.ingress.plains = {"__call__": Plain(w, Page())}
    w.on_route(6, {"replica": "r", "method": ""})
    w.loop.call_soon(feed, w.conn, opener(6), [1 << 20])
    w.loop.run_until_complete(asyncio.sleep(0))
    assert list(w.conn.exchanges) == [6]
    w.on_route(6, {"replica": "another", "method": ""})
    assert not w.conn.exchanges
    w.loop.close()


# ---- answers


class Caller:
    def on_lost(self, error):
        pass


class Options:
    python, request_codec, response_codec, model, session, by_reference, plain = True, CLOUDPICKLE, CLOUDPICKLE, "", "", None, True


def asked(general: bool, n: int, args: list):
    """A connection with n calls under way, the first of which has two readers, and the tasks of all readers."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    conn, transport = (General if general else wire.Connection)(loop, Caller()), Transport()
    conn.connection_made(transport)
    made, tasks = [], []
    info = wire.RequestInfo(b"r" * 16, b"t" * 16, b"s" * 8, 1, 3, None, 77)
    for i in range(n):
        call = wire.Call(conn, b"r" * 16)
        conn.start(call, ("app", "D", "m"), info, Options, *args[i % len(args)])
        made.append(call)

    async def read(call):
        try:
            return await call
        except Exception as e:
            return type(e), str(e)

    for call in made + made[:1]:
        tasks.append(loop.create_task(read(call)))
    loop.run_until_complete(asyncio.sleep(0))
    return loop, conn, transport, made, tasks


@st.composite
def ends(draw):
    id, codec, where, flags, tail = draw(st.integers(1, 4)), CLOUDPICKLE, 0, 0, b""
    body = draw(st.one_of(values.map(pickle.dumps), st.sampled_from([pickle.dumps(Nasty()), b"", b"no pickle"])))
    odd = draw(st.sampled_from(["", "", "", "codec", "where", "error", "flags", "tail"]))
    if odd == "codec":
        codec = draw(st.sampled_from([0, 1, PICKLE, 5, 6, 99]))
    elif odd == "where":
        where = draw(st.integers(1, 255))
    elif odd == "error":
        flags, body = 1, draw(st.sampled_from([envelope({"reason": "user", "message": "no", "type": "E"}), b"\xff"]))
    elif odd == "flags":
        flags = draw(st.integers(1, 255))
    elif odd == "tail":
        tail = draw(st.sampled_from([wire.entry(b"buffers", b""), wire.entry(b"x", b"y"), b"\xff\xff"]))
    meta = bytes((codec, where)) + tail
    return wire.HEADER.pack(len(body), len(meta), wire.END, flags, id) + meta + body


def outcomes(general: bool, data: bytes, sizes: list, args: list) -> tuple:
    loop, conn, transport, made, tasks = asked(general, 4, args)
    try:
        loop.call_soon(feed, conn, data, sizes)
        for _ in range(4):
            loop.run_until_complete(asyncio.sleep(0))
        sent = transport.data
        state = [(c.done, c.value if c.part is None else None, None if c.error is None else str(c.error)) for c in made]
        read = [t.result() if t.done() else "waits" for t in tasks]
        return repr(read), state, sorted(conn.pending), conn.under_way, conn.refused, len(sent)
    finally:
        for t in tasks:
            t.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()


plain = st.tuples(st.lists(values, max_size=3).map(tuple), st.dictionaries(st.sampled_from(["a", "b"]), values))


@QUICK
@given(st.lists(ends(), max_size=6), cuts, st.lists(plain, min_size=1, max_size=4))
def test_answers(frames, sizes, args):
    data = b"".join(frames)
    assert outcomes(False, data, sizes, args) == outcomes(True, data, sizes, args)


@QUICK
@given(st.lists(ends(), min_size=1, max_size=3), st.integers(0, 1000), st.integers(0, 255), cuts)
def test_answers_with_a_changed_byte(frames, at, by, sizes):
    data = other(b"".join(frames), at, by)
    assert outcomes(False, data, sizes, [((1,), {})]) == outcomes(True, data, sizes, [((1,), {})])


# ---- calls out


@QUICK
@given(plain, st.sampled_from([0, 3, 62, 63, 64]), st.sampled_from([None, None, 1e6, -1.0]), st.sampled_from([0, 5, 77, (1 << 40) + 9]), st.sampled_from([False, False, True]))
def test_calls_are_sent_in_the_same_bytes(args, depth, left, frame, text):
    sent = []
    for general in (False, True):
        loop = asyncio.new_event_loop()
        conn, transport = (General if general else wire.Connection)(loop, Caller()), Transport()
        conn.connection_made(transport)
        info = wire.RequestInfo(b"r" * 16, b"t" * 16, b"s" * 8, 1, depth, None if left is None else wire.monotonic() + left, frame)
        if text:
            info.text = "request"
        first = wire.RequestInfo(b"r" * 16, b"t" * 16, b"s" * 8, 1, 0, None, 7)  # its call tells the node the route
        calls = [wire.Call(conn, i.text or i.request) for i in (first, info)]
        for call, i in zip(calls, (first, info)):
            conn.start(call, ("app", "D", "m"), i, Options, *args)
        conn.flush()
        data, frames = transport.data, []
        while data:
            size, meta, kind, flags, id = wire.HEADER.unpack_from(data)
            m, end = bytearray(data[16 : 16 + meta]), 16 + meta + size
            if kind == wire.CALL:
                m[56:64] = bytes(8)  # the id of the call itself, which counts up
                m[8:12] = bytes(4)  # the low half of the time left
            frames.append((kind, flags, id, bytes(m), pickle.loads(data[16 + meta : end]) if kind == wire.CALL else data[16 + meta : end]))
            data = data[end:]
        sent.append((frames, [str(c.error) for c in calls], conn.under_way, sorted(conn.pending)))
        loop.close()
    assert sent[0] == sent[1]


# ---- waiting for an answer


def end(id: int, value) -> bytes:
    body = pickle.dumps(value)
    return wire.END_FRAME.pack(len(body), 2, wire.END, 0, id, CLOUDPICKLE, 0) + body


def test_a_task_is_stepped_inside_the_read_that_brings_its_answer():
    loop, conn, _, made, tasks = asked(False, 2, [((), {})])
    seen = []

    def read():
        feed(conn, end(1, "one"), [1 << 20])
        seen.append([t.done() for t in tasks])

    loop.call_soon(read)
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == [[True, False, True]]
    for t in tasks:
        t.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()


def test_a_call_that_ends_inside_a_task_wakes_others_in_the_next_turn():
    loop, conn, _, made, tasks = asked(False, 1, [((), {})])

    async def main():
        made[0].cancel()
        before = [t.done() for t in tasks]
        await asyncio.sleep(0)
        return before

    assert loop.run_until_complete(main()) == [False, False]
    assert all(t.done() for t in tasks)
    loop.close()


def test_a_reader_that_is_cancelled_leaves_the_call():
    loop, conn, _, made, tasks = asked(False, 1, [((), {})])
    tasks[0].cancel()
    loop.run_until_complete(asyncio.wait(tasks[:1]))
    assert tasks[0].cancelled() and not made[0].done
    loop.call_soon(feed, conn, end(1, "there"), [1 << 20])
    assert loop.run_until_complete(tasks[1]) == "there"
    loop.close()


def test_callbacks_that_others_schedule_meanwhile_are_not_lost():
    """The collector may run the __del__ of a user's class while a future is completed, or a task is made."""
    loop = asyncio.new_event_loop()
    seen = []

    class Late(asyncio.Future):
        def set_result(self, value):
            loop.call_soon(seen.append, "before")
            super().set_result(value)
            loop.call_soon(seen.append, "after")

    def callback():
        future = Late(loop=loop)
        future.add_done_callback(lambda f: seen.append("woken"))
        make_settle(loop)([future], 1, None)
        seen.append("settled")

    loop.call_soon(callback)
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == ["woken", "settled", "before", "after"]
    loop.close()


@pytest.mark.parametrize("here", ["settle", "eager"])
def test_a_call_that_ends_inside_of_the_collector(here):
    """The collector runs while a future is completed or a task is made, and the __del__ of a user's class ends another call: both readers
    get their answers, and the loop is as it was.
    """
    loop = asyncio.new_event_loop()
    settle, eager = make_settle(loop), make_eager(loop)
    seen, inner, ask = [], loop.create_future(), loop.get_debug
    loop.set_exception_handler(lambda loop, context: seen.append(context))

    class Late(asyncio.Future):
        def set_result(self, value):
            settle([inner], "inner", None)
            super().set_result(value)

    async def read(future):
        seen.append(await future)

    async def at_once():
        seen.append("outer")

    def get_debug():  # Task.__init__ asks for it
        if not inner.done():
            settle([inner], "inner", None)
        return ask()

    def callback():
        if here == "settle":
            settle([outer], "outer", None)
        else:
            loop.get_debug = get_debug
            tasks.append(eager(at_once()))
            del loop.get_debug

    outer = Late(loop=loop)
    tasks = [loop.create_task(read(f)) for f in ((inner, outer) if here == "settle" else (inner,))]
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(callback)
    for _ in range(4):
        loop.run_until_complete(asyncio.sleep(0))
    assert sorted(map(str, seen)) == ["inner", "outer"] and all(t.done() for t in tasks)
    assert "call_soon" not in vars(loop)
    loop.close()


def test_what_a_failed_read_leaves_needs_no_collector():
    """The frames that an exception has gone through die with it. With Python 3.12 the frames of the connection were among them, and the future."""

    class Thing:
        pass

    loop, conn, _, made, tasks = asked(False, 1, [((), {})])
    alive = []

    async def read():
        thing = Thing()
        alive.append(weakref.ref(thing))
        try:
            await made[0]
        except ValueError:
            pass

    tasks.append(loop.create_task(read()))
    loop.run_until_complete(asyncio.sleep(0))
    gc.disable()
    try:
        loop.call_soon(made[0].finish, None, Failure(ValueError("no")))
        loop.run_until_complete(asyncio.wait(tasks))
        tasks.clear()
        loop.run_until_complete(asyncio.sleep(0))
        assert alive[0]() is None
    finally:
        gc.enable()
    loop.close()


def test_a_loop_whose_call_soon_is_replaced_keeps_the_replacement():
    loop = asyncio.new_event_loop()
    replaced = loop.call_soon
    loop.call_soon = replaced
    future = loop.create_future()
    make_settle(loop)([future], 1, None)
    assert future.result() == 1 and vars(loop)["call_soon"] is replaced
    loop.close()


def test_an_exception_without_a_reader_is_not_logged():
    loop, conn, _, made, tasks = asked(False, 1, [((), {})])
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(context))
    iterator = made[0].__await__()  # of a coroutine that is dropped
    conn.lost = None
    loop.call_soon(made[0].finish, None, Failure(ValueError("no")))
    loop.run_until_complete(asyncio.wait(tasks))
    del iterator
    assert told == []
    loop.close()
