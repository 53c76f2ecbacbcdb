"""Frames and the meta of calls (docs/wire.md): their structs, and the data that a call carries beside its arguments."""

from __future__ import annotations

import contextvars
import itertools
import os
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Optional

from helve._call import Call, format_id
from helve._encoding import CLOUDPICKLE, PICKLE, RAW, decode
from helve._limits import MAX_META
from helve._parts import BUFFER_SLOT, KIND, Out, parse_slots
from helve._pickling import loads

if TYPE_CHECKING:
    from helve._wire import Connection

HELLO, PROOF, GOAWAY, CONTROL, REPLY, ROUTE, READY, CALL, CANCEL, END, ITEMS, CREDIT = 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20
UPLOAD, ALLOW = 27, 28
FIELDS = 10  # fields of the head of an HTTP request before its headers
FLAG_ERROR = 1
PROTOCOL = (1, 2)
MAX_BODY = 256 << 20  # of a side that announces no other
OWN_MAX_BODY = int(os.environ.get("HELVE_WORKER_MAX_BODY") or MAX_BODY)  # a node sets it for its workers

HEADER = struct.Struct("<IHBBQ")
CALL_META = struct.Struct("<IBBHQ16s16s8sQ")
SLOT = struct.Struct("<BBHI")
# A CALL with one packed slot and no tail, as one Python sends to another: header, meta and slot in one go.
CALL_PACKED = struct.Struct("<IHBBQIBBHQ16s16s8sQBBHI")
CALL_BELOW = struct.Struct("<IHBBQIBBHQ16s16s8sQBBHIB5sHBBI")  # the same with the tail key `above`
# A CALL of an HTTP request, as a node sends it: its head in one slot, perhaps its body in a second one (kind and codec as one number), and a tail
# of the keys `window` and `http`. By the length of the meta.
EXCHANGES = {98: struct.Struct("<IHBBQIBBHQ16s16s8sQHHI26s"), 106: struct.Struct("<IHBBQIBBHQ16s16s8sQHHIHHI26s")}
RAW_SLOT = 1 | RAW << 8  # kind and codec of such a slot
END_FRAME = struct.Struct("<IHBBQBB")
U16 = struct.Struct("<H")
WINDOW = struct.Struct("<II")
_HTTP = struct.Struct("<BB")
ABOVE = struct.Struct("<B5sHBBI")

monotonic = time.monotonic
request_info: contextvars.ContextVar[Optional["RequestInfo"]] = contextvars.ContextVar("helve_request_info", default=None)


class RequestInfo:
    """The data that a call carries beside its arguments, on the side of the method that runs it."""

    # The fields that every call sets. The others have the values of most calls here, and an instance has an attribute of its own when it
    # differs: a worker makes one of these objects per call.
    __slots__ = ("request", "trace", "span", "call", "depth", "deadline", "frame", "begun", "task", "children", "__dict__")
    text = model = session = ""
    tail = b""
    window: Any = None
    broadcast = False  # its result travels in one piece, beside the results of others
    sampled = False  # its trace is recorded
    http: Any = None  # kind and flags of an exchange
    head: Any = None  # the head of its request
    scope: Any = None  # its ASGI scope
    threaded = False  # its method runs in a thread, which cannot notice that the call was cancelled
    cancelled = False

    def __init__(self, request, trace, span, call, depth, deadline, frame=0):
        self.request, self.trace, self.span, self.call, self.depth, self.deadline, self.frame = request, trace, span, call, depth, deadline, frame
        self.begun = False  # the coroutine of the call has run its first step
        self.task = self.children = None  # the task that runs the call; the calls that its method has made

    @property
    def request_id(self) -> str:
        return self.text or format_id(self.request)

    def adopt(self, call: "Call", on_loop: bool) -> None:
        """Notes a call that the method makes, on any thread. It is cancelled with the method's own call. A call that
        is made after that runs, so that a method that catches its cancel can call others to clean up. A method in
        a thread cannot catch it.
        """
        children = self.children
        if children is None:
            with _adopting:
                children = self.children
                if children is None:
                    children = self.children = set()
        children.add(call)
        call.parent = children
        if self.threaded and self.cancelled and not on_loop:
            call.conn.loop.call_soon_threadsafe(call.cancel)

    def cancel_children(self) -> None:
        self.cancelled = True
        if self.children:
            for child in list(self.children):
                child.cancel()


class HttpInfo(RequestInfo):
    """The RequestInfo of an HTTP request that came the short way: it has the fields of an exchange in slots, and so no dictionary."""

    __slots__ = ("window", "http", "head", "scope")

    def __init__(self, request, trace, span, call, depth, deadline, frame, window, http):
        self.request, self.trace, self.span, self.call, self.depth, self.deadline, self.frame = request, trace, span, call, depth, deadline, frame
        self.begun = False
        self.task = self.children = self.scope = None
        self.window, self.http = window, http


_adopting = threading.Lock()
call_ids = itertools.count(int.from_bytes(os.urandom(6), "little") << 8)  # of calls, unique within this process



