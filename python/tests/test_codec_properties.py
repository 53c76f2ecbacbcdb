"""Codecs and parsers with values and bytes that hypothesis makes: values arrive, and garbage is an error of the protocol and never more than that."""

import asyncio
import math
import struct

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fake_node
from helve import _encoding as encoding
from helve import _http as http
from helve import _limits as limits
from helve import _wire as wire
from helve._answer import event
from helve._attach import duration

# The same examples in every run, so that a failure in CI is a failure here; blobs that are printed make one again.
QUICK = settings(max_examples=150, deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow])

words = st.text(st.characters(exclude_categories=["Cs"]))
integers = st.integers(-(2**63), 2**64 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
plain = st.none() | st.booleans() | integers | floats | words


def nested(leaves, keys):
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12)


VALUES = {
    encoding.JSON: nested(plain, words),
    encoding.MSGPACK: nested(plain | st.binary(), words),
    encoding.PICKLE: nested(plain | st.binary() | st.complex_numbers(allow_nan=False) | st.integers(), words | integers),
    encoding.CLOUDPICKLE: nested(plain | st.binary() | st.frozensets(integers) | st.datetimes(), words | integers),
    encoding.PLAIN: nested(plain, words) | st.binary(),
    encoding.RAW: st.binary(),
}


@pytest.mark.parametrize("codec", VALUES, ids=lambda c: encoding.NAMES.get(c, "plain"))
def test_values_arrive(codec):
    @QUICK
    @given(VALUES[codec])
    def check(value):
        written, data = encoding.encode(codec, value)
        back = encoding.decode(written, memoryview(data))
        assert back == value and type(back) is type(value)

    check()


@QUICK
@given(st.lists(integers, max_size=20), st.sampled_from(["int64", "float32", "uint8"]))
def test_arrays_arrive(numbers, kind):
    """Where numpy is installed; an array of the standard library stands for it elsewhere."""
    try:
        import numpy
    except ImportError:
        import array

        value = array.array({"int64": "q", "float32": "f", "uint8": "B"}[kind], [n % 200 for n in numbers])
        same = value.__eq__
    else:
        value = numpy.array([n % 200 for n in numbers], dtype=kind)
        same = lambda back: back.dtype == value.dtype and numpy.array_equal(back, value)  # noqa: E731
    for codec in (encoding.PICKLE, encoding.CLOUDPICKLE):
        written, data = encoding.encode(codec, value)
        assert same(encoding.decode(written, data))


# ---- errors


class Own(Exception):
    """Makes its text in __init__."""

    def __init__(self, used):
        super().__init__(f"{used} used")
        self.used = used


errors = st.one_of(
    st.builds(ValueError, words), st.builds(KeyError, words), st.builds(OSError, st.integers(1, 100), words), st.builds(Own, integers),
    st.builds(ZeroDivisionError),
)


@QUICK
@given(errors, st.none() | errors)
def test_errors_arrive_with_their_causes(error, cause):
    try:
        raise error from cause
    except Exception as e:
        back = encoding.decode_error(encoding.encode_error(e))
    assert type(back) is type(error) and str(back) == str(error)
    if cause is not None:
        assert type(cause).__name__ in str(back.__cause__)
    again = encoding.decode_error(encoding.encode_error(back))
    assert type(again) is type(error) and str(again) == str(error)


@QUICK
@given(st.binary(max_size=200) | st.tuples(errors, st.integers(0, 300), st.binary(max_size=3)))
def test_envelopes_that_are_none(data):
    """Every read of a failed call raises something."""
    if isinstance(data, tuple):
        error, at, by = data
        whole = encoding.envelope({"reason": "user", "type": type(error).__name__, "message": str(error)})
        data = whole[: at % len(whole)] + by
    assert isinstance(encoding.Failure(None, data).exception(), Exception)


# ---- calls


class Options:
    python, request_codec, response_codec, by_reference, plain = True, encoding.CLOUDPICKLE, encoding.CLOUDPICKLE, None, False

    def __init__(self, model="", session=""):
        self.model, self.session = model, session


class Sink:
    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += bytes(data)

    def set_write_buffer_limits(self, high):
        pass

    def get_write_buffer_size(self):
        return 0


