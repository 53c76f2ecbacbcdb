"""Spans of user code and of batches, and OpenTelemetry's context in a worker.

A span that has ended waits here for 100 ms, and goes to the node with the others of that time in one request (docs/control.md, ``spans``). A span of a request that is not
sampled is left out if it took less than a millisecond and did not fail: the node keeps those of requests that were slow or have failed.

OpenTelemetry joins only where the program has imported it. The current span of a request is then the span of its call, so that a tracer of the program makes spans below it; and a
call that the program makes under a span of OpenTelemetry goes below that span.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextvars import ContextVar
from typing import Any, Optional

from helve import _origins, _runtime
from helve._call import new_request
from helve._frames import RequestInfo, call_ids, request_info

PERIOD = 0.1  # seconds that the first span waits for others
MOST = 2048  # spans that wait
END = 1.0  # seconds that the end of a driver waits for its last report
MOST_ATTRIBUTES, MOST_LINKS = 64, 128
LEAST = 1_000_000  # nanoseconds
LEAST_SAMPLED = 100_000  # of a wait of a sampled request
OTEL = "opentelemetry.trace"
NO_TRACE = bytes(16)
OUTERMOST, INNER = 2, 1

modules = sys.modules
current: ContextVar[Optional["Span"]] = ContextVar("helve_span", default=None)
_lock = threading.Lock()
_waiting: list = []
_scheduled: Any = None  # the connection whose loop has a report to make
used = False  # the program has a span of its own


class Span:
    """A span that `serve.span` makes; it begins with its block. Its methods may be called from any thread.

    Attributes:
        name: Its name in traces.
    """

    __slots__ = ("name", "attributes", "links", "info", "of", "id", "parent", "began", "outside", "_kind", "_error", "_token", "_joined")

    def __init__(self, name: str, attributes: dict, kind: str = "span"):
        self.name, self.attributes, self.links, self._kind = name, attributes, (), kind
        self.info: Optional[RequestInfo] = None  # of the code in the block; None for a span that does nothing
        self.of: Any = None  # the request whose trace has the span: of a batch it is one of its members'
        self.outside = 0  # of a span of a program outside of methods: OUTERMOST or INNER
        self._error: Optional[BaseException] = None
        self._token = self._joined = None

    def set(self, **attributes: Any) -> None:
        """Adds attributes to the span, or replaces those of the same names: texts, numbers and booleans. A span has 64 at most."""
        self.attributes.update(attributes)

    def fail(self, error: BaseException) -> None:
        """Says that the work of the span has failed. An exception that leaves the block says the same."""
        self._error = error

    def __enter__(self) -> "Span":
        info = request_info.get()
        if info is not None and _runtime.replica is not None:
            outer = current.get()
            self.begin(info, outer.of if outer is not None and outer.info is info else info, above(info))
        elif info is None and _runtime.replica is None and not (_runtime.building or _runtime.in_worker()):
            self.begin_outside()
        return self

    def begin_outside(self) -> None:
        """Begins a span in a driver: inside of the current one, also of OpenTelemetry, or else as the root of a trace, whose id is that of a request of its own. Whether that is
        sampled is decided by the node, which has the ratio: `sampled` is None then. The calls in it are requests of their own, in its trace.
        """
        outer = current.get()
        inner = outer is not None and outer.outside
        under = of_call(None)
        info = RequestInfo(outer.info.request if inner else new_request(), under[0] if under else NO_TRACE, bytes(8), 0, 0, None)
        info.sampled = under[2] if under else None
        self.outside = INNER if inner else OUTERMOST
        self.begin(info, info, int.from_bytes(under[1], "big") if under else 0)

    def begin(self, info: RequestInfo, of: RequestInfo, parent: int) -> None:
        global used
        used = True
        self.info, self.of, self.parent, self.id = info, of, parent, next(call_ids)
        self._token = current.set(self)
        if OTEL in modules and of.sampled is not None:
            self._joined = join(of, self.id)
        self.began = time.time_ns()

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        if self.info is None:
            return
        ended = time.time_ns()
        try:
            current.reset(self._token)
            if self._joined is not None:
                modules["opentelemetry.context"].detach(self._joined)
        except (KeyError, ValueError):  # the block ends in another context than it began in: the block of a generator that was not read to its end
            pass
        error = error or self._error
        if error is None and self.of.sampled is False and ended - self.began < LEAST:
            return
        report(self.record(self.of, self.id, self.parent, ended, error))

    def record(self, info: RequestInfo, id: int, parent: int, ended: int, error: Optional[BaseException]) -> dict:
        record = {"request": info.request_id, "id": f"{id:016x}", "kind": self._kind, "begin": self.began, "end": max(ended, self.began), "name": self.name}
        replica = _runtime.replica
        if self.outside:
            record["app"] = record["deployment"] = ""
            if self.outside == OUTERMOST:
                record["root"] = True
            if info.sampled is None:
                record["open"] = True
        else:
            record["app"], record["deployment"], record["replica"] = replica.app_name, replica.deployment, replica.replica_tag
        if parent:
            record["parent"] = f"{parent:016x}"
        if parent != info.call and info.call:
            record["caller"] = f"{info.call:016x}"
        if any(info.trace):
            record["trace"] = info.trace.hex()
        if info.sampled:
            record["sampled"] = True
        if error is not None:
            record["reason"], record["message"] = "user", f"{type(error).__name__}: {error}"
        if self.attributes:
            record["attributes"] = {str(k): plain(v) for k, v in list(self.attributes.items())[:MOST_ATTRIBUTES]}
        if self.links:
            record["links"] = self.links[:MOST_LINKS]
        return record


def plain(value: Any) -> Any:
    """A value as JSON has it: the node has texts, booleans and numbers."""
    if isinstance(value, (bool, str)) or type(value) is int and -(2**53) < value < 2**53:
        return value
    if isinstance(value, float) and value - value == 0:  # finite
        return value
    return str(value)


def above(info: RequestInfo) -> int:
    """The id of the innermost span of a request: of the program, also one of OpenTelemetry in the same trace, or the request's call."""
    span = current.get()
    of, id = (span.of, span.id) if span is not None and span.info is info else (info, info.call)
    if OTEL in modules:
        found = of_call(info)
        if found is not None and found[0] == trace_of(of):
            return int.from_bytes(found[1], "big")
    return id


