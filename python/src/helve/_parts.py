"""Values that are not in one piece in their frame (docs/wire.md, "Values in parts"): buffers out of band, memory
that is shared with the node, and results that the node keeps.
"""

from __future__ import annotations

import os
import struct
from threading import get_ident
from time import monotonic
from typing import Any, Optional

from helve._encoding import CLOUDPICKLE, MSGPACK, PICKLE, RAW, decode
from helve._pickling import APART

IN_MEMORY, IN_KEEPING, KIND = 0x80, 0x40, 0x3F
BUFFER_SLOT = 3
LEASE, RELEASE, UNLEASE, DROP = 23, 24, 25, 26
FLAG_REFERENCE = 2
REFERENCE_OVER = 256 << 10  # bytes; larger results stay with the node until they are read, unless a handle says otherwise
IDLE = 10.0  # seconds after which unused leased memory is given back

REF = struct.Struct("<QQQQ")
NUMBER = struct.Struct("<Q")
KEPT = struct.Struct("<QQ")
WHERE = struct.Struct("<BI")


class Segment:
    """One part of a value: bytes, or a view of shared memory with its reference."""

    __slots__ = ("data", "ref")

    def __init__(self, data, ref: Optional[bytes] = None):
        self.data, self.ref = data, ref


class Value:
    """A value as it came, in its codec. It is decoded when it is read, and may be sent on unchanged."""

    __slots__ = ("codec", "main", "buffers")

    def __init__(self, codec: int, main: Segment, buffers: list):
        self.codec, self.main, self.buffers = codec, main, buffers

    def goes_over(self, conn) -> bool:
        """Whether calls over conn may have it unchanged."""
        return True

    def load(self) -> Any:
        return decode(self.codec, self.main.data, [b.data for b in self.buffers])


class Kept:
    """A result that the node keeps until the last reference to this object is gone."""

    __slots__ = ("codec", "conn", "number", "size", "__weakref__")

    def __init__(self, codec: int, conn, number: int, size: int):
        self.codec, self.conn, self.number, self.size = codec, conn, number, size

    def goes_over(self, conn) -> bool:
        return self.conn is conn

    def __del__(self):
        try:
            if self.conn.lost is None:  # in the child of a fork the loop is the parent's
                self.conn.loop.call_soon_threadsafe(self.conn.drop, self.number)
        except (AttributeError, RuntimeError):  # the loop is closed
            pass


def passable(part, options) -> bool:
    """Whether a call whose handle has these options takes a part unchanged."""
    if part.codec == options.request_codec:
        return True
    return options.python and options.request_codec == CLOUDPICKLE and part.codec in (PICKLE, RAW, MSGPACK)


class Memory:
    """This worker's side of the memory that the workers of its application share, over one connection. It is mapped
    when it is first needed: many workers never see a large value.
    """

    def __init__(self, conn, fd: int, offer: dict):
        """Owns fd."""
        self.conn, self.fd, self.offer, self.id = conn, fd, offer, offer["id"]
        self.timer = self.mapped = None
        self.used = 0.0  # when a buffer was put last
        self.due = False  # references are to be released at the end of the read that is being handled

    @property
    def arena(self):
        if self.mapped is None:
            from helve._arena import Arena

            fd, self.fd = self.fd, -1
            self.mapped = Arena(fd, self.id, self.offer["size"], most=self.offer["most"], wake=self.wake)
        return self.mapped

    def wake(self) -> None:
        """Has the references of views that have died released. The collector may call it anywhere. In a read that is being handled they go
        with the answers, so that the node is not woken for them alone.
        """
        conn = self.conn
        try:
            if conn.lost is not None:  # in the child of a fork the loop is the parent's
                return
            if get_ident() != conn.thread_id:
                conn.loop.call_soon_threadsafe(self.release)
            elif conn.reading:
                self.due = True
            else:
                conn.loop.call_soon(self.release)
        except RuntimeError:  # the loop is closed
            pass

    def release(self) -> None:
        self.due = False
        refs = self.arena.releases()
        if refs and self.conn.lost is None:
            self.conn.send(RELEASE, 0, 0, b"", b"".join(REF.pack(*r) for r in refs))

    def put(self, data) -> Optional[bytes]:
        """Copies a buffer in, and returns its reference; None if it is to go in the frame."""
        ref = self.arena.put(data)
        n = self.arena.stock.want()
        if n:
            self.conn.send(LEASE, 0, 0, b"", NUMBER.pack(n))
        self.give(self.arena.stock.returns())
        self.used = monotonic()
        if self.timer is None:
            self.timer = self.conn.loop.call_later(IDLE, self.rest)
        return REF.pack(*ref) if ref is not None else None

    def back(self, ref: bytes) -> None:
        """Takes back a reference of put() that was not sent."""
        from helve._arena import Ref

        self.arena.stock.back(Ref(*REF.unpack(ref)))

    def rest(self) -> None:
        self.timer = None
        left = self.used + IDLE - monotonic()
        if left > 0:
            self.timer = self.conn.loop.call_later(left, self.rest)
        elif self.conn.lost is None:
            self.give(self.arena.stock.returns(idle=True))

    def give(self, grants: list) -> None:
        if grants:
            self.conn.send(UNLEASE, 0, 0, b"", b"".join(REF.pack(self.id, *g) for g in grants))

    def on_lease(self, body) -> None:
        arena, generation, offset, length = REF.unpack(body)
        if arena == self.id and self.mapped is not None:
            from helve._arena import Grant

            self.arena.stock.granted(Grant(generation, offset, length))

    def take(self, ref: bytes) -> Segment:
        from helve._arena import Ref

        return Segment(self.arena.view(Ref(*REF.unpack(ref))), ref)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.mapped is not None:
            self.mapped.close()
        elif self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Out:
    """Collects the segments of a frame that is about to be written."""

    __slots__ = ("conn", "segments", "size", "total", "put")

    def __init__(self, conn):
        self.conn, self.segments, self.size, self.total = conn, [], 0, 0
        self.put: list = []  # references to the segments that were copied into memory

    def add(self, data) -> tuple:
        """The kind of a segment's place, and its length in the body. data is bytes, a buffer, a Segment or a Kept."""
        where = 0
        if type(data) is Kept:
            if data.conn is self.conn:
                where, data = IN_KEEPING, NUMBER.pack(data.number)
                return self._append(where, data)
            raise lost(data)
        memory = self.conn.memory
        if type(data) is Segment:
            self.total += len(data.data)
            if data.ref is not None and memory is not None and REF.unpack(data.ref)[0] == memory.id:
                return self._append(IN_MEMORY, data.ref)
            data, own = data.data, True
        else:
            self.total += len(data)
            own = type(data) is not memoryview or type(data.obj) is bytes
        if memory is not None and len(data) >= APART:
            ref = memory.put(data)
            if ref is not None:
                self.put.append(ref)
                return self._append(IN_MEMORY, ref)
        return self._append(0, data if own else bytes(data))  # it is written later, and its owner may change it

    def undo(self) -> None:
        """Gives back the references of a frame that will not be sent."""
        for ref in self.put:
            self.conn.memory.back(ref)

    def _append(self, where: int, data) -> tuple:
        self.segments.append(data)
        self.size += len(data)
        return where, len(data)


