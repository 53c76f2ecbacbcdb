"""HTTP exchanges (docs/wire.md, "HTTP"): a request that the node has parsed, and its answer, in parts. Starlette is not needed here.

An exchange is a call: Worker.begin() makes an Exchange of it, whose subclasses speak ASGI (_asgi.Http, _websocket.Socket).
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
from collections import deque
from functools import lru_cache
from time import monotonic
from typing import Any, Iterable, Optional
from urllib.parse import quote, unquote

from helve import _logging, _spans
from helve._errors import DeploymentUnavailableError
from helve._errors import reason_of as error_reason
from helve._frames import ALLOW, END, END_FRAME, HEADER, ITEMS, WINDOW

logger = logging.getLogger("ray.serve")

HEAD, INFORM, BODY, TRAILERS, TAKEOVER, LAST, BROKEN = 32, 33, 34, 35, 36, 37, 38
ACCEPT, TEXT, BINARY, PIECE, CLOSE, TEXT_PIECE = 40, 41, 42, 43, 44, 45
REQUEST, SOCKET = 1, 2  # kinds of exchanges
MORE = 1  # flag: the body goes on in UPLOAD frames

PART = struct.Struct("<IB")
U16 = struct.Struct("<H")
BEGIN = struct.Struct("<IHBBQIBH")  # the header of an ITEMS frame, with the beginning of its first part: length, kind, status
ID = struct.Struct("<Q")
END_BEGIN = END_FRAME.pack(0, 2, END, 0, 0, 0, 0)[:8]  # the frame that ends an exchange, up to its id
SMALL = 8 << 10  # bytes of the body of an answer whose frame is copied from another
MOST = 128 << 10  # bytes of one part
MOST_HEAD = 1 << 20  # bytes of the fields of a head
FRAME = (32 << 10) - 64  # bytes of parts that travel in one frame: the node takes a larger one into memory of its own, for twice the processor time
PART_SIZE = FRAME - 64  # bytes of one part of a long body
WRITE = 128 << 10  # bytes of frames that are written together
ROOM = (256, 256 << 10)  # parts and bytes of the request that the node may be ahead of the application; with 1 MB its buffers cost as much as the rest

_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_names: set = set()  # names of header fields that are tokens in lower case
_known: dict = {}  # small lists of headers and the results of fields(): an application sends the same again and again
_NAMES = 2000  # a program that makes names up does not fill the memory


class ClientGone(ConnectionResetError):
    """The client has left. ASGI wants an OSError for sends after that."""

    def __init__(self):
        super().__init__("the client has left")


def fields(headers: Iterable, what: str) -> tuple:
    """Header fields in the form of the wire, and the value of content-length, or -1. It refuses what is no header."""
    key = tuple(headers) if type(headers) is list and len(headers) < 32 else None
    try:
        known = _known.get(key)
        if known is not None:
            return known
    except TypeError:  # pairs that are lists
        key = None
    parts: list = []
    length = -1
    try:
        for name, value in headers:
            if name not in _names:
                name = bytes(name)
                if _token(name) is None:
                    raise RuntimeError(f"{what}: {name!r} is no name of a header field")
                name = name.lower()
                if len(_names) < _NAMES:
                    _names.add(name)
            if name == b"content-length":
                length = int(value) if value.isdigit() else -2
            parts += name, value
        out = b"\0".join(parts)
    except (TypeError, ValueError, AttributeError) as e:
        raise RuntimeError(f"{what}: headers must be pairs of bytes: {e}") from None
    if len(out) > MOST_HEAD:
        raise RuntimeError(f"{what}: {len(out)} bytes of headers, at most {MOST_HEAD} are possible")
    if length == -2:
        raise RuntimeError(f"{what}: content-length must be a number")
    if out.count(b"\0") != max(len(parts) - 1, 0) or b"\n" in out or b"\r" in out:
        for name, value in zip(parts[::2], parts[1::2]):
            if b"\0" in value or b"\r" in value or b"\n" in value:
                raise RuntimeError(f"{what}: the value of {name.decode()!r} has a NUL or a line break: {bytes(value[:80])!r}")
    if key is not None and len(out) < 1000:
        if len(_known) >= 500:  # values that are made up do not fill the memory
            _known.clear()
        _known[key] = out, length
    return out, length


@lru_cache(1000)
def _around(head: bytes, n: int) -> tuple:
    """The frame of an answer with a body of n bytes, up to its id, and from the id to the body."""
    head += b"\0content-length\0%d" % n
    h = len(head) + 2
    begin = BEGIN.pack(h + n + 10, 0, ITEMS, 0, 0, h, HEAD, 200)
    return begin[:8], begin[16:] + head + PART.pack(n, BODY)


@lru_cache(1000)  # a client sends many requests on one connection
def _address(host: bytes, port: bytes) -> Optional[tuple]:
    if not host:
        return None
    return host.decode("utf-8", "replace"), int(port) if port else None


def whole_path(raw: bytes, root: str) -> tuple:
    """ASGI's path, which includes root_path, decoded and as it was received. A proxy before the node may have taken away the first part
    of the path: with root_path "/x/api" and the path "/api/a" it is "/x/api/a".
    """
    path = raw.decode("utf-8", "replace")
    if "%" in path:
        path = unquote(path)
    if root and not (path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/")):
        at = 0  # of the part of root_path that the path has
        while at >= 0:
            rest = root[at:]
            if path.startswith(rest) and path[len(rest) : len(rest) + 1] in ("", "/"):
                break
            at = root.find("/", at + 1)
        before = root if at < 0 else root[:at]
        return before + path, quote(before).encode() + raw
    return path, raw


class Exchange:
    """One exchange on the side of the replica. It belongs to the connection's loop, but for the methods of a request object that a method
    in a thread reads.
    """

    # Values of most exchanges: an instance has an attribute of its own when it differs.
    more = False  # parts of the request are still to come
    unread = True  # the application has not taken the first part of the body
    gone = False  # the client has left, or the call was cancelled
    over = False  # END was sent
    watched = False  # the application has looked whether the client has left
    launched = False  # its task did not end in its first step
    sent = False  # the head of the answer was sent
    status = 0  # of the answer
    size = 0  # bytes that wait in pending
    unwritten = 0  # bytes of frames since the last write of several
    pending: Optional[list] = None
    scheduled = False
    torn = False  # a send was cancelled on its way: its beginning was sent, and its end never is
    broken: Optional[tuple] = None  # (status, text): the rest of the request does not come
    parts: Optional[deque] = None  # (kind, data) of the request that came and were not taken
    room: Optional[asyncio.Future] = None  # of a sender that waits for credit
    waiting: Any = ()  # futures of readers
    began = 0.0  # when it came, if calls are logged; 0 when its line is written
    room_items = room_bytes = owed_items = owed_bytes = 0
    background: Optional[asyncio.Task] = None

    def __init__(self, worker, id: int, info, head: bytes, body: bytes):
        self.worker, self.id, self.info, self.head, self.body = worker, id, info, head, body
        self.items, self.bytes = info.window
        info.head = head
        if _logging.access:
            self.began = monotonic()
        if info.http[1] & MORE:
            self.more = True

    def begin(self) -> None:
        """The first step of the coroutine that runs the application."""
        self.info.begun = True
        _spans.enter(self.info)

    # ---- the request

    def scope(self, kind: str) -> dict:
        """The fields that ASGI's scopes of requests and WebSockets have in common."""
        p = self.head.split(b"\0")
        raw, root = p[3], p[5].decode("utf-8", "replace")
        if b"%" not in raw and (not root or raw.startswith(p[5] + b"/") or raw == p[5]):  # whole_path() of most requests
            path = raw.decode("utf-8", "replace")
        else:
            path, raw = whole_path(raw, root)
        self.info.scope = scope = {
            "type": kind, "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": p[2].decode(), "scheme": p[1].decode(),
            "method": p[0].decode(), "path": path, "raw_path": raw, "query_string": p[4], "root_path": root,
            "headers": list(zip(p[10::2], p[11::2])), "client": _address(p[6], p[7]), "server": _address(p[8], p[9]),
            "state": self.worker.state.copy(),
        }
        return scope

    def upload(self, data) -> None:
        """Takes the parts of an UPLOAD frame. Too many of them end the connection."""
        data, p, end = bytes(data), 0, len(data)
        if self.parts is None:
            self.parts = deque()
        while p < end:
            size, kind = PART.unpack_from(data, p)
            p += PART.size
            if size > end - p or size > MOST + 16:
                raise ValueError("a malformed part of a request")
            self.take(kind, data[p : p + size])
            p += size
        self.wake()

    def take(self, kind: int, data: bytes) -> None:
        if not self.more:
            raise ValueError("a part of a request that is complete")
        if kind in (LAST, BROKEN, CLOSE):
            self.more = False
        else:
            self.room_items -= 1
            self.room_bytes -= len(data)
            if self.room_items < 0 or self.room_bytes < -MOST:  # the last part may be larger than what is left
                raise ValueError("parts of a request without credit")
        self.parts.append((kind, data))

    def allow(self, items: int, size: int) -> None:
        self.room_items += items
        self.room_bytes += size
        self.worker.conn.send(ALLOW, 0, self.id, WINDOW.pack(items, size))

    def owe(self, size: int) -> None:
        """Gives the node credit for a part that was taken, in halves of its window."""
        self.owed_items += 1
        self.owed_bytes += size
        if self.more and not self.over and (self.owed_items >= ROOM[0] // 2 or self.owed_bytes >= ROOM[1] // 2):
            self.allow(self.owed_items, self.owed_bytes)
            self.owed_items = self.owed_bytes = 0

    def wake(self) -> None:
        waiting, self.waiting = self.waiting, ()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Waits until the request goes on or the exchange ends."""
        future = self.worker.loop.create_future()
        self.waiting = [*self.waiting, future]
        try:
            await future
        except asyncio.CancelledError:  # an application that polls cancels thousands
            self.waiting = [f for f in self.waiting if f is not future]
            raise

    def leave(self) -> None:
        """The client has left."""
        self.gone = True
        self.wake()
        self.credit(0, 0)  # a sender that waits for credit notices

    # ---- the answer

    def credit(self, items: int, size: int) -> None:
        self.items += items
        self.bytes += size
        room, self.room = self.room, None
        if room is not None and not room.done():
            room.set_result(None)

    def answer(self, head: bytes, body: bytes) -> bool:
        """whole() for the status 200, with a content-length. The frame of most answers is known by the head and the size of the body: all of it
        but the id and the body.
        """
        n = len(body)
        if not n or n > SMALL or self.sent or self.size or self.items < 2 or self.bytes < n or self.gone or self.head.startswith(b"HEAD\0"):
            return self.whole(200, head + b"\0content-length\0%d" % n, b"" if self.head.startswith(b"HEAD\0") else body)
        begin, middle = _around(head, n)
        id = ID.pack(self.id)
        self.worker.conn.put_frame(b"".join((begin, id, middle, body, END_BEGIN, id, b"\0\0")))
        self.sent = self.over = True
        if _logging.access:
            _logging.exchange_ended(self, 200)
        if self.launched:
            self.finish()
        return True

    def whole(self, status: int, head: bytes, body: bytes) -> bool:
        """Sends a whole answer in one write, if it is small and nothing of it was sent. If it returns False, it has done nothing."""
        n = len(body)
        if n > MOST or len(head) > MOST or self.sent or self.items < 2 or self.bytes < n or self.gone:
            return False
        if self.size:
            self.emit()
        h = len(head) + 2
        if n:
            data = b"".join((
                BEGIN.pack(h + n + 10, 0, ITEMS, 0, self.id, h, HEAD, status), head, PART.pack(n, BODY), body,
                END_FRAME.pack(0, 2, END, 0, self.id, 0, 0),
            ))
        else:
            data = b"".join((BEGIN.pack(h + 5, 0, ITEMS, 0, self.id, h, HEAD, status), head, END_FRAME.pack(0, 2, END, 0, self.id, 0, 0)))
        self.worker.conn.put(data)
        self.sent = self.over = True
        if _logging.access:
            _logging.exchange_ended(self, status)
        if self.launched:
            self.finish()
        return True

    async def put(self, kind: int, data: bytes) -> None:
        """Sends a part as soon as there is credit for it."""
        conn = self.worker.conn
        if self.size and self.size + len(data) > FRAME:
            self.unwritten += self.size
            self.emit()
            if self.unwritten > WRITE:
                self.unwritten = 0
                conn.flush()
        while True:  # other tasks send too: after every wait all is looked at again
            if self.gone or self.over:
                raise ClientGone
            if self.items <= 0 or self.bytes <= 0:
                self.emit()
                if self.room is None:
                    self.room = conn.loop.create_future()
                await asyncio.shield(self.room)  # there may be several senders, of which one is cancelled
            elif not conn.room.is_set():
                await conn.room.wait()
            else:
                break
        self.items -= 1
        self.bytes -= len(data)
        self.add(kind, data)
        if not self.scheduled:
            self.scheduled = True
            conn.loop.call_soon(self.emit)

    def add(self, kind: int, data: bytes) -> None:
        """Puts a part behind the others that wait for emit()."""
        if self.pending is None:
            self.pending = []
        self.pending += (PART.pack(len(data), kind), data)
        self.size += PART.size + len(data)

    async def pieces(self, kind: int, data: bytes, before: int) -> None:
        """Sends data in parts of at most PART_SIZE bytes: the last of this kind, the others of the kind before."""
        if len(data) <= PART_SIZE:
            await self.put(kind, data)
            return
        view, at = memoryview(data), 0
        try:
            while len(data) - at > PART_SIZE:
                await self.put(before, view[at : at + PART_SIZE])
                at += PART_SIZE
            await self.put(kind, view[at:])
        except BaseException:
            self.torn = self.torn or at > 0
            raise

    def emit(self) -> None:
        self.scheduled = False
        if self.size:
            pending, size = self.pending, self.size
            self.pending, self.size = None, 0
            if not self.over:
                self.worker.conn.put(HEADER.pack(size, 0, ITEMS, 0, self.id), *pending)

    def end(self) -> None:
        """Ends the exchange: the answer is complete."""
        if self.over:
            return
        self.emit()
        self.over = True
        self.worker.conn.put(END_FRAME.pack(0, 2, END, 0, self.id, 0, 0))
        self.finish()

    def waits(self) -> None:
        """Its coroutine waits after its first step."""

    def finish(self, error: Optional[BaseException] = None) -> None:
        """The call is over, though its coroutine may go on, for example with background tasks."""
        if _logging.access:
            _logging.exchange_ended(self, self.status, error)
        self.wake()
        self.credit(0, 0)  # a task that waits for credit notices
        self.worker.exchange_over(self)

    def fail(self, e: BaseException) -> None:
        """Ends the exchange with the exception that ended the application. After the end it is only logged: Starlette, for example, raises the
        exception of a route again when it has sent its answer of the status 500.
        """
        if not self.over:
            self.emit()
            self.over = True
            # Starlette's StreamingResponse makes a ClientDisconnect of the OSError of send().
            if self.gone and (isinstance(e, OSError) or type(e).__name__ == "ClientDisconnect"):
                e = asyncio.CancelledError()
            reason = reason_of(e)
            if reason is None and not isinstance(e, (asyncio.CancelledError, SystemExit, KeyboardInterrupt)) and error_reason(e) == "user":
                self.report(e, "was cut off in the middle of its answer" if self.sent else "failed")  # the node logs it no more
            self.worker.fail(self.id, e, self.info, reason)
            self.finish(e)
        elif isinstance(e, (SystemExit, KeyboardInterrupt)):
            raise e
        elif not isinstance(e, asyncio.CancelledError):
            self.report(e, "failed" if self.status >= 500 else "was answered, and failed after that")

    def report(self, e: BaseException, what: str) -> None:
        """Logs an exception of the program, once, for both ways in which an application can end with it."""
        p = self.head.split(b"\0", 4)
        name, path = p[0].decode("utf-8", "replace"), p[3].decode("utf-8", "replace")
        if self.info.http[0] == SOCKET:
            name, status = "WebSocket", "" if not self.sent else " 101" if self.status == 0 else f" {self.status}"
        else:
            status = f" {self.status}" if self.sent else " 500"
        _logging.failure(f"{name} {path}{status}: the request {what}, id {self.info.request_id}", e, self.info)


def reason_of(e: BaseException) -> Optional[str]:
    """The reason of an exception that a program raises itself, where its status is not 500."""
    return "deployment_unavailable" if isinstance(e, DeploymentUnavailableError) else None


__all__ = ["ClientGone", "Exchange", "fields", "whole_path"]