@QUICK
@given(st.lists(plain, max_size=4), st.dictionaries(words, plain, max_size=4), st.text("abc/-", max_size=20), st.sampled_from([encoding.MSGPACK, encoding.CLOUDPICKLE]))
def test_calls_arrive(args, kwargs, model, codec):
    """parse_call and parse_args read the arguments by place and by name, and the affinity, as the caller has sent them."""
    loop = asyncio.new_event_loop()
    try:
        conn = wire.Connection(loop, None)
        sink = Sink()
        conn.connection_made(sink)
        options = Options(model)
        if codec == encoding.MSGPACK:
            options.python, options.request_codec = False, codec
        call = wire.Call(conn, wire.new_request())
        conn.start(call, ("a", "d", "m"), None, options, tuple(args), kwargs)
        conn.flush()
        assert call.error is None
        data, frames = sink.data, {}
        while data:
            body, meta, kind, _, _ = wire.HEADER.unpack_from(data)
            frames[kind] = data[16 : 16 + meta], data[16 + meta : 16 + meta + body]
            data = data[16 + meta + body :]
        meta, body = frames[wire.CALL]
        _, _, info, slots = wire.parse_call(meta)
        assert wire.parse_args(slots, body) == (tuple(args), kwargs) and (getattr(info, "model", "") or "") == model
    finally:
        loop.close()


@QUICK
@given(st.binary(max_size=200))
@example(wire.CALL_META.pack(1, 1, 0, 2, 0, bytes(16), bytes(16), bytes(8), 1))
@example(wire.CALL_META.pack(1, 1, 0, 0, 0, bytes(16), bytes(16), bytes(8), 1) + wire.entry(b"rid", b"\xff"))
def test_metadata_that_is_none(meta):
    try:
        wire.parse_call(memoryview(meta))
    except (ValueError, struct.error, IndexError):
        pass


# ---- frames

frames = st.tuples(
    st.sampled_from([1, 3, 4, 5, 6, 7, 8, 16, 17, 18, 19, 20, 21, 27, 28, 99]), st.integers(0, 255), st.integers(0, 3), st.binary(max_size=90), st.binary(max_size=90),
    st.sampled_from([0, 0, 0, 0, 1, -1, 1 << 20, (1 << 32) - 1]),
)


def raw(frame):
    kind, flags, id, meta, body, lie = frame
    return wire.HEADER.pack(min(max(len(body) + lie, 0), (1 << 32) - 1), len(meta), kind, flags, id) + meta + body


