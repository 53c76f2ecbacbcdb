"""ASGI for the exchanges of a replica: http scopes, receive, send, and the lifespan of an application. Starlette is not needed here."""

from __future__ import annotations

import asyncio
from typing import Callable, Optional

from helve._guard import trace
from helve._http import BODY, BROKEN, HEAD, INFORM, LAST, ROOM, TRAILERS, U16, ClientGone, Exchange, fields, logger

HELD = 0.005  # seconds that a head waits for its body, so that both travel together

CLOSED, BEGUN, FIELDS_LEFT, COMPLETE = 0, 1, 2, 3  # the stages of an answer: none, begun, trailers are to come, complete


class Http(Exchange):
    """An exchange of one HTTP request, for ASGI."""

    stage = CLOSED
    head_fields = b""
    length = -1  # bytes of the body that content-length still promises; -1 if it says nothing
    trailers = False  # the application has announced trailers
    timer: Optional[asyncio.TimerHandle] = None
    request_trailers: Optional[list] = None
    bodiless = False  # the answer has no body by its method or status

    def method(self) -> str:
        return self.head[: self.head.index(b"\0")].decode()

    def query(self) -> bytes:
        return self.head.split(b"\0", 5)[4]

    def http_scope(self) -> dict:
        scope = self.scope("http")
        scope["extensions"] = {"http.response.trailers": {}, "http.response.early_hint": {}}
        return scope

    # ---- receive

    async def receive(self) -> dict:
        if self.gone:
            return {"type": "http.disconnect"}
        if self.unread:
            if not self.more and self.parts is None:
                self.unread = False
                return {"type": "http.request", "body": self.body, "more_body": False}
            self.unread = False
            if self.body:
                return {"type": "http.request", "body": self.body, "more_body": True}
            return await self.receive_part()
        if self.more or self.parts:
            return await self.receive_part()
        self.watched = True
        while not self.gone and not self.over and self.broken is None:
            await self.wait()
        return {"type": "http.disconnect"}

    async def receive_part(self) -> dict:
        if self.parts is None and self.more and not self.room_items:
            self.allow(*ROOM)
        while True:
            while not self.parts:
                if self.gone or self.over:
                    return {"type": "http.disconnect"}
                await self.wait()
            kind, data = self.parts.popleft()
            if kind == LAST:
                return self.complete(b"")
            if kind == BROKEN:
                self.broken = (U16.unpack_from(data)[0], data[2:].decode("utf-8", "replace")) if len(data) >= 2 else (400, "")
                return {"type": "http.disconnect"}
            self.owe(len(data))
            if kind == BODY:
                if self.parts and self.parts[0][0] == LAST:
                    self.parts.popleft()
                    return self.complete(data)
                return {"type": "http.request", "body": data, "more_body": True}
            if kind == TRAILERS:
                p = data.split(b"\0")
                self.request_trailers = list(zip(p[::2], p[1::2]))

    def complete(self, body: bytes) -> dict:
        """The last message of the body. ASGI has no trailers of requests: here the message has them, if there are any."""
        message = {"type": "http.request", "body": body, "more_body": False}
        if self.request_trailers:
            message["trailers"] = self.request_trailers
        return message

    # ---- send

    async def send(self, message: dict) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.start(message)
        elif kind == "http.response.body":
            body, more = self.body_of(message)
            if more or self.stage == FIELDS_LEFT or not self.whole(self.status, self.head_fields, body):
                await self.send_body(body, more)
        elif kind == "http.response.trailers":
            await self.send_trailers(message)
        elif kind == "http.response.early_hint":
            if self.stage != CLOSED:
                raise RuntimeError("ASGI: http.response.early_hint came after http.response.start")
            links, _ = fields([(b"link", link) for link in message.get("links", ())], "ASGI http.response.early_hint")
            await self.put(INFORM, U16.pack(103) + links)
        else:
            raise RuntimeError(f"ASGI: {kind!r} is no message that an http application sends")

    def start(self, message: dict) -> None:
        if self.stage != CLOSED:
            raise RuntimeError("ASGI: http.response.start was sent twice")
        status = message["status"]
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise RuntimeError(f"ASGI http.response.start: status must be an integer from 200 to 999, is {status!r}")
        self.head_fields, self.length = fields(message.get("headers", ()), "ASGI http.response.start")
        self.status, self.stage = int(status), BEGUN
        if message.get("trailers"):
            self.trailers = True
        if self.head.startswith(b"HEAD\0") or status == 204 or status == 304:
            self.bodiless, self.length = True, -1
        if self.launched:
            self.hold()

    def waits(self) -> None:
        if self.stage == BEGUN and not self.sent:
            self.hold()

    def hold(self) -> None:
        """Sends the head soon, also if no body comes. For example, a stream of events whose first event is a minute away."""
        self.timer = self.worker.loop.call_later(HELD, self.send_head)

    def send_head(self) -> None:
        if self.stage == BEGUN and not self.sent and not self.over and self.items > 0:
            self.sent = True
            self.items -= 1
            self.add(HEAD, U16.pack(self.status) + self.head_fields)
            self.emit()

    def body_of(self, message: dict) -> tuple:
        """The body of a http.response.body, and whether more come; checked."""
        stage = self.stage
        if stage != BEGUN:
            raise RuntimeError(
                "ASGI: http.response.body came before http.response.start" if stage == CLOSED else
                "ASGI: http.response.body was sent after the end of the body"
            )
        if self.torn:  # the client must not take the rest for the whole
            raise RuntimeError("ASGI: http.response.body came after one that was cancelled before it was sent: a part of the body is missing")
        body, more = message.get("body", b""), message.get("more_body", False)
        if type(body) is not bytes:
            if not isinstance(body, (bytes, bytearray, memoryview)):
                raise RuntimeError(f"ASGI http.response.body: body must be bytes, is {type(body).__name__}")
            body = bytes(body)
        if self.length >= 0:
            left = self.length - len(body)
            if left < 0:
                raise RuntimeError("ASGI: the body is longer than content-length says")
            if left > 0 and not more:
                raise RuntimeError(f"ASGI: the body is {left} bytes shorter than content-length says")
            self.length = left
        if self.bodiless:
            body = b""
        if not more:
            self.stage = FIELDS_LEFT if self.trailers else COMPLETE
            if self.timer is not None:
                self.timer.cancel()
        return body, more

    async def send_body(self, body: bytes, more: bool) -> None:
        if self.timer is not None:
            self.timer.cancel()
        try:
            if not self.sent:
                self.sent = True
                await self.put(HEAD, U16.pack(self.status) + self.head_fields)
            if body:
                await self.pieces(BODY, body, BODY)
        except BaseException:
            self.torn = True
            raise
        if self.stage == COMPLETE:
            self.end()

    async def send_trailers(self, message: dict) -> None:
        if self.stage != FIELDS_LEFT:
            raise RuntimeError("ASGI: http.response.trailers came without an announcement, or before the end of the body")
        trailers, _ = fields(message.get("headers", ()), "ASGI http.response.trailers")
        if trailers:
            await self.put(TRAILERS, trailers)
        if not message.get("more_trailers", False):
            self.stage = COMPLETE
            self.end()

    # ---- the application

    async def run(self, app: Callable) -> None:
        try:
            self.begin()
            await app(self.http_scope(), self.receive, self.send)
            if self.stage != COMPLETE and not self.gone:
                raise RuntimeError(
                    "the ASGI application returned without an answer" if self.stage == CLOSED else
                    "the ASGI application returned before the end of its answer"
                )
            if not self.over:
                raise ClientGone
        except BaseException as e:
            self.failed(e)

    def failed(self, e: BaseException) -> None:
        """Ends the exchange with an exception. A request whose body broke off on its way has the answer that the node gave for it."""
        if self.timer is not None:
            self.timer.cancel()
        if self.broken is not None and not self.over and self.broken[0] >= 400 and isinstance(e, Exception):
            if self.whole(self.broken[0], b"content-type\0text/plain; charset=utf-8", self.broken[1].encode()[:1000]):
                return
        self.fail(e)


