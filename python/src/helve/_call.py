"""One call to the node, and the futures and tasks that wait for it."""

from __future__ import annotations

import asyncio
import contextvars
import os
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


class Waiter:
    """The object that a task waits on when it awaits a call. It is like a Future, but the task is woken inside the
    read that brought the answer, not in the next turn of the loop. Cancelling it (as task.cancel() does) does not
    cancel the call.
    """

    __slots__ = ("_loop", "_asyncio_future_blocking", "_call", "_callbacks", "_cancelled", "__weakref__")

    def __init__(self, call: "Call"):
        self._loop = call.conn.loop
        self._asyncio_future_blocking = False
        self._call, self._callbacks, self._cancelled = call, None, False

    @classmethod
    def of(cls, call: "Call") -> "Waiter":
        """A waiter for a call that has not ended."""
        w = cls(call)
        if call.waiters is None:
            call.waiters = [w]
        else:
            call.waiters.append(w)
        return w

    def get_loop(self):
        return self._loop

    def done(self):
        return self._cancelled or self._call.done

    def cancelled(self):
        return self._cancelled

    def add_done_callback(self, fn, *, context=None):
        if self.done():
            self._loop.call_soon(fn, self, context=context)
        elif self._callbacks is None:
            self._callbacks = [(fn, context)]
        else:
            self._callbacks.append((fn, context))

    def remove_done_callback(self, fn):
        before = self._callbacks or []
        self._callbacks = [c for c in before if c[0] != fn] or None
        return len(before) - len(self._callbacks or ())

    def _wake(self):
        callbacks, self._callbacks = self._callbacks, None
        if callbacks:
            # A read callback runs outside of any task, so the waiting task may be stepped right here.
            if asyncio.current_task(self._loop) is None:
                for fn, context in callbacks:
                    (context or contextvars.copy_context()).run(fn, self)
            else:
                for fn, context in callbacks:
                    self._loop.call_soon(fn, self, context=context)

    def cancel(self, msg=None):
        if self.done():
            return False
        self._cancelled = True
        callbacks, self._callbacks = self._callbacks, None
        for fn, context in callbacks or ():
            self._loop.call_soon(fn, self, context=context)
        return True

    def result(self):
        if self._cancelled:
            raise asyncio.CancelledError
        return self._call.outcome()

    def exception(self):
        if self._cancelled:
            raise asyncio.CancelledError
        return self._call.error

    def _make_cancelled_error(self):
        return asyncio.CancelledError()

    def __await__(self):
        if not self.done():
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    __iter__ = __await__


class Call:
    """One call to the node. All its state belongs to the connection's loop; listeners may be called on other
    threads.
    """

    __slots__ = (
        "conn", "id", "done", "value", "failure", "waiters", "listeners", "parent", "request_id", "cancelled", "tail", "part", "reading",
        "passes", "passed", "fetches", "by_value",
    )

    def __init__(self, conn: "Connection", request_id):
        self.conn, self.id, self.done, self.value, self.failure = conn, 0, False, None, None
        self.waiters = self.listeners = self.parent = None
        self.request_id, self.cancelled = request_id, False
        self.tail = b""  # the tail of the CALL, for streams and broadcasts
        self.part = None  # the value until it is read: a Value or a Kept
        self.reading = None  # the call that fetches it; True when it is read
        self.passes = False  # the arguments are parts, which are sent unchanged
        self.passed = False  # it is an argument of another call, which gets the value as it came
        self.by_value = False  # by an option of its handle
        self.fetches = None  # the number of the kept result that this call fetches

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
                    await Waiter.of(fetch)
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
        self.value, self.part = value, part
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
            for w in waiters:
                w._wake()
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

    def __await__(self):
        if not self.done:
            yield from Waiter.of(self).__await__()
        if self.part is not None:
            yield from self.load().__await__()
        return self.outcome()


__all__ = ["Call", "Waiter", "format_id", "new_request", "wake"]
