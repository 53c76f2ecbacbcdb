"""serve.span, and OpenTelemetry in replicas and drivers: which span is above a call, and which spans the node gets. internal/e2e/traces has whole traces."""

import asyncio
import contextvars
import json
import sys
from types import SimpleNamespace

import pytest
from opentelemetry import trace

from helve import _runtime, _spans, serve
from helve._frames import RequestInfo, request_info

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
OWN = bytes(range(16))


class Loop:
    def __init__(self):
        self.later = []

    def call_later(self, after, f, *args):
        self.later.append((after, f, args))


class Connection:
    """The connection of a worker, as far as reports need it."""

    over = lost = None

    def __init__(self):
        self.loop, self.sent = Loop(), []

    def post(self, f, *args):
        f(*args)

    def control(self, op, **fields):
        self.sent.append((op, json.loads(json.dumps(fields))))
        done = asyncio.Future(loop=asyncio.new_event_loop())
        done.set_result({})
        done._loop.close()
        return SimpleNamespace(add_done_callback=lambda f: f(done))

    def spans(self):
        for _, f, args in self.loop.later:
            f(*args)
        self.loop.later.clear()
        spans = [s for op, fields in self.sent for s in fields["spans"] if op == "spans"]
        self.sent.clear()
        return spans


@pytest.fixture
def conn(monkeypatch):
    conn = Connection()
    monkeypatch.setattr(_runtime, "connection", conn)
    monkeypatch.setattr(_runtime, "replica", SimpleNamespace(app_name="shop", deployment="Ranker", replica_tag="Ranker#001"))
    monkeypatch.setattr(_spans, "_scheduled", None)
    monkeypatch.setattr(_spans, "_waiting", [])
    return conn


def info(sampled=True, trace=b"\0" * 16, call=0xA):
    made = RequestInfo(OWN, trace, b"\0" * 8, call, 0, None)
    if sampled:
        made.sampled = True
    return made


def inside(request, f):
    """Runs code as the method of a request."""

    def run():
        _spans.enter(request)
        return f()

    return contextvars.copy_context().run(run)


def test_a_span_inside_a_span(conn):
    def method():
        with serve.span("outer", n=2, share=0.5, yes=True, text="é", other=[1], huge=2**60, nan=float("nan")) as outer:
            with serve.span("inner"):
                pass
            outer.set(n=3)

    inside(info(), method)
    inner, outer = conn.spans()
    assert outer["parent"] == "000000000000000a" and inner["parent"] == outer["id"] and "trace" not in outer and outer["sampled"]
    assert outer["request"] == "00010203-0405-0607-0809-0a0b0c0d0e0f" and outer["kind"] == "span" and outer["begin"] <= inner["begin"] <= inner["end"] <= outer["end"]
    assert outer["attributes"] == {"n": 3, "share": 0.5, "yes": True, "text": "é", "other": "[1]", "huge": str(2**60), "nan": "nan"}
    assert (outer["app"], outer["deployment"], outer["replica"], outer["name"]) == ("shop", "Ranker", "Ranker#001", "outer")


def test_what_the_node_gets_of_a_request_that_is_not_sampled(conn, monkeypatch):
    times = iter([0, 999_999, 2_000_000, 3_000_000, 4_000_000, 4_000_001])
    monkeypatch.setattr(_spans.time, "time_ns", lambda: next(times))

    def method():
        with serve.span("short"):
            pass
        with serve.span("long"):
            pass
        with pytest.raises(KeyError):
            with serve.span("failed"):
                raise KeyError("k")

    inside(info(sampled=False, trace=TRACE), method)
    long, failed = conn.spans()
    assert (long["name"], failed["name"], long["trace"], failed["reason"], failed["message"]) == ("long", "failed", TRACE.hex(), "user", "KeyError: 'k'")
    assert "sampled" not in long and "reason" not in long


