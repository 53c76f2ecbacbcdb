"""The HTTP side of one replica: how its exchanges run, the lifespan of its application, and its background tasks."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
import sys
from typing import Any, Callable, Optional

from helve._asgi import Http, Lifespan
from helve._encoding import RAW, envelope
from helve._hooks import DEFINITION
from helve._http import REQUEST, SOCKET, logger
from helve._names import match_name
from helve._parts import parse_slots
from helve._request import Plain, request_class
from helve._websocket import Socket
from helve._frames import in_parts, is_head, monotonic


LAST_LOOK = 0.3  # seconds that applications have, when the replica is stopped, to notice that their clients are cut off
LAST_STEP = 0.1  # seconds that a background task has after its cancel
HANDLER = "ServeHTTP"  # the method of the ingress of a program in Go that serves HTTP with this deployment


class Ingress:
    """Runs the exchanges of a replica: a plain __call__, or an ASGI application."""

    def __init__(self, worker: Any):
        self.worker = worker
        self.app: Optional[Callable] = None
        self.plains: dict = {}  # by method
        self.lifespan: Optional[Lifespan] = None
        self.background: set = set()  # tasks whose exchanges are over

    def follow(self, worker: Any) -> "Ingress":
        """This one for the connection to the next node. The former one stays as it is: a node that hands over has calls left, which are answered there."""
        heir = copy.copy(self)
        heir.worker, heir.plains = worker, {}
        for name, plain in self.plains.items():
            heir.plains[name] = copy.copy(plain)
            heir.plains[name].worker = worker
        return heir

    async def start(self, target: Any, instance: Any, middlewares: list) -> None:
        """Makes the application for an instance, and waits for the startup of its lifespan."""
        definition = getattr(target, DEFINITION, None)
        app: Any = None
        if definition is not None:
            app = await definition.build(instance)
        else:
            fn = instance if not inspect.isclass(target) else getattr(instance, "__call__", None)
            if fn is None:
                return
            request_class()  # before the first request, if the program has imported Starlette
            plain = self.plains["__call__"] = Plain(self.worker, fn)
            app = plain if middlewares else None
        for middleware in reversed(middlewares):
            cls, *arguments = middleware
            args, kwargs = arguments if len(arguments) == 2 else ((), arguments[0])
            app = cls(app, *args, **kwargs)
        self.app = app
        if definition is not None:
            anyio = sys.modules.get("anyio.to_thread")
            if anyio is not None:  # the gate limits the calls; a lower limit of threads would hold calls that have slots
                anyio.current_default_thread_limiter().total_tokens = math.inf
            self.worker.step = "lifespan"
            lifespan = Lifespan(app, self.worker.state)
            await lifespan.startup()
            self.lifespan = lifespan

    async def stop(self, limit: Optional[float]) -> None:
        """Ends the replica's calls, waits for background tasks, and then for the shutdown of the lifespan, which has a tenth of the time in
        any case. So no handler runs when the lifespan closes what the handlers use. For example, with 5 s a handler whose `finally` takes
        1 s ends in 1 s, one that ignores its cancel has 2.5 s, and a lifespan whose shutdown takes 4 s is given up after 2.5 s.
        """
        begun = monotonic()
        await self.end_calls(limit and 0.5 * limit)
        if self.background:
            _, left = await asyncio.wait(list(self.background), timeout=limit and max(0.9 * limit - (monotonic() - begun), 0.1 * limit))
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=LAST_STEP)
        if self.lifespan is not None:
            await self.lifespan.shutdown(limit and max(limit - (monotonic() - begun), 0.1 * limit))

    async def end_calls(self, limit: Optional[float]) -> None:
        """Cancels the calls that still run, and waits for their tasks. The node has cut them off, but need not have told yet. An application
        that looks for its client may end by itself first.
        """
        worker, begun = self.worker, monotonic()
        tasks = {info.task for info in worker.running.values()}
        for id, info in list(worker.running.items()):
            if not info.cancelled:  # a second cancel would interrupt its clean-up
                worker.on_cancel(id)
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_LOOK if limit is None else min(LAST_LOOK, 0.5 * limit))
        for id, info in list(worker.running.items()):
            if not info.cancelled:
                worker.cancel(id)
        tasks = {task for task in tasks if not task.done()}
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=limit and max(limit - (monotonic() - begun), 0.1 * limit))
            if left:
                logger.error("%d calls of %s ignored their cancel when the replica was stopped", len(left), worker.replica)

    def method(self, name: str) -> Optional[Plain]:
        """The method of another name than __call__ that a program in Go has made the ingress."""
        worker = self.worker
        if not inspect.isclass(worker.target):
            return self.plains.get("__call__")
        found = match_name(name, [m["name"] for m in worker.methods])
        if found is None or found == "__call__":
            return None
        plain = self.plains[name] = Plain(worker, getattr(worker.instance, found))
        return plain

    def begin(self, id: int, number: int, name: str, info: Any, slots: Any, body: Any) -> None:
        if len(slots) == 1 and slots[0] == (1, RAW, 0, len(body)):
            head, first = bytes(body), b""
        else:
            head, first = _arguments(self.worker.conn, slots, body)
        if head is None or info.window is None or not is_head(head):
            self.refuse(id, "bad_input", "the head of the request is malformed")
            return
        kind = info.http[0]
        if name == "" or name == HANDLER:
            name = "__call__"
        app = self.app if name == "__call__" else None
        plain = None if app is not None else self.plains.get(name) or self.method(name)
        if app is None and plain is None:
            self.refuse(id, "no_method", f"deployment {self.worker.deployment} has no method {name!r} for HTTP")
        elif kind == REQUEST:
            begin = self.begin_app if app is not None else plain.begin
            self.worker.conn.exchanges[number] = begin
            begin(id, info, head, first)
        elif kind == SOCKET:
            socket = Socket(self.worker, id, info, head, first)
            if app is not None:
                self.worker.launch_exchange(socket, socket.run(app))
            else:
                socket.refuse()
        else:
            self.refuse(id, "bad_input", f"an exchange of kind {kind}")

    def begin_app(self, id: int, info: Any, head: bytes, first: bytes) -> None:
        """Begins a request to the application."""
        worker = self.worker
        try:
            exchange = Http(worker, id, info, head, first)
            worker.launch_exchange(exchange, exchange.run(self.app))
        except BaseException as e:  # a task factory of the user's
            worker.not_begun(id, e, info)

    def refuse(self, id: int, reason: str, message: str) -> None:
        self.worker.fail_with(id, envelope({"reason": reason, "message": message}))

    def keep(self, task: asyncio.Task) -> None:
        """Notes a task that goes on after the end of its exchange."""
        self.background.add(task)
        task.add_done_callback(self.background.discard)


def _arguments(conn: Any, slots: Any, body: Any) -> tuple:
    """The head of the request and the first part of its body; (None, b"") if the arguments are others."""
    if len(slots) == 2:
        (kind, codec, _, n), (kind2, codec2, _, m) = slots
        if codec != RAW or codec2 != RAW:
            return None, b""
        if kind <= 2 and kind2 <= 2 and n + m == len(body):
            data = bytes(body)
            return data[:n], data[n:]
    if len(slots) > 2 or any(slot[1] != RAW for slot in slots):
        return None, b""
    if in_parts(slots):
        values = [bytes(value.load()) for _, _, value in parse_slots(conn, slots, body)]
        return (values[0], values[1] if len(values) > 1 else b"") if values else (None, b"")
    return None, b""


__all__ = ["Ingress"]