def trace_of(info: RequestInfo) -> bytes:
    """The id of the trace: the client's, else that of the request, as the node has it."""
    if any(info.trace):
        return info.trace
    if not info.text:
        return bytes(info.request)
    digest = 0x6C62272E07BB014262B821756295C58D  # FNV-1a, of 128 bits
    for byte in info.text.encode():
        digest = (digest ^ byte) * 0x0000000001000000000000000000013B % 2**128
    return digest.to_bytes(16, "big")


def of_origin() -> Optional[tuple]:
    """The span of a call outside of requests, in a thread that a method has started or in a function that it has given to a pool: that of the method's call, so that the call is
    in its trace, as a request of its own; None elsewhere.
    """
    info = _origins.origin.get()
    return None if info is None else (trace_of(info), info.call.to_bytes(8, "big"), info.sampled)


def of_call(info: Optional[RequestInfo]) -> Optional[tuple]:
    """The span in which a call is made: (trace, span, whether it is sampled); None for the call of the request itself, and outside of spans. Whether it is sampled is None if the
    node decides it.
    """
    otel = modules.get(OTEL)
    if otel is not None:
        try:
            span = otel.get_current_span()
            if type(span).__name__ != JOINED:
                context = span.get_span_context()
                if context.is_valid:
                    trace, sampled = context.trace_id.to_bytes(16, "big"), bool(context.trace_flags.sampled)
                    if info is None or sampled or trace != trace_of(info):  # a span of this trace that is not sampled is shown nowhere
                        return trace, context.span_id.to_bytes(8, "big"), sampled
        except AttributeError:  # another thread is importing it
            pass
    span = current.get()
    if span is None or (not span.outside if info is None else span.info is not info):
        return None
    of = span.of
    if info is None:
        return trace_of(of), span.id.to_bytes(8, "big"), of.sampled
    return of.trace if of is info else trace_of(of), span.id.to_bytes(8, "big"), of.sampled


# ---- OpenTelemetry

JOINED = "HelveSpan"
_joined_type: Any = None


def enter(info: RequestInfo) -> None:
    """Makes a request that of the running code. Its task has a context of its own, so that it is not reset."""
    request_info.set(info)
    if OTEL in modules:
        join(info, info.call)


def join(info: RequestInfo, id: int) -> Any:
    """Makes a span of a request the current one of OpenTelemetry; the result undoes that. It is None while another thread imports OpenTelemetry."""
    global _joined_type
    try:
        otel = modules[OTEL]
        if _joined_type is None:
            _joined_type = _make_type(otel)
        return modules["opentelemetry.context"].attach(otel.set_span_in_context(_joined_type(info, id)))
    except (AttributeError, KeyError):
        return None