def test_the_wait_for_arguments(conn, monkeypatch):
    monkeypatch.setattr(_spans.time, "time_ns", lambda: 10_000_000)
    target, other = ("shop", "Leaf", "get"), ("shop", "Leaf", "")
    for sampled, began, spans in ((False, 9_000_001, 0), (False, 9_000_000, 1), (True, 9_900_001, 0), (True, 9_900_000, 1)):
        _spans.waited_for_arguments(info(sampled=sampled), None, target, began)
        assert len(conn.spans()) == spans, (sampled, began)
    _spans.waited_for_arguments(info(trace=TRACE), None, target, 0)
    _spans.waited_for_arguments(info(), (TRACE, b"\0" * 7 + b"\x0b", True), other, 0)
    of_call, of_span = conn.spans()
    assert (of_call["kind"], of_call["parent"], of_call["deployment"], of_call["method"], of_call["trace"]) == ("arguments", "000000000000000a", "Leaf", "get", TRACE.hex())
    assert "caller" not in of_call and (of_call["begin"], of_call["end"]) == (0, 10_000_000)
    assert (of_span["parent"], of_span["caller"], of_span["trace"]) == ("000000000000000b", "000000000000000a", TRACE.hex()) and "method" not in of_span


def test_outside_of_requests_and_replicas(conn, monkeypatch):
    with serve.span("outside") as span:
        span.set(n=1)
        span.fail(ValueError())
    monkeypatch.setattr(_runtime, "replica", None)

    def method():
        with serve.span("no replica"):
            pass

    inside(info(), method)
    assert conn.spans() == []


def test_bounds(conn):
    def method():
        for _ in range(_spans.MOST + 10):
            with serve.span("x", **{f"a{i}": i for i in range(70)}):
                pass

    inside(info(), method)
    spans = conn.spans()
    assert len(spans) == _spans.MOST and len(spans[0]["attributes"]) == 64


def test_a_generator_that_is_not_read_to_its_end(conn):
    def items():
        with serve.span("items"):
            yield 1
            yield 2

    def method():
        made = items()
        next(made)
        contextvars.copy_context().run(made.close)  # the block ends in another context

    inside(info(), method)
    assert [s["name"] for s in conn.spans()] == ["items"]


def test_the_span_above_a_call(conn):
    """Without a span it is the call of the request, which the connection knows."""
    request = info(trace=TRACE)

    def method():
        assert _spans.of_call(request) is None
        with serve.span("mine") as span:
            assert _spans.of_call(request) == (TRACE, span.id.to_bytes(8, "big"), True)
            assert _spans.of_call(info()) is None  # of another request
            context = serve.get_trace_context()
            assert trace.get_current_span(context).get_span_context().span_id == span.id == trace.get_current_span().get_span_context().span_id
        assert _spans.of_call(request) is None

    inside(request, method)
    assert _spans.of_call(None) is None


def test_opentelemetry_joins(conn):
    request = info(trace=TRACE, call=0xB)

    def method():
        own = trace.get_current_span().get_span_context()
        assert (own.trace_id, own.span_id, own.is_remote, own.trace_flags.sampled) == (int.from_bytes(TRACE, "big"), 0xB, True, True)
        assert not trace.get_current_span().is_recording() and repr(trace.get_current_span())
        with trace.get_tracer("t").start_as_current_span("without an SDK"):
            assert _spans.of_call(request) in (None, (TRACE, (0xB).to_bytes(8, "big"), True))
        theirs = trace.SpanContext(own.trace_id, 0xC, False, trace.TraceFlags(1))
        with trace.use_span(trace.NonRecordingSpan(theirs)):
            assert _spans.of_call(request) == (TRACE, (0xC).to_bytes(8, "big"), True)
            with serve.span("mine") as span:
                assert _spans.of_call(request) == (TRACE, span.id.to_bytes(8, "big"), True) and span.parent == 0xC
                with serve.span("inner") as inner:
                    assert inner.parent == span.id
        with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(own.trace_id, 0xD, False))):  # not sampled: it is shown nowhere
            assert _spans.of_call(request) is None
        with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(0xE, 0xF, False))):  # of another trace
            assert _spans.of_call(request) == ((0xE).to_bytes(16, "big"), (0xF).to_bytes(8, "big"), False)
            with serve.span("in the trace of the request") as span:
                assert span.parent == 0xB

    inside(request, method)
    assert not trace.get_current_span().get_span_context().is_valid
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(0xE, 0xF, False, trace.TraceFlags(1)))):  # a driver
        assert _spans.of_call(None) == ((0xE).to_bytes(16, "big"), (0xF).to_bytes(8, "big"), True)