def is_head(data: bytes) -> bool:
    """Whether the head of an HTTP request has all its fields, and whole pairs after them."""
    n = data.count(b"\0") + 1
    return n >= FIELDS and n % 2 == 0


def packed(out: Out, codec: int, body: bytes, buffers: Optional[list]) -> bytes:
    """The slot table of a packed argument list."""
    where, size = out.add(body)
    table = [SLOT.pack(where, codec, 0, size)]
    for b in buffers or ():
        where, size = out.add(b)
        table.append(SLOT.pack(BUFFER_SLOT | where, RAW, 0, size))
    return b"".join(table)


def entry(key: bytes, value: bytes) -> bytes:
    """One entry of a call's tail."""
    if len(value) > MAX_META:
        what = {b"rid": "the request id", b"model": "the model id", b"session": "the session id"}.get(key) or key.decode()
        raise ValueError(f"{what} ({str(value[:30], 'utf-8', 'replace')}...): {len(value)} bytes, at most {MAX_META} fit into one call")
    return bytes((len(key),)) + key + U16.pack(len(value)) + value


def parse_call(meta) -> tuple:
    """(route, want, info, slots) of a CALL's meta; slots are (kind, codec, key or name, length)."""
    route, want, depth, n, left, request, trace, span, call = CALL_META.unpack_from(meta)
    deadline = monotonic() + left / 1e6 if left else None
    info = RequestInfo(request, trace, span, call, depth, deadline)
    if n == 1 and len(meta) == 72 and meta[64] & KIND != 2:  # a keyword may have the name ""
        return route, want, info, (SLOT.unpack_from(meta, 64),)
    slots, p, end = [], 64, len(meta)
    if n * SLOT.size > end:
        raise ValueError("a call with fewer slots than it says")
    for _ in range(n):
        kind, codec, key, size = slot = SLOT.unpack_from(meta, p)
        p += 8
        if kind & KIND == 2:
            slots.append((kind, codec, str(meta[p : p + key], "utf-8"), size))
            p += key
        else:
            slots.append(slot)
    if p > end:
        raise ValueError("a call whose meta is cut off")
    if p < end:
        tail = bytes(meta[p:])
        known = tails.get(tail)
        if known is None:
            parse_tail(tail, info)
        else:
            info.window, info.http = known
    return route, want, info, slots


_TEXTS = {b"rid": "text", b"model": "model", b"session": "session"}
tails: dict = {}  # the tails of HTTP requests, of which there are few: (window, http)


def parse_tail(tail: bytes, info: RequestInfo) -> None:
    p, end, plain = 0, len(tail), True
    while p < end:
        k = tail[p]
        key = tail[p + 1 : p + 1 + k]
        size = U16.unpack_from(tail, p + 1 + k)[0]
        p += 3 + k
        value = tail[p : p + size]
        p += size
        if p > end:
            break
        if key == b"window":
            info.window = WINDOW.unpack(value)
        elif key == b"http":
            info.http = _HTTP.unpack(value)
        elif key in _TEXTS:
            setattr(info, _TEXTS[key], str(value, "utf-8"))
        elif key in (b"broadcast", b"sampled"):
            setattr(info, key.decode(), True)
        plain = plain and (key == b"window" or key == b"http")
    if p != end:
        raise ValueError("a call whose meta is cut off")
    if plain and info.http is not None and len(tails) < 64:
        tails[tail] = info.window, info.http

def in_parts(slots) -> bool:
    """Whether arguments do not all lie in their frame, one segment each."""
    for slot in slots:
        if slot[0] > 2:
            return True
    return False


def parse_parts(conn: "Connection", slots, body) -> tuple[tuple, dict]:
    """parse_args() of a call whose arguments are in parts."""
    args: list = []
    kwargs: dict = {}
    for kind, key, value in parse_slots(conn, slots, body):
        if kind == 0:
            if value.codec not in (CLOUDPICKLE, PICKLE) or args or kwargs:
                raise TypeError(f"packed arguments in codec {value.codec}")
            return value.load()
        if kind == 2:
            kwargs[key] = value.load()
        elif kind == 1:
            args.append(value.load())
        else:
            raise ValueError(f"an argument of kind {kind}")
    return tuple(args), kwargs


def parse_args(slots, body) -> tuple[tuple, dict]:
    if len(slots) == 1 and slots[0][0] == 0:
        if slots[0][1] not in (CLOUDPICKLE, PICKLE):
            raise TypeError(f"packed arguments in codec {slots[0][1]}")
        return loads(body)
    args, kwargs, p = [], {}, 0
    if sum(slot[3] for slot in slots) != len(body):
        raise ValueError("the lengths of the arguments are not that of the body")
    for kind, codec, key, size in slots:
        value = decode(codec, body[p : p + size])
        p += size
        if kind == 2:
            kwargs[key] = value
        elif kind == 1:
            args.append(value)
        else:
            raise ValueError(f"an argument of kind {kind}")
    return tuple(args), kwargs