def lost(kept: Kept) -> Exception:
    from helve._errors import for_reason

    return for_reason("data_loss")(f"a result of {kept.size} bytes was lost with the node that kept it")


def tail_of(meta) -> dict:
    """The tail of an END."""
    out, p, end = {}, 2, len(meta)
    while p < end:
        k = meta[p]
        key = bytes(meta[p + 1 : p + 1 + k])
        size = int.from_bytes(meta[p + 1 + k : p + 3 + k], "little")
        p += 3 + k + size
        if p > end:
            raise ValueError("an answer whose meta is cut off")
        out[key] = bytes(meta[p - size : p])
    return out


def part(conn, where: int, data) -> Segment:
    """A segment that came. Bytes in a read buffer are copied: a buffer out of band may live as long as the value
    that refers to it.
    """
    if where == 0:
        return Segment(data.toreadonly() if conn.owned else bytes(data))
    if where != IN_MEMORY or conn.memory is None or len(data) != REF.size:
        raise ValueError("a segment that is neither in its frame nor in shared memory")
    return conn.memory.take(bytes(data))


def parse_end(conn, flags: int, meta, body):
    """The result of an END that has more than a codec and a body: a Value or a Kept."""
    tail = tail_of(meta)
    if flags & FLAG_REFERENCE:
        return Kept(meta[0], conn, *KEPT.unpack(tail[b"reference"]))
    entries = list(WHERE.iter_unpack(tail.get(b"buffers", b"")))
    p = len(body) - sum(size for _, size in entries)
    if p < 0:
        raise ValueError("buffers are longer than their frame")
    main, buffers = part(conn, meta[1], body[:p]), []
    for where, size in entries:
        buffers.append(part(conn, where, body[p : p + size]))
        p += size
    return Value(meta[0], main, buffers)


def parse_slots(conn, slots, body) -> list:
    """(kind, key, Value) of each argument of a call in parts."""
    out, p = [], 0
    if sum(slot[3] for slot in slots) != len(body):
        raise ValueError("the lengths of the arguments are not that of the body")
    for flags, codec, key, size in slots:
        segment = part(conn, flags & ~KIND, body[p : p + size])
        p += size
        kind = flags & KIND
        if kind == BUFFER_SLOT:
            if not out:
                raise ValueError("a buffer of no argument")
            out[-1][2].buffers.append(segment)
        else:
            out.append((kind, key, Value(codec, segment, [])))
    return out


__all__ = ["DROP", "FLAG_REFERENCE", "IN_MEMORY", "Kept", "LEASE", "Memory", "NUMBER", "Out", "REFERENCE_OVER", "Value", "WHERE", "lost", "parse_end", "parse_slots", "passable"]
