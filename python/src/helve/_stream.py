"""Streams of items over the wire (docs/wire.md, "Streams"): the side of the generator and the side of its reader."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import struct
from collections import deque
from typing import Any, Optional

from helve._call import Call, wake
from helve._encoding import CLOUDPICKLE, decode, dumps, encode, outcome
from helve._errors import RequestCancelledError, too_large
from helve._pickling import PLAIN_TYPES, loads, pickled
from helve._frames import CREDIT, ITEMS, WINDOW, monotonic

ITEM = struct.Struct("<IB")
ROOM = (256, 1 << 20)  # items and bytes that a generator may be ahead of its reader
FRAME = 32 << 10  # bytes; items of one turn of the loop travel together, up to this size
TURN = 32  # number of items without a pause, after which other tasks have their turn
SMALL = 8 << 10
QUICK = 50e-6  # seconds of a fast step of a plain generator, of which several may go together,
TRUST = 8  # after this many


def is_stream(value: Any) -> bool:
    return inspect.isgenerator(value) or inspect.isasyncgen(value)


class Outflow:
    """The items that a generator in this process yields for one call. It belongs to the connection's loop."""

    __slots__ = ("conn", "id", "want", "items", "bytes", "pending", "size", "scheduled", "room", "frame")

    def __init__(self, conn, id: int, want: int, window: tuple):
        self.conn, self.id, self.want = conn, id, want
        self.items, self.bytes = window
        self.frame = min(FRAME, conn.max_body)
        self.pending: list = []
        self.size = 0
        self.scheduled = False
        self.room: Optional[asyncio.Future] = None

    def credit(self, items: int, size: int) -> None:
        self.items += items
        self.bytes += size
        room, self.room = self.room, None
        if room is not None and not room.done():
            room.set_result(None)

    def fits(self, value: Any) -> bool:
        """put() for most items: plain ones, for which there is room. If it returns False, it has done nothing."""
        if self.want != CLOUDPICKLE or type(value) not in PLAIN_TYPES or self.items <= 0 or self.bytes <= 0 or not self.conn.room.is_set():
            return False
        data = pickled(value, 5)
        n = len(data)
        if n > SMALL or self.size + ITEM.size + n > self.frame:
            return False
        self.items -= 1
        self.bytes -= n
        self.pending += (ITEM.pack(n, CLOUDPICKLE), data)
        self.size += ITEM.size + n
        if not self.scheduled:
            self.scheduled = True
            self.conn.loop.call_soon(self.emit)
        return True

    async def put(self, value: Any) -> None:
        """Sends an item as soon as the reader has room for it."""
        try:
            codec, data = (CLOUDPICKLE, dumps(value)) if self.want == CLOUDPICKLE else encode(self.want, value)
        except Exception as e:
            from helve import _unpicklable

            raise _unpicklable.item(e, value) from None
        n = len(data)
        if n + ITEM.size > self.conn.max_body:
            raise too_large("an item of the stream", n + ITEM.size, self.conn.max_body)
        while self.items <= 0 or self.bytes <= 0:
            self.emit()
            self.room = self.conn.loop.create_future()
            await self.room
        if self.size and self.size + ITEM.size + n > self.frame:
            self.emit()
            self.conn.flush()  # so that the number of waiting bytes is known
        while not self.conn.room.is_set():  # many windows together may be more than a slow node should be sent
            await self.conn.room.wait()
        self.items -= 1
        self.bytes -= n
        self.pending.append(ITEM.pack(n, codec))
        self.pending.append(data)
        self.size += ITEM.size + n
        if not self.scheduled:
            self.scheduled = True
            self.conn.loop.call_soon(self.emit)

    def emit(self) -> None:
        self.scheduled = False
        if not self.size:
            return
        body = b"".join(self.pending)
        self.pending, self.size = [], 0
        self.conn.send(ITEMS, 0, self.id, b"", body)

    async def drain(self, value: Any, in_thread) -> None:
        """Sends all items of a generator, and closes it in every case. in_thread, if it is given, runs the steps of
        a plain generator, and returns only when its thread is done: a generator cannot be closed while it
        executes.
        """
        n = 0
        if inspect.isasyncgen(value):
            try:
                async for item in value:
                    if not self.fits(item):
                        await self.put(item)
                    n += 1
                    if n % TURN == 0:
                        await asyncio.sleep(0)
            finally:
                await value.aclose()
            return
        end = object()
        quick = 0  # number of fast steps in a row
        try:
            while True:
                began = monotonic()
                if in_thread is not None:
                    item = await in_thread(next, value, end)
                else:
                    item = next(value, end)
                if item is end:
                    return
                if not self.fits(item):
                    await self.put(item)
                n += 1
                quick = quick + 1 if monotonic() - began < QUICK else 0
                # The next step may take long, and the loop stands still meanwhile: the pending items go out before
                # it, unless the last steps were fast.
                if quick < TRUST or n % TURN == 0:
                    self.emit()
                    self.conn.flush()
                    await asyncio.sleep(0)
        finally:
            if in_thread is not None:
                await in_thread(value.close)
            else:
                value.close()