def test_without_opentelemetry(conn, monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")

    def method():
        with serve.span("x"):
            pass

    inside(info(), method)
    assert len(conn.spans()) == 1


def test_a_module_that_another_thread_imports(conn, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", SimpleNamespace())
    monkeypatch.setattr(_spans, "_joined_type", None)
    assert inside(info(), lambda: _spans.of_call(request_info.get())) is None


def test_batches(conn):
    """The batch is in the trace of its first sampled member; each other sampled one has a span with a link to it."""
    first, second, third = info(sampled=False, call=1), info(trace=TRACE, call=2), info(call=3)
    request = info(sampled=False, call=1)

    def run():
        with _spans.BatchSpan("embed", [(first, 1), (None, None), (second, 22), (third, 3)], request):
            assert _spans.of_call(request) == (TRACE, _spans.above(request).to_bytes(8, "big"), True)
            with serve.span("matrix"):
                pass

    inside(request, run)
    matrix, batch, other = conn.spans()
    own = f"{OWN.hex()}-000000000000000"
    assert (batch["name"], batch["kind"], batch["trace"], batch["parent"], batch["attributes"]) == ("embed", "batch", TRACE.hex(), f"{22:016x}", {"helve.batch_size": 4})
    assert batch["links"] == [own + "1", f"{TRACE.hex()}-{22:016x}", own + "3"]
    assert other["parent"] == f"{3:016x}" and "trace" not in other and other["links"] == [f"{TRACE.hex()}-{batch['id']}"] and other["begin"] == batch["begin"]
    assert matrix["parent"] == batch["id"] and matrix["trace"] == TRACE.hex()


def test_a_batch_of_no_request(conn):
    with _spans.BatchSpan("embed", [(None, None)], info()):
        pass
    assert conn.spans() == []


def test_spans_of_a_driver(conn, monkeypatch):
    """A span outside of methods begins a trace, about which the node decides; the calls in it are below it."""
    monkeypatch.setattr(_runtime, "replica", None)
    assert _spans.of_call(None) is None
    with serve.span("outer") as outer:
        trace_id, above, sampled = _spans.of_call(None)
        assert above == outer.id.to_bytes(8, "big") and sampled is None and any(trace_id)
        with serve.span("inner") as inner:
            assert _spans.of_call(None) == (trace_id, inner.id.to_bytes(8, "big"), None)
    assert _spans.of_call(None) is None
    inner, outer = conn.spans()
    assert outer["root"] and outer["open"] and outer["request"].replace("-", "") == trace_id.hex() and "parent" not in outer and outer["app"] == ""
    assert inner["parent"] == outer["id"] and inner["request"] == outer["request"] and "root" not in inner and inner["trace"] == trace_id.hex()


def test_a_span_of_a_driver_in_one_of_opentelemetry(conn, monkeypatch):
    monkeypatch.setattr(_runtime, "replica", None)
    above = trace.SpanContext(int.from_bytes(TRACE, "big"), 0xB, is_remote=True, trace_flags=trace.TraceFlags(1))

    def program():
        with trace.use_span(trace.NonRecordingSpan(above)):
            with serve.span("outer") as outer:
                assert _spans.of_call(None) == (TRACE, outer.id.to_bytes(8, "big"), True)

    contextvars.copy_context().run(program)
    (outer,) = conn.spans()
    assert outer["root"] and outer["sampled"] and "open" not in outer and outer["trace"] == TRACE.hex() and outer["parent"] == "000000000000000b"


def test_a_span_outside_of_requests_in_a_replica_does_nothing(conn):
    with serve.span("constructor") as span:
        assert span.info is None and _spans.of_call(None) is None
    assert conn.spans() == []
