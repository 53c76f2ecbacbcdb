"""Frames and the connection to a node (docs/wire.md).

One event loop runs frames and user code. A read handles all its complete frames, and the answers leave in one
write at the end; outside of a read, writes of one turn of the loop leave together.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from concurrent.futures import InvalidStateError
from typing import Any, Callable, Optional

from helve import _fork, _limits
from helve._call import Call, new_request, wake
from helve._encoding import CLOUDPICKLE, MSGPACK, PICKLE, RAW, TEXT, Failure, decode, encode, envelope
from helve._errors import BackPressureError, RayServeException, ReplicaUnavailableError, too_large
from helve._frames import (
    ABOVE, ALLOW, CALL, CALL_BELOW, CALL_META, CALL_PACKED, CANCEL, CONTROL, CREDIT, END, END_FRAME, EXCHANGES, FLAG_ERROR, GOAWAY, HEADER, HELLO,
    ITEMS, MAX_BODY, OWN_MAX_BODY, PROOF, PROTOCOL, RAW_SLOT, READY, REPLY, ROUTE, SLOT, UPLOAD, WINDOW, HttpInfo, RequestInfo, call_ids, entry,
    in_parts, is_head, monotonic, packed, parse_args, parse_call, parse_parts, parse_tail, request_info, tails,
)
from helve._limits import (
    MAX_BACKLOG, MAX_CALLS, MAX_CONTROL_BYTES, MAX_CONTROLS, MAX_DEPTH, MAX_META, MAX_METHOD, MAX_NAME, MAX_SLOTS, ROUTE_BYTES, ROUTES,
)
from helve._parts import BUFFER_SLOT, DROP, FLAG_REFERENCE, LEASE, NUMBER, Kept, Memory, Out, Value, lost, parse_end
from helve._pickling import APART, PLAIN_TYPES, PROTOCOL as PICKLE_PROTOCOL, dumps, dumps_call, loads, pickled
from helve._tasks import make_settle

BUFFER = 256 << 10
OWN = 128 << 10  # bytes; larger bodies are received into memory of their own
JOIN_MAX = 64 << 10  # bytes; larger segments are written by themselves instead of being joined
STREAM_BACKLOG = 64 << 20  # bytes in the write queue from which on generators wait
FLUSH_AFTER = 0.0005  # seconds; in a long read, output that is pending for longer leaves early


class Connection(asyncio.BufferedProtocol):
    """One connection after its opening. server handles the requests of the node: on_call, on_control, on_goaway,
    on_lost.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, server: Any):
        self.loop, self.server = loop, server
        self.thread_id = 0  # of the thread that runs the loop; 0 if none does. Comparing it costs a third of asking asyncio for the running loop
        self.settle = make_settle(loop)
        self.on_packed = getattr(server, "on_packed", None)
        self.exchanges: dict = {}  # by the number of a route: the function that begins an HTTP request which came the short way
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.lo = self.hi = 0
        self.own: Optional[bytearray] = None
        self.own_view = self.own_header = None
        self.own_at = 0
        self.pending: dict[int, Call] = {}
        self.under_way = 0  # number of calls whose END has not come, cancelled ones too
        self.kept = 0  # number of results that the node keeps for this process
        self.controls: dict[int, tuple] = {}  # (future, size) of requests that were sent
        self.control_bytes = 0
        self.later: deque = deque()  # (future, request) of requests that wait until others are answered
        self.next_call = self.next_control = 0
        self.routes: dict[tuple, int] = {}
        self.route_bytes = 0
        self.out: list = []
        self.big = False
        self.scheduled = self.reading = False
        self.lost: Optional[BaseException] = None
        self.over: Optional[Failure] = None  # set together with lost: the failure of calls that have not ended
        self.was_forked = False
        self.posted: deque = deque()  # (function, arguments) from other threads
        self.woken = False  # the loop has been woken for them
        self.wake = loop.call_soon_threadsafe
        self.after = threading.RLock()  # once the loop has ended, its holder does the work of the loop
        self.max_body = MAX_BODY  # the largest body that the other side takes
        self.segments = False  # the other side takes values in parts
        self.memory: Optional[Memory] = None  # shared with the node
        self.owned = False  # the frame that is being handled has memory of its own
        self.refused = False  # the other side broke the protocol
        self.room = asyncio.Event()  # cleared while the write queue is so long that generators wait
        self.room.set()
        _fork.tell(self)

    def agreed(self, welcome: dict) -> None:
        """Takes the limits of the node's HELLO."""
        self.max_body = welcome.get("max_body") or MAX_BODY
        self.segments = "segments" in welcome.get("features", ())
        fd = welcome.pop("arena_fd", None)
        if fd is not None:
            self.memory = Memory(self, fd, welcome["arena"])

    # ---- other threads

    def post(self, fn: Callable, *args) -> None:
        """Runs fn on the loop, after the functions that this thread posted before. When the loop has ended it runs
        here: a response can be read for as long as it lives.
        """
        self.posted.append((fn, args))
        if self.woken:
            return
        self.woken = True
        try:
            self.wake(self.take_posted)
        except RuntimeError:  # the loop is closed
            self.take_posted_here()

    def take_posted(self) -> None:
        self.woken = False  # before the look: a function that is posted from now on wakes the loop again
        posted = self.posted
        for _ in range(len(posted)):
            try:
                fn, args = posted.popleft()
            except IndexError:
                return
            try:
                fn(*args)
            except Exception as e:
                self.loop.call_exception_handler({"message": f"helve: {fn} failed", "exception": e})
            except BaseException:  # the rest is for the next turn of a loop that goes on
                if posted:
                    self.post(lambda: None)
                raise

    def take_posted_here(self) -> None:
        """take_posted() of a loop that has ended: on its thread once, after the loop was closed, and then on the
        thread of each post().
        """
        with self.after:
            while self.posted:
                self.take_posted()

    def forked(self) -> None:
        """Marks this as the copy of a connection in the child of a fork: it is the parent's. Locks may be held by
        threads that do not exist here.
        """
        if self.over is None:
            self.over = Failure(RayServeException(
                "this process was forked from the one that made the call, and cannot read its responses: read them there, or call again here"
            ))
        self.lost = self.lost or ConnectionError("the connection is the parent's")
        self.was_forked, self.woken, self.thread_id = True, False, 0
        self.posted, self.after, self.wake = deque(), threading.RLock(), _no_loop
        pending, self.pending, self.controls = self.pending, {}, {}
        self.later = deque()
        for call in pending.values():
            call.over()

    # ---- writing

    def put(self, head: bytes, *segments) -> None:
        out = self.out
        out.append(head)
        for s in segments:
            if len(s):
                if len(s) > JOIN_MAX:
                    self.big = True
                out.append(s)
        if not self.reading and not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.flush)

    def put_frame(self, frame: bytes) -> None:
        """put() of a small frame in one piece."""
        self.out.append(frame)
        if not self.reading and not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.flush)

    def send_cancel(self, id: int) -> None:
        self.send(CANCEL, 0, id)

    def send(self, kind: int, flags: int, id: int, meta: bytes = b"", body=b"") -> None:
        self.put(HEADER.pack(len(body), len(meta), kind, flags, id) + meta, body)

    def flush(self) -> None:
        self.scheduled = False
        out = self.out
        if not out:
            return
        self.out = []
        if self.lost is not None:
            return
        if len(out) == 1:
            self.write(out[0])
        elif not self.big:
            self.write(b"".join(out))
        else:
            self.big = False
            small: list = []
            for o in out:
                if len(o) > JOIN_MAX:
                    if small:
                        self.write(b"".join(small))
                        small = []
                    self.write(o)
                else:
                    small.append(o)
            if small:
                self.write(b"".join(small))

    # ---- asyncio.BufferedProtocol

    def connection_made(self, transport) -> None:
        self.transport, self.thread_id = transport, threading.get_ident()
        self.write = transport.write
        transport.set_write_buffer_limits(STREAM_BACKLOG)

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def connection_lost(self, exc) -> None:
        ending = getattr(self.server, "ending", None)
        self.over = Failure(ReplicaUnavailableError(ending() if ending is not None else "the node has gone away"))
        self.lost = exc or ConnectionError("the connection to the node has ended")
        self.room.set()
        if self.memory is not None:
            self.memory.close()
        pending, self.pending = self.pending, {}
        for call in list(pending.values()):
            call.finish(None, self.over)
        controls, self.controls = self.controls, {}
        later, self.later = self.later, deque()
        for f, _ in (*controls.values(), *later):
            fail(f, self.over)
        self.server.on_lost(self.lost)

    def eof_received(self):
        return False

    def get_buffer(self, hint):
        if self.own is not None:
            return self.own_view[self.own_at :]
        return self.view[self.hi :] if self.hi else self.view

    def buffer_updated(self, n: int) -> None:
        self.reading = True
        try:
            if self.own is not None:
                self.own_at += n
                if self.own_at < len(self.own):
                    return
                view, self.own = self.own_view, None
                header, meta = self.own_header
                self.own_view = self.own_header = None
                self.dispatch(header, meta, view, True)
            else:
                self.hi += n
                self.parse()
        finally:
            memory = self.memory
            if memory is None:
                self.reading = False
            else:
                if memory.due:
                    memory.release()
                self.reading = False  # a view that dies from now on schedules its release
                if memory.due:  # the collector has run meanwhile: release() makes objects
                    self.loop.call_soon(memory.release)
            if self.out and not self.scheduled:
                self.flush()

    def parse(self) -> None:
        view, buffer, unpack = self.view, self.buffer, HEADER.unpack_from
        since = 0.0
        while self.hi - self.lo >= 16 and not self.refused:
            lo = self.lo
            kind, length = buffer[lo + 6], buffer[lo + 4]  # the low byte of the length of the meta
            if kind == CALL:
                end = self.call_quickly(lo) if length == 72 else self.exchange_quickly(lo, length) if length == 98 or length == 106 else 0
            else:
                end = self.end_quickly(lo) if kind == END and length == 2 else 0
            if not end:
                header = unpack(view, lo)
                start = lo + 16
                body = start + header[1]
                end = body + header[0]
                if end > self.hi:
                    if header[0] > OWN_MAX_BODY:
                        self.refuse(f"a body of {header[0]} bytes, at most {OWN_MAX_BODY} are taken")
                        return
                    if header[0] > OWN and self.hi >= body:
                        own = bytearray(header[0])
                        self.own_view, have = memoryview(own), self.hi - body
                        self.own_view[:have] = view[body : self.hi]
                        self.own, self.own_at = own, have
                        self.own_header = (header, bytes(view[start:body]))
                        self.lo = self.hi = 0
                        return
                    break
                self.lo = end  # before the dispatch, so that a frame that fails is not read again
                self.dispatch(header, view[start:body], view[body:end], False)
            if self.out and end < self.hi:
                now = monotonic()
                if not since:
                    since = now
                elif now - since > FLUSH_AFTER:
                    self.flush()
                    since = 0.0
        if self.lo == self.hi:
            self.lo = self.hi = 0
        elif BUFFER - self.lo < OWN + (80 << 10):  # the rest of the frame may not fit behind lo
            left = bytes(view[self.lo : self.hi])
            view[: len(left)] = left
            self.lo, self.hi = 0, len(left)

    def end_quickly(self, lo: int) -> int:
        """The short way of the most frequent answer: a whole END in the buffer, without error, parts and tail, that brings a pickle to a plain
        call. The result is the end of the frame, or 0 if it goes the way of all frames: then nothing has been done.
        """
        if self.hi - lo < 18:
            return 0
        size, length, _, flags, id, codec, where = END_FRAME.unpack_from(self.buffer, lo)
        end = lo + 18 + size
        if length != 2 or flags or where or codec != CLOUDPICKLE or end > self.hi:
            return 0
        call = self.pending.get(id)
        if type(call) is not Call or call.passed:
            return 0
        self.lo = end  # before the answer is read, so that a frame that fails is not read again
        self.under_way -= 1
        del self.pending[id]
        try:
            try:
                value = loads(self.view[lo + 18 : end])
            except BaseException as e:  # a user's class that is unpickled: its SystemExit does not end this loop
                call.finish(None, e)
            else:
                call.finish(value, None)
        except Exception as e:
            self.not_handled(END, id, call, e)
        return end

    def call_quickly(self, lo: int) -> int:
        """end_quickly() for a CALL: one packed slot with a pickle, and no tail."""
        if self.hi - lo < 88 or self.on_packed is None:
            return 0
        size, length, _, flags, id, number, want, depth, n, left, request, trace, span, call, kind, codec, _, _ = CALL_PACKED.unpack_from(self.buffer, lo)
        end = lo + 88 + size
        if length != 72 or flags or n != 1 or kind or codec != CLOUDPICKLE or end > self.hi:
            return 0
        self.lo, self.owned = end, False
        info = RequestInfo(request, trace, span, call, depth, monotonic() + left / 1e6 if left else None, id)
        try:
            self.on_packed(id, number, want, info, self.view[lo + 88 : end])
        except Exception as e:
            self.not_handled(CALL, id, None, e)
        return end

    def exchange_quickly(self, lo: int, length: int) -> int:
        """end_quickly() for the CALL of an HTTP request: its head, perhaps a whole small body, and a tail that has come the general way before."""
        at = lo + 16 + length
        if at > self.hi:
            return 0
        if length == 98:
            size, both, _, flags, id, number, _, depth, n, left, request, trace, span, call, kind, key, first, tail = EXCHANGES[98].unpack_from(self.buffer, lo)
            good = n == 1 and not key and first == size
        else:
            size, both, _, flags, id, number, _, depth, n, left, request, trace, span, call, kind, _, first, kind2, _, second, tail = EXCHANGES[
                106
            ].unpack_from(self.buffer, lo)
            good = n == 2 and first + second == size and kind2 == RAW_SLOT
        end = at + size
        begin, known = self.exchanges.get(number), tails.get(tail)
        if not good or kind != RAW_SLOT or flags or both != length or end > self.hi or begin is None or known is None:
            return 0
        window, http = known
        view = self.view
        head = bytes(view[at : at + first])
        if window is None or http[0] != 1 or not is_head(head):
            return 0
        self.lo, self.owned = end, False
        info = HttpInfo(request, trace, span, call, depth, monotonic() + left / 1e6 if left else None, id, window, http)
        try:
            begin(id, info, head, bytes(view[at + first : end]) if first < size else b"")
        except Exception as e:
            self.not_handled(CALL, id, None, e)
        return end

    def dispatch(self, header, meta, body, owned: bool) -> None:
        kind, flags, id = header[2], header[3], header[4]
        self.owned = owned
        call = None
        try:
            if kind == END:
                self.under_way -= 1
                call = self.pending.pop(id, None)
                if meta[1] or flags & FLAG_REFERENCE or len(meta) > 2:
                    part = parse_end(self, flags, meta, body)  # also without a reader: it has references to give back
                    self.kept += bool(flags & FLAG_REFERENCE)
                    if call is not None:
                        call.finish(None, None, part)
                    return
                if call is None:
                    return
                if flags & FLAG_ERROR:
                    call.finish(None, Failure(None, bytes(body)))
                    return
                try:
                    value = decode(meta[0], body)
                except BaseException as e:  # a user's class that is unpickled: its SystemExit does not end this loop
                    call.finish(None, e)
                else:
                    if type(call) is Call:
                        call.finish(value, None, None, meta, body)
                    else:
                        call.finish(value, None)
            elif kind == CALL:
                self.server.on_call(id, meta, body)
            elif kind == ITEMS:
                call = self.pending.get(id)
                if call is not None:
                    call.on_items(body)
            elif kind == CREDIT:
                self.server.on_credit(id, *WINDOW.unpack(meta))
            elif kind == UPLOAD:
                self.server.on_upload(id, body)
            elif kind == CANCEL:
                self.server.on_cancel(id)
            elif kind == CONTROL:
                self.on_control(id, bytes(body))
            elif kind == REPLY:
                future, size = self.controls.pop(id, (None, 0))
                if future is not None:
                    self.control_bytes -= size
                    self.send_later()
                    wake(future, json.loads(bytes(body)))
            elif kind == LEASE and self.memory is not None:
                self.memory.on_lease(body)
            elif kind == ROUTE:
                self.server.on_route(id, json.loads(bytes(body)))
            elif kind == GOAWAY:
                self.server.on_goaway(json.loads(bytes(body)))
            else:
                raise ValueError(f"frame of unknown type {kind}")
        except Exception as e:
            self.not_handled(kind, id, call, e)

    def not_handled(self, kind: int, id: int, call: Optional[Call], e: Exception) -> None:
        self.loop.call_exception_handler({"message": "helve: a frame could not be handled", "exception": e})
        if kind == END and call is not None:
            self.pending.setdefault(id, call)  # it ends with the connection
        self.refuse(f"frame of type {kind}: {type(e).__name__}: {e}")

    def on_control(self, id: int, raw: bytes) -> None:
        try:
            request = json.loads(raw)
        except json.JSONDecodeError:
            raise
        except (RecursionError, ValueError) as e:  # a user config that is JSON, but deeper than this interpreter reads
            text = f"the request is not read here: {type(e).__name__}: {e}"
            self.send(REPLY, 0, id, b"", json.dumps({"error": {"reason": "bad_input", "message": text}}).encode())
        else:
            self.server.on_control(id, request, raw)

    def refuse(self, why: str) -> None:
        """Ends the connection with a reason: the other side breaks the protocol. Frames after that are not read."""
        if self.refused:
            return
        self.refused = True
        self.send(GOAWAY, 0, 0, b"", json.dumps({"code": "InvalidArgument", "reason": "protocol", "message": why[:1000]}).encode())
        self.flush()
        self.transport.close()

    # ---- calls out

    def route(self, app: str, deployment: str, method: str) -> int:
        """The number of a route, which the node is told. There are ROUTES of them: when they are used up they are
        reused, so that names without a method, as a dispatcher's client may send, leave no memory here or there.
        A CALL is read before the next ROUTE.
        """
        key = (app, deployment, method)
        n = self.routes.get(key)
        if n is None:
            if len(method) > MAX_METHOD or len(_limits.utf8("the method's name", method)) > MAX_METHOD:
                raise no_method(deployment, method)
            for what, v in (("the application's name", app), ("the deployment's name", deployment)):
                _limits.text(what, v, MAX_NAME)
            body = json.dumps({"app": app, "deployment": deployment, "method": method}).encode()
            if len(self.routes) >= ROUTES or self.route_bytes + len(body) > ROUTE_BYTES:
                self.routes, self.route_bytes = {}, 0
            self.route_bytes += len(body)
            n = self.routes[key] = len(self.routes) + 1
            self.send(ROUTE, 0, n, b"", body)
        return n

    def start(self, call: Call, target: tuple, info: Optional[RequestInfo], options, args: tuple, kwargs: dict) -> None:
        """Sends a call. It runs on the loop; errors go to the call."""
        if call.done:  # cancelled before it was sent
            return
        try:
            if not self.send_quickly(call, target, info, options, args, kwargs):
                self.send_call(call, target, info, options, args, kwargs)
        except Exception as e:  # no byte of it was sent
            from helve import _unpicklable

            call.finish(None, _unpicklable.argument(e, target, args, kwargs))

    def send_quickly(self, call: Call, target: tuple, info: Optional[RequestInfo], options, args: tuple, kwargs: dict) -> bool:
        """The short way of the most frequent call: plain arguments from a method that runs for a call of the node, by a handle without options.
        If it returns False, it has done nothing: send_call() sends the call, or has an error for it.
        """
        if not options.plain or info is None or not info.frame or info.text or info.sampled or call.tail or call.span is not None or call.passes or self.over is not None:
            return False
        for v in args:
            if type(v) not in PLAIN_TYPES or type(v) is bytes and len(v) >= APART:
                return False
        if kwargs:
            for v in kwargs.values():
                if type(v) not in PLAIN_TYPES or type(v) is bytes and len(v) >= APART:
                    return False
        depth, left, number = info.depth + 1, 0, self.routes.get(target)
        if number is None or depth >= MAX_DEPTH or self.under_way >= MAX_CALLS or not self.room.is_set():
            return False
        if info.deadline is not None:
            left = int((info.deadline - monotonic()) * 1e6)
            if left <= 0:
                return False
        body = pickled((args, kwargs), PICKLE_PROTOCOL)
        size = len(body)
        if size >= APART or size > self.max_body:
            return False
        self.next_call = call.id = id = self.next_call + 1
        self.under_way += 1
        self.pending[id] = call
        self.put_frame(CALL_BELOW.pack(
            size, 86, CALL, 0, id, number, CLOUDPICKLE, depth, 1, left, info.request, info.trace, info.call.to_bytes(8, "big"), next(call_ids), 0, CLOUDPICKLE, 0, size,
            5, b"above", 6, 0, 0, info.frame & 0xFFFFFFFF,
        ) + body)
        return True

    def send_call(self, call: Call, target: tuple, info: Optional[RequestInfo], options, args: tuple, kwargs: dict) -> None:
        """Sends a call, or raises before a byte of it is sent."""
        if self.over is not None:
            raise self.over.exception()
        if self.under_way >= MAX_CALLS:
            raise BackPressureError(f"{self.under_way} calls are under way on the connection to the node, more are not possible: call again when some have ended")
        if not self.room.is_set() and self.transport.get_write_buffer_size() > MAX_BACKLOG:
            raise BackPressureError(f"over {MAX_BACKLOG} bytes wait to be sent to the node: call again when it has read some")
        depth, left, trace, span = 0, 0, b"", b""
        text = ""
        if info is not None:
            depth, trace, span, text = info.depth + 1, info.trace, info.call.to_bytes(8, "big"), info.text
            if depth >= MAX_DEPTH:
                raise RayServeException(f"calls are nested {depth} deep")
            if info.deadline is not None:
                left = int((info.deadline - monotonic()) * 1e6)
                if left <= 0:
                    raise TimeoutError("the deadline of the request has passed")
        sampled = info is not None and info.sampled
        if call.span is not None:
            trace, span, sampled = call.span
        out = None
        try:
            request = call.request_id if isinstance(call.request_id, bytes) else b""
            codec = options.request_codec
            if call.fetches is not None:
                slots = b""
                segments: list = []
                size = count = 0
            elif call.passes and type(args) is Value:  # a call of start_elsewhere()
                body, slots = args.main.data, None
                size = len(body)
                if args.buffers or size >= APART and self.memory is not None:
                    out = Out(self)
                    slots = packed(out, codec, body, args.buffers)
                    segments, size, count = out.segments, out.size, 1 + len(args.buffers)
            elif options.python and (codec == CLOUDPICKLE or codec == PICKLE) and not call.passes:  # Go takes arguments one by one
                buffers: Optional[list] = [] if self.segments else None
                body = dumps_call(codec == PICKLE, args, kwargs, buffers)
                size = len(body)
                slots = None
                if buffers or size >= APART and self.memory is not None:
                    out = Out(self)
                    slots = packed(out, codec, body, buffers)
                    segments, size, count = out.segments, out.size, 1 + len(buffers)
            else:
                out = Out(self)
                slots, count = self.slots(out, options, args, kwargs)
                segments, size = out.segments, out.size
            total = size if out is None else max(size, out.total)
            if total > self.max_body:
                raise too_large("the arguments", total, self.max_body)
            number = self.routes.get(target) or self.route(*target)
            id = self.next_call + 1
            want = options.response_codec
            tail = b""
            if text:
                tail += entry(b"rid", text.encode())
            if sampled:
                tail += entry(b"sampled", b"")
            elif sampled is None:
                tail += entry(b"sample", b"")  # the node decides
            if options.model:
                tail += entry(b"model", options.model.encode())
            if options.session:
                tail += entry(b"session", options.session.encode())
            if call.tail:
                tail += call.tail
            elif call.fetches is not None:
                tail += entry(b"fetch", NUMBER.pack(call.fetches))
            elif options.by_reference is not None and self.segments:
                tail += _BY_REFERENCE if options.by_reference else _BY_VALUE
            if info is not None and info.frame:
                tail += ABOVE.pack(5, b"above", 6, 0, 0, info.frame & 0xFFFFFFFF)  # the last one; loose: a call does not wait for its children
            length = len(tail) + (72 if slots is None else 64 + len(slots))
            if length > MAX_META:
                raise ValueError(f"the call's own data, with the names of its arguments: {length} bytes, at most {MAX_META} fit into one call")
            if slots is None:
                head = CALL_PACKED.pack(
                    size, 72 + len(tail), CALL, 0, id, number, want, depth, 1, left, request, trace, span, next(call_ids), 0, codec, 0, size
                )
                self.next_call = call.id = id
                self.under_way += 1
                self.pending[id] = call
                self.put(head + tail if tail else head, body)
                return
            meta = CALL_META.pack(number, want, depth, count, left, request, trace, span, next(call_ids)) + slots + tail
            self.next_call = call.id = id
            self.under_way += 1
            self.pending[id] = call
            self.put(HEADER.pack(size, len(meta), CALL, 0, id) + meta, *segments)
        except BaseException:
            if out is not None:
                out.undo()
            raise

    def drop(self, number: int) -> None:
        """Drops a kept result that is not needed any more."""
        self.kept -= 1
        if self.lost is None:
            self.send(DROP, 0, number)

    def fetch(self, kept: Kept) -> "Call":
        """A call for a result that the node keeps."""
        call = Call(self, new_request())
        call.fetches = kept.number
        if self.lost is not None or kept.conn is not self:
            call.finish(None, lost(kept))
        else:
            self.start(call, ("", "", ""), None, _PLAIN_OPTIONS, (), {})
        return call

    def slots(self, out: Out, options, args: tuple, kwargs: dict):
        """The slot table of arguments one by one, and the number of its entries."""
        table: list = []
        if len(args) + len(kwargs) > MAX_SLOTS:
            raise ValueError(f"{len(args) + len(kwargs)} arguments: at most {MAX_SLOTS} fit into one call")
        for i, v in enumerate(args):
            self.slot(out, options, table, 1, i, b"", v)
        for k, v in kwargs.items():
            name = k.encode()
            if len(name) > MAX_META:
                raise ValueError(f"the name of an argument ({k[:30]}...): {len(name)} bytes, at most {MAX_META} fit into one call")
            self.slot(out, options, table, 2, len(name), name, v)
        if len(table) > MAX_SLOTS:
            raise ValueError(f"{len(table)} arguments and buffers: at most {MAX_SLOTS} fit into one call")
        return b"".join(table), len(table)

    def slot(self, out: Out, options, table: list, kind: int, key: int, name: bytes, v) -> None:
        buffers: list = []
        if type(v) is Value:
            codec, main, buffers = v.codec, v.main, v.buffers
        elif type(v) is Kept:
            codec, main = v.codec, v
        elif options.python and options.request_codec == CLOUDPICKLE and self.segments:
            codec, main = CLOUDPICKLE, dumps(v, buffers)
        else:
            codec, main = encode(options.request_codec, v)
        where, size = out.add(main)
        table.append(SLOT.pack(kind | where, codec, key, size) + name)
        for b in buffers:
            where, size = out.add(b)
            table.append(SLOT.pack(BUFFER_SLOT | where, RAW, 0, size))

    def control(self, op: str, **fields) -> "asyncio.Future":
        future = self.loop.create_future()
        self.ask(future, op, _limits.request(op, fields))
        return future

    def ask(self, future, op: str, body: bytes) -> None:
        """Sends a control request. future, of asyncio or of concurrent.futures, gets the reply."""
        if self.over is not None:
            fail(future, self.over)
        elif len(body) > self.max_body:
            fail(future, Failure(too_large(f"the request {op}", len(body), self.max_body)))
        else:
            self.later.append((future, body))
            self.send_later()

    def send_later(self) -> None:
        """Sends the waiting requests, as long as there is room for them at the node. For example, a program that
        gives back 5,000 selections at once sends 4,096 requests, and the others as these are answered.
        """
        later = self.later
        while later:
            size = len(later[0][1])
            if len(self.controls) >= MAX_CONTROLS or self.controls and self.control_bytes + size > max(MAX_CONTROL_BYTES, 2 * self.max_body):
                return
            future, body = later.popleft()
            self.next_control = id = self.next_control + 1
            self.controls[id] = (future, size)
            self.control_bytes += size
            self.send(CONTROL, 0, id, b"", body)


def fail(future, failure: Failure) -> None:
    """Completes a future of ask() whose reader may have given up at this moment."""
    try:
        if not future.done():
            future.set_exception(failure.exception())
    except (InvalidStateError, asyncio.InvalidStateError):
        pass


def no_method(deployment: str, method: str) -> BaseException:
    """The error of a name that no method can have."""
    text = f"deployment {deployment} has no method {_limits.shown(method)}: a name has at most {MAX_METHOD} bytes"
    return Failure(None, envelope({"reason": "no_method", "message": text, "deployment": deployment})).exception()


def _no_loop(*_) -> None:
    raise RuntimeError("the loop is the parent's")


_BY_REFERENCE, _BY_VALUE = entry(b"reference", b""), entry(b"value", b"")


class _PlainOptions:
    request_codec = response_codec = CLOUDPICKLE
    python, by_reference, model, session, plain = True, None, "", "", False


_PLAIN_OPTIONS = _PlainOptions()


__all__ = ["Call", "Connection", "MAX_META", "RequestInfo", "parse_args", "parse_call", "request_info", "MSGPACK", "TEXT"]
