"""One call to the node, and the futures and tasks that wait for it."""

from __future__ import annotations

import asyncio
import os
from asyncio import Future
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any, Callable, Optional

from helve._encoding import Failure
from helve._errors import RequestCancelledError
from helve._parts import Kept, Segment, Value

if TYPE_CHECKING:
    from helve._wire import Connection


def format_id(b: bytes) -> str:
    h = b.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def new_request() -> bytes:
    b = bytearray(os.urandom(16))
    b[6] = b[6] & 0x0F | 0x40
    b[8] = b[8] & 0x3F | 0x80
    return bytes(b)


def wake(future, value: Any = None) -> None:
    """Completes a future, of asyncio or of concurrent.futures, whose reader may have given up at this moment."""
    try:
        if not future.done():
            future.set_result(value)
    except (InvalidStateError, asyncio.InvalidStateError):
        pass


class Call:
    """One call to the node. All its state belongs to the connection's loop; listeners may be called on other
    threads.
    """

    # The fields that every call sets. The others have the values of most calls here, and an instance has an attribute of its own when it
    # differs.
    __slots__ = ("conn", "id", "done", "value", "failure", "waiters", "listeners", "parent", "request_id", "__dict__")
    cancelled = False
    tail = b""  # the tail of the CALL, for streams and broadcasts
    part: Any = None  # the value until it is read: a Value or a Kept
    reading: Any = None  # the call that fetches it; True when it is read
    passes = False  # the arguments are parts, which are sent unchanged
    passed = False  # it is an argument of another call, which gets the value as it came
    by_value = False  # by an option of its handle
    span: Optional[tuple] = None  # in which it is made, if that is not the call of the request: the trace, the id, whether it is sampled
    fetches: Optional[int] = None  # the number of the kept result that this call fetches

    def __init__(self, conn: "Connection", request_id):
        self.conn, self.request_id, self.id, self.done = conn, request_id, 0, False
        self.value = self.failure = self.waiters = self.listeners = self.parent = None

    @property
    def error(self) -> Optional[BaseException]:
        """An exception for one reader, or None if the call did not fail."""
        return None if self.failure is None else self.failure.exception()

    def outcome(self):
        if self.failure is not None:
            raise self.failure.exception()
        return self.value

    def unread(self) -> bool:
        """Whether the value has to be read first; read() and load() do."""
        return self.part is not None and self.reading is not True

    def fetch(self) -> "Call":
        """The call that brings the value here from the node, which keeps it."""
        if self.reading is None:
            self.reading = self.conn.fetch(self.part)
        return self.reading

    def fetched(self, fetch: "Call") -> Any:
        """The value that an ended call of fetch() has brought. After an error of it another call may try again."""
        try:
            value = fetch.outcome() if fetch.failure is not None or fetch.part is None else fetch.part.load()
        except BaseException:
            if self.reading is fetch:
                self.reading = None
            raise
        self.loaded(value)
        return self.value

    def loaded(self, value: Any) -> None:
        if self.reading is not True:
            self.value, self.reading = value, True

    async def load(self) -> None:
        """Reads the value once. The part stays, to be passed on."""
        if self.reading is True:
            return
        if type(self.part) is Kept:
            fetch = self.fetch()
            if not fetch.done:
                try:
                    await fetch.waiter()
                except BaseException:
                    if fetch.done and self.reading is fetch:
                        self.reading = None
                    raise
            if self.reading is not True:
                self.fetched(fetch)
        else:
            self.loaded(self.part.load())

    def read(self, told: Callable[[Optional[Failure]], None]) -> None:
        """load() for another thread: told gets None, or the reason why the value cannot be read. It runs on the
        loop, for an ended call.
        """

        def attempt(load: Callable, *args) -> None:
            failure = None
            try:
                if self.reading is not True:
                    load(*args)
            except BaseException as e:  # a user's class that is unpickled: its SystemExit does not end this loop
                failure = Failure(e)
            told(failure)

        if self.failure is not None or not self.unread():
            told(None)
        elif type(self.part) is Kept:
            self.fetch().add_listener(lambda fetch: attempt(self.fetched, fetch))
        else:
            attempt(lambda: self.loaded(self.part.load()))

    def finish(self, value, error, part=None, meta=None, body=None):
        """Ends the call, once. error is an exception or a Failure; body is the data that value was decoded from."""
        if self.done:
            return
        self.value = value
        if part is not None:
            self.part = part
        if error is not None:
            self.failure = error if type(error) is Failure else Failure(error)
        self.done = True  # after the other fields: threads look at it first
        # After done, because pass_on() looks at done after it has set passed: one of the two sees the other's change.
        if self.passed and body is not None:
            self.reading, self.part = True, Value(meta[0], Segment(bytes(body)), [])
        parent, self.parent = self.parent, None
        if parent is not None:
            parent.discard(self)
        waiters, self.waiters = self.waiters, None
        if waiters is not None:
            if self.part is None or self.failure is not None:
                self.conn.settle(waiters, self.value, self.failure)
            else:
                self.settle_read([w for w in waiters if not w.done()])
        listeners, self.listeners = self.listeners, None
        if listeners is not None:
            for fn in listeners:
                fn(self)

    def pass_on(self) -> bool:
        """Notes that the result is an argument of another call. The result is True if the value is here: a reader
        may change it, so it has to be encoded at once. Otherwise a copy of its bytes is kept when it comes.
        """
        self.passed = True
        return self.done and self.failure is None and self.part is None

    def over(self) -> bool:
        """Whether it has ended. A call whose connection and loop have ended ends here. It runs on the loop."""
        if not self.done and self.conn.over is not None:
            if self.conn.was_forked:
                self.forget()
            self.finish(None, self.conn.over)
        return self.done

    def forget(self) -> None:
        """Drops the waiters: in a forked child they are threads of the parent, whose locks may be held for ever."""
        self.waiters = self.listeners = None

    def add_listener(self, fn: Callable[["Call"], None]):
        if self.done or self.over():
            fn(self)
        elif self.listeners is None:
            self.listeners = [fn]
        else:
            self.listeners.append(fn)

    def remove_listener(self, fn: Callable[["Call"], None]):
        if self.listeners is not None and fn in self.listeners:
            self.listeners.remove(fn)

    def cancel(self):
        self.cancelled = True
        if self.done:
            return
        if self.id and self.conn.pending.pop(self.id, None) is not None:
            self.conn.send_cancel(self.id)
        self.finish(None, RequestCancelledError(f"Request {self.request_text()} was cancelled."))

    def request_text(self) -> str:
        r = self.request_id
        return format_id(r) if isinstance(r, bytes) else r

    def waiter(self) -> "asyncio.Future[Any]":
        """A future of the connection's loop for the outcome of a call that has not ended. A task that awaits it is stepped inside the read that
        brings the answer, not in the next turn of the loop. Cancelling it (as task.cancel() does) does not cancel the call.
        """
        future = Future(loop=self.conn.loop)
        if self.waiters is None:
            self.waiters = [future]
        else:
            self.waiters.append(future)
        return future

    def settle_read(self, waiters: list) -> None:
        """Completes waiters with a value that has to be read first."""
        if waiters:
            self.read(lambda failure: self.conn.settle(waiters, self.value, failure))

    def __await__(self):
        if not self.done:
            return self.waiter().__await__()  # an iterator in C: the frames of generators here would cost as much as the rest
        return self.ended()

    def ended(self):
        """__await__() of a call that has ended."""
        if self.part is not None:
            yield from self.load().__await__()
        return self.outcome()


__all__ = ["Call", "format_id", "new_request", "wake"]