async def app(scope, receive, send):
    """Reads its whole request."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


def met(data, cuts, before=lambda node: None):
    """A worker gets bytes: no frame, frames that it answers, or garbage that ends the connection with a reason for the node. An exception anywhere else fails."""
    node = fake_node.Node(fake_node.raw(app))
    others = []
    node.loop.set_exception_handler(lambda loop, context: others.append(context) if "a frame could not be handled" not in context["message"] else None)
    node.parse = lambda: None  # the answers are of no interest here
    try:
        before(node)
        at = 0
        for cut in (*sorted(c % (len(data) + 1) for c in cuts), len(data)):
            if node.closed:
                break
            node.feed(data[at:cut]) if cut > at else None
            at = cut
        node.turn(5)
        assert not others, others
        assert not node.closed or b"protocol" in node.data
        return node.closed
    finally:
        node.worker.conn.refused = False
        for task in asyncio.all_tasks(node.loop):
            task.cancel()
        node.turn(3)
        node.loop.close()


@settings(QUICK, max_examples=100)
@given(st.lists(frames.map(raw), max_size=5).map(b"".join) | st.binary(max_size=200), st.lists(st.integers(0, 1000), max_size=4))
def test_frames_that_are_none(data, cuts):
    met(data, cuts)


def test_a_frame_of_an_unknown_kind_ends_the_connection():
    assert met(wire.HEADER.pack(0, 0, 99, 0, 1), ())


parts = st.lists(st.tuples(st.sampled_from([http.BODY, http.LAST, http.TRAILERS, http.BROKEN, http.CLOSE, http.TEXT, 99]), st.binary(max_size=40)), max_size=5)


@settings(QUICK, max_examples=100)
@given(st.binary(max_size=60) | parts.map(lambda ps: b"".join(fake_node.PART.pack(len(d), k) + d for k, d in ps)), st.lists(st.integers(0, 1000), max_size=3))
def test_parts_of_requests_that_are_none(body, cuts):
    upload = wire.HEADER.pack(len(body), 0, wire.UPLOAD, 0, 1) + body
    met(upload, cuts, lambda node: node.call(fake_node.head("POST"), more=True))


@QUICK
@given(st.lists(st.tuples(st.binary(max_size=10) | st.sampled_from([b"Content-Length", b"x-a"]), st.binary(max_size=10)), max_size=5))
def test_header_fields(headers):
    """Fields are refused, or arrive one by one: no field makes another one."""
    try:
        out, length = http.fields(headers, "test")
    except RuntimeError:
        return
    assert not set(out) & set(b"\r\n")
    assert http.fields(list(headers), "test") == (out, length)  # from memory
    back = out.split(b"\0") if out or headers else []
    assert list(zip(back[::2], back[1::2])) == [(n.lower(), v) for n, v in headers] and length >= -1


@QUICK
@given(words.map(lambda s: "/" + s.replace("?", "")), st.sampled_from(["", "/a", "/a/b"]))
def test_paths(path, root):
    from urllib.parse import quote, unquote

    whole, sent = http.whole_path(quote(path).encode(), root)
    assert whole.startswith(root) and whole.endswith(path) and unquote(sent.decode()) == whole


@QUICK
@given(words.filter(lambda s: s))
def test_events(text):
    """A reader of server-sent events puts the lines of a text together again."""
    lines = event(text).decode().split("\n")
    assert lines[-2:] == ["", ""]
    assert "\n".join(line.removeprefix("data:").removeprefix(" ") for line in lines[:-2]) == text.replace("\r\n", "\n").replace("\r", "\n")


# ---- limits and durations

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5
)
CHECKS = {
    "text": (limits.text, lambda v: len(v.encode()) <= limits.MAX_ID and "\0" not in v),
    "name": (limits.name, lambda v: 0 < len(v.encode()) <= limits.MAX_NAME and v.isprintable()),
    "method_name": (limits.method_name, lambda v: type(v) is str),
    "boolean": (limits.boolean, lambda v: type(v) is bool),
    "integer": (lambda what, v: limits.integer(what, v, 1, 10, -1), lambda v: type(v) is int and (1 <= v <= 10 or v == -1)),
    "number": (lambda what, v: limits.number(what, v, 0, 10), lambda v: 0 <= v <= 10),
    "seconds": (limits.seconds, lambda v: 0 <= v <= limits.MAX_SECONDS),
    "wait": (limits.wait, lambda v: v is None or 0 <= v <= limits.MAX_SECONDS),
    "variables": (limits.variables, lambda v: all("=" not in k and k for k in v)),
    "texts": (limits.texts, lambda v: all(type(t) is str for t in v)),
    "json_object": (limits.json_object, lambda v: encoding.decode(encoding.JSON, encoding._json(v)) == v),
}


@pytest.mark.parametrize("name", CHECKS)
def test_limits(name):
    """A value is within its limits, or the error says of which option it is."""
    check, holds = CHECKS[name]

    @QUICK
    @given(anything | st.integers(-2, 12) | st.floats(-1, 11) | words)
    def run(value):
        try:
            out = check("the option", value)
        except (TypeError, ValueError) as e:
            assert str(e).startswith("the option"), e
        else:
            assert holds(out)

    run()


@QUICK
@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["h", "m", "s", "ms", "us", "µs", "ns"])), min_size=1, max_size=4))
def test_durations(parts):
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    assert math.isclose(duration("".join(f"{n}{u}" for n, u in parts)), sum(n * units[u] for n, u in parts), abs_tol=1e-12)


@QUICK
@given(st.text() | st.text("0123456789.hmsunµ-"))
@example("1.2.3s")
@example(".s")
@example("")
def test_durations_that_are_none(text):
    try:
        assert duration(text) >= 0
    except ValueError:
        pass