class StreamCall(Call):
    """One streaming call to the node. Items are appended on the connection's loop and taken on the reader's thread."""

    __slots__ = ("items", "wanted", "owed_items", "owed_bytes")

    def __init__(self, conn, request_id):
        super().__init__(conn, request_id)
        self.items: deque = deque()
        self.wanted: list = []  # futures that are completed when there is more, once
        self.owed_items = self.owed_bytes = 0

    def on_items(self, body) -> None:
        data, p, end = bytes(body), 0, len(body)
        items = self.items
        while p < end:
            size, codec = ITEM.unpack_from(data, p)
            p += ITEM.size
            if size > end - p:
                raise ValueError("malformed items")
            items.append((codec, data[p : p + size]))
            p += size
        self._tell()

    def finish(self, value, error) -> None:
        super().finish(value, error)
        self._tell()

    def forget(self) -> None:
        super().forget()
        self.wanted = []

    def _tell(self) -> None:
        wanted, self.wanted = self.wanted, []
        for future in wanted:
            wake(future)

    def want(self, future) -> None:
        """Completes future when there is an item or the end. It runs on the loop."""
        if self.items or self.over():
            wake(future)
        else:
            self.wanted.append(future)

    def take(self) -> tuple:
        """(True, item), or (False, None) if no item has come yet. At the end it raises StopIteration or the error."""
        done = self.done  # read before the items, because the last items come before the end
        try:
            codec, data = self.items.popleft()
        except IndexError:
            if not done:
                return False, None
            self.outcome()
            raise StopIteration from None
        self.owed_items += 1
        self.owed_bytes += len(data)
        if not done and (self.owed_items >= ROOM[0] // 2 or self.owed_bytes >= ROOM[1] // 2):
            meta = WINDOW.pack(self.owed_items, self.owed_bytes)
            self.owed_items = self.owed_bytes = 0
            if asyncio._get_running_loop() is self.conn.loop:
                self._credit(meta)
            else:
                self.conn.post(self._credit, meta)
        try:
            return True, decode(codec, data)
        except KeyboardInterrupt:
            raise
        except BaseException as e:  # a user's class that is unpickled: its StopIteration is not the end of the stream
            raise outcome(e, "an item of the stream")

    def take_many(self):
        """The items that have come, one by one, for a reader on the connection's loop: take() without its checks for
        each item.
        """
        items, n, size = self.items, 0, 0
        try:
            while items:
                codec, data = items.popleft()
                n += 1
                size += len(data)
                if n >= ROOM[0] // 2 or size >= ROOM[1] // 2:
                    self.owe(n, size)
                    n = size = 0
                yield loads(data) if codec == CLOUDPICKLE else decode(codec, data)
        finally:
            self.owe(n, size)

    def owe(self, items: int, size: int) -> None:
        """Gives the method credit for the items that were read, in halves of its window. It runs on the loop."""
        self.owed_items += items
        self.owed_bytes += size
        if not self.done and (self.owed_items >= ROOM[0] // 2 or self.owed_bytes >= ROOM[1] // 2):
            meta = WINDOW.pack(self.owed_items, self.owed_bytes)
            self.owed_items = self.owed_bytes = 0
            self._credit(meta)

    def _credit(self, meta: bytes) -> None:
        if self.id and self.id in self.conn.pending:
            self.conn.send(CREDIT, 0, self.id, meta)

    def cancel(self) -> None:
        self.cancelled = True
        if self.done:
            return
        self.items.clear()
        if self.id and self.conn.pending.pop(self.id, None) is not None:
            self.conn.send_cancel(self.id)
        self.finish(None, RequestCancelledError(f"Request {self.request_text()} was cancelled."))

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is self.conn.loop:
            future = loop.create_future()
            self.want(future)
            await future
            return
        other: concurrent.futures.Future = concurrent.futures.Future()
        self.conn.post(self.want, other)
        await asyncio.wrap_future(other)

    def block(self) -> None:
        future: concurrent.futures.Future = concurrent.futures.Future()
        self.conn.post(self.want, future)
        future.result()


__all__ = ["Outflow", "ROOM", "StreamCall", "WINDOW", "is_stream"]