class Lifespan:
    """The lifespan of an ASGI application: its startup before the first request, its shutdown after the last."""

    def __init__(self, app: Callable, state: dict):
        self.app, self.state = app, state
        self.asked = False  # the application has taken lifespan.startup, so it knows the protocol
        self.messages: asyncio.Queue = asyncio.Queue()
        self.started: Optional[asyncio.Future] = None
        self.stopped: Optional[asyncio.Future] = None
        self.task: Optional[asyncio.Task] = None
        self.problem: Optional[str] = None

    async def receive(self) -> dict:
        message = await self.messages.get()
        self.asked = True
        return message

    async def send(self, message: dict) -> None:
        kind, _, what = message["type"].rpartition(".")
        future = {"lifespan.startup": self.started, "lifespan.shutdown": self.stopped}.get(kind)
        if what == "failed" and kind == "lifespan.shutdown" and future is None:
            return  # its task was cancelled
        if future is None or what not in ("complete", "failed"):
            raise RuntimeError(f"ASGI: {message['type']!r} is no message of a lifespan, or came too early")
        if future.done():
            raise RuntimeError(f"ASGI: {kind} has its answer already")
        if what == "failed":
            self.problem = str(message.get("message") or "")
        future.set_result(what == "complete")

    async def run(self, scope: dict) -> None:  # an application may raise before it gives a coroutine
        await self.app(scope, self.receive, self.send)

    async def startup(self) -> None:
        """Raises the exception with which the application fails to start. An application that does not know lifespans has none."""
        loop = asyncio.get_running_loop()
        self.started = loop.create_future()
        self.messages.put_nowait({"type": "lifespan.startup"})
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self.task = loop.create_task(self.run(scope))
        try:
            await asyncio.wait([self.started, self.task], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self.task.cancel()
            raise
        if self.started.done() and self.started.result():
            return
        if not self.task.done():  # it has said that it failed, and may raise the reason next
            await asyncio.wait([self.task], timeout=1)
            self.task.cancel()
        error = self.task.exception() if self.task.done() and not self.task.cancelled() else None
        if self.started.done() or self.asked and error is not None:
            if error is not None:
                raise error
            raise RuntimeError("the startup of the application's lifespan failed" + (f": {self.problem}" if self.problem else ""))
        self.task = None  # it ended without an answer

    async def shutdown(self, limit: Optional[float]) -> None:
        if self.task is None:
            return
        self.stopped = asyncio.get_running_loop().create_future()
        self.messages.put_nowait({"type": "lifespan.shutdown"})
        done, _ = await asyncio.wait([self.stopped, self.task], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            logger.error("the shutdown of the application's lifespan did not end within %g s", limit)
            self.task.cancel()
            return
        if not self.task.done():  # what is behind the end of the shutdown, such as the end of `async with`
            await asyncio.wait([self.task], timeout=limit)
        if self.task.done() and not self.task.cancelled() and self.task.exception() is not None:
            logger.error("the shutdown of the application's lifespan failed\n%s", trace(self.task.exception()).rstrip())
        elif self.problem:
            logger.error("the shutdown of the application's lifespan failed: %s", self.problem)


__all__ = ["Http", "Lifespan"]
