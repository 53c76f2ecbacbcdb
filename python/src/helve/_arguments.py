"""The arguments of calls that are sent after remote() has returned. That happens in two cases: the connection's loop
is the loop of another thread, or responses among the arguments are still to come. An argument arrives with the
value that it had when remote() was called, because its caller may change it after that. For example, `r =
h.total.remote(batch); batch.clear()` in a driver.
"""

from __future__ import annotations

import time
from typing import Any, Optional

from helve import _runtime, _spans
from helve._call import Call
from helve._encoding import CLOUDPICKLE, PICKLE, encode
from helve._parts import Kept, Segment, Value, passable
from helve._pickling import dumps, dumps_call


def _fixed(buffer) -> Segment:
    """A copy of a buffer that its owner cannot change."""
    return Segment(buffer if type(buffer) is not memoryview or type(buffer.obj) is bytes else bytes(buffer))


def value_now(conn, options, v: Any) -> Value:
    """One argument with its present value."""
    if options.python and options.request_codec == CLOUDPICKLE and conn.segments:
        buffers: list = []
        main = dumps(v, buffers)
        return Value(CLOUDPICKLE, Segment(main), [_fixed(b) for b in buffers])
    codec, main = encode(options.request_codec, v)
    return Value(codec, Segment(main), [])


def _explained(e: Exception, target: tuple, args: tuple, kwargs: dict) -> BaseException:
    """The error of arguments that cannot be encoded, with the place in them. The modules for that are imported when they are needed."""
    from helve import _unpicklable

    return _unpicklable.argument(e, target, args, kwargs)


def start_elsewhere(conn, call: Call, target: tuple, info, options, args: tuple, kwargs: dict) -> None:
    """conn.start() from another thread than the loop's."""
    call.passes = True
    try:
        if options.python and options.request_codec in (CLOUDPICKLE, PICKLE):
            buffers: Optional[list] = [] if conn.segments else None
            body = dumps_call(options.request_codec == PICKLE, args, kwargs, buffers)
            args, kwargs = Value(options.request_codec, Segment(body), [_fixed(b) for b in buffers or ()]), {}
        else:
            args = tuple(value_now(conn, options, v) for v in args)
            kwargs = {k: value_now(conn, options, v) for k, v in kwargs.items()}
    except Exception as e:  # no other code has seen the call yet
        call.finish(None, _explained(e, target, args, kwargs))
    else:
        conn.post(conn.start, call, target, info, options, args, kwargs)


class Arguments:
    """Waits for the calls among the arguments, all at once, and then sends the call."""

    def __init__(self, conn, call: Call, target: tuple, info, options, values: list, names: list):
        """values are the positional arguments, and then the ones by name; a Call stands for its result."""
        self.conn, self.call, self.target, self.info, self.options = conn, call, target, info, options
        self.values, self.names = values, names
        self.missing: list = []  # (index, the call) of results that have not come yet
        self.began = 0  # to wait, in nanoseconds since 1970; 0 outside of replicas

    def take(self) -> bool:
        """Takes the results that have come, in the thread that calls remote(). False if the call has failed."""
        try:
            for i, v in enumerate(self.values):
                if not isinstance(v, Call):
                    self.values[i] = value_now(self.conn, self.options, v)
                elif v.pass_on():
                    self.values[i] = value_now(self.conn, self.options, v.value)
                else:
                    self.missing.append((i, v))
        except Exception as e:  # no other code has seen the call yet
            self.call.finish(None, e)
            return False
        return True

    def wait(self) -> None:
        """Waits for the missing results. It runs on the loop."""
        if self.missing and self.info is not None and _runtime.replica is not None:
            self.began = time.time_ns()
        missing, self.missing = self.missing, len(self.missing) + 1
        for i, upstream in missing:
            upstream.add_listener(lambda upstream, i=i: self.came(i, upstream))
        self.ready()

    def came(self, i: int, upstream: Call) -> None:
        part = upstream.part
        if self.call.done:
            return
        if upstream.failure is not None:  # the failure of an argument is the failure of this call
            self.call.finish(None, upstream.failure)
        elif part is not None and part.goes_over(self.conn) and passable(part, self.options):
            self.have(i, part)
        elif type(part) is Value:
            self.encode(i, part.load)
        elif type(part) is Kept and (part.goes_over(self.conn) or upstream.reading is not True):
            self.conn.fetch(part).add_listener(lambda fetch: self.fetched(i, fetch))
        else:
            self.encode(i, lambda: upstream.value)

    def fetched(self, i: int, fetch: Call) -> None:
        if fetch.failure is not None:
            self.call.finish(None, fetch.failure)
        else:
            self.encode(i, fetch.outcome if fetch.part is None else fetch.part.load)

    def encode(self, i: int, read) -> None:
        try:
            value = value_now(self.conn, self.options, read())
        except BaseException as e:  # a user's class that is unpickled: its SystemExit does not end this loop
            self.call.finish(None, e)
        else:
            self.have(i, value)

    def have(self, i: int, value) -> None:
        self.values[i] = value
        self.ready()

    def ready(self) -> None:
        self.missing -= 1
        if self.missing:
            return
        if self.began:
            _spans.waited_for_arguments(self.info, self.call.span, self.target, self.began)
        n = len(self.values) - len(self.names)
        self.call.passes = True
        self.conn.start(
            self.call, self.target, self.info, self.options, tuple(self.values[:n]), dict(zip(self.names, self.values[n:])),
        )


__all__ = ["Arguments", "start_elsewhere", "value_now"]