def _make_type(otel: Any) -> Any:
    class HelveSpan(otel.NonRecordingSpan):  # its context is made when a tracer asks for it: most requests have no span of the program's
        def __init__(self, info: RequestInfo, id: int):
            self._info, self._id, self._made = info, id, None

        def get_span_context(self) -> Any:
            if self._made is None:
                self._made = context_of(otel, self._info, self._id)
            return self._made

        @property
        def _context(self) -> Any:
            return self.get_span_context()

    assert HelveSpan.__name__ == JOINED
    return HelveSpan


def context_of(otel: Any, info: RequestInfo, id: int) -> Any:
    flags = otel.TraceFlags(otel.TraceFlags.SAMPLED if info.sampled else otel.TraceFlags.DEFAULT)
    return otel.SpanContext(int.from_bytes(trace_of(info), "big"), id, is_remote=True, trace_flags=flags)


# ---- batches


class BatchSpan(Span):
    """The span of a batch: in the trace of its first sampled member, or of the first one, with links to all members. Each other sampled member has a span of the same time with a
    link to it.
    """

    __slots__ = ("others",)

    def __init__(self, name: str, members: list, inside: RequestInfo):
        """members are pairs of a request, None outside of requests, and the id of the span in which it called. inside is the request that calls of the batch have."""
        super().__init__(name, {"helve.batch_size": len(members)}, "batch")
        known = [(info, parent) for info, parent in members if info is not None]
        if not known or _runtime.replica is None:
            return
        first = next((m for m in known if m[0].sampled), known[0])
        self.begin(inside, *first)
        self.links = [f"{trace_of(info).hex()}-{parent:016x}" for info, parent in known[:MOST_LINKS]]
        self.others = [m for m in known if m is not first and m[0].sampled]

    def __enter__(self) -> "BatchSpan":
        return self

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        if self.info is None:
            return
        ended = time.time_ns()
        super().__exit__(kind, error, trace)
        link = [f"{trace_of(self.of).hex()}-{self.id:016x}"]
        self.attributes, self.links = {}, link
        for info, parent in self.others:
            report(self.record(info, next(call_ids), parent, ended, error or self._error))


# ---- waits


def waited_for_arguments(info: RequestInfo, under: Optional[tuple], target: tuple, began: int) -> None:
    """Reports that a call to target has waited for results of other calls, which are its arguments. under is the span in which it is made, as of `of_call`; None for the call of
    the request itself.
    """
    ended = time.time_ns()
    if ended - began < (LEAST_SAMPLED if info.sampled else LEAST):
        return
    app, deployment, method = target
    record = {
        "request": info.request_id, "id": f"{next(call_ids):016x}", "parent": f"{info.call:016x}", "app": app, "deployment": deployment, "kind": "arguments", "begin": began, "end": ended,
    }
    trace = info.trace
    if under is not None and under[1] != info.call.to_bytes(8, "big"):
        trace = under[0]
        record["parent"], record["caller"] = under[1].hex(), record["parent"]
    if method:
        record["method"] = method
    if any(trace):
        record["trace"] = trace.hex()
    if info.sampled:
        record["sampled"] = True
    report(record)


# ---- reports


def report(record: dict) -> None:
    """Has a record sent with others. Over the limit it is dropped."""
    global _scheduled
    conn = _runtime.connection
    with _lock:
        if len(_waiting) >= MOST or conn is None or conn.lost is not None:
            return
        _waiting.append(record)
        if _scheduled is conn:
            return
        _scheduled = conn
    conn.post(conn.loop.call_later, PERIOD, _send, conn)


def _send(conn: Any) -> None:
    """Sends the records. It runs on the connection's loop."""
    global _scheduled
    with _lock:
        records = _waiting[:]
        _waiting.clear()
        _scheduled = None
    if records and conn.over is None and conn is _runtime.connection:
        conn.control("spans", spans=records).add_done_callback(lambda answer: answer.cancelled() or answer.exception())


def finish(conn: Any) -> None:
    """Sends the records that wait, before a driver closes its connection, and waits for the answer for a moment."""
    with _lock:
        records = _waiting[:]
        _waiting.clear()
    if not records or conn.lost is not None or threading.current_thread() is conn.thread:
        return
    done = threading.Event()

    def answered(answer: Any) -> None:
        answer.cancelled() or answer.exception()
        done.set()

    conn.post(lambda: done.set() if conn.over is not None else conn.control("spans", spans=records).add_done_callback(answered))
    done.wait(END)


def _in_child() -> None:
    """Runs after a fork: the spans are the parent's, and its lock may be held by a thread that the child does not have."""
    global _lock, _scheduled
    _lock, _scheduled = threading.Lock(), None
    _waiting.clear()


os.register_at_fork(after_in_child=_in_child)

__all__ = ["BatchSpan", "Span", "above", "context_of", "enter", "finish", "of_call", "of_origin", "trace_of"]
