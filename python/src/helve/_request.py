"""Plain deployments over HTTP: __call__(self, request), and what it may return. Starlette is imported when a program needs it, not before:
the import takes longer than many a replica.
"""

from __future__ import annotations

import contextvars
import importlib
import inspect
import sys
from asyncio import sleep
from typing import Any, Callable, Optional

from helve import _spans
from helve._answer import EVENTS, JSON, LAST_EVENT, NOTHING, OCTETS, TEXT_PLAIN, encoded, event, kind_of, last_error, line, plain_response, to_json
from helve._asgi import BEGUN, COMPLETE, Http
from helve._heartbeat import Heartbeat
from helve._frames import monotonic
from helve._http import ClientGone, fields
from helve._stream import QUICK, TRUST, TURN

_state: dict = {}  # the request class, once Starlette is imported


# ---- the request


class Request:
    """The request of a program that has not imported Starlette. When the program asks for more than this class has, a request of
    Starlette's is made, which does all the rest.
    """

    __slots__ = ("_exchange", "__dict__", "__weakref__")

    def __init__(self, exchange: Http):
        _set_exchange(self, exchange)

    @property  # type: ignore[misc]
    def __class__(self):  # for isinstance(request, starlette.requests.Request)
        return request_class()

    @property
    def method(self) -> str:
        return self._exchange.method()

    def __getattr__(self, name: str) -> Any:
        if name == "_whole":
            whole = self.__dict__["_whole"] = request_class(True)(self._exchange)
            return whole
        if name == "query_params" and "_whole" not in self.__dict__:
            request_class(True)
            params = self.__dict__[name] = _state["query"](self._exchange.query())
            return params
        return getattr(self._whole, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._whole, name, value)

    def __getitem__(self, key: str) -> Any:
        return self.scope[key]

    def __iter__(self):
        return iter(self.scope)

    def __len__(self) -> int:
        return len(self.scope)


_set_exchange = Request.__dict__["_exchange"].__set__


def request_class(needed: bool = False) -> type:
    """The class of requests: Starlette's with a lazy scope if Starlette is imported, or if it is needed."""
    made = _state.get("request")
    if made is not None:
        return made
    if not needed and "starlette.requests" not in sys.modules:
        return Request
    base = importlib.import_module("starlette.requests").Request
    params = importlib.import_module("starlette.datastructures").QueryParams

    def query(raw: bytes) -> Any:
        """QueryParams of a query string. Most have nothing to decode."""
        if b"%" in raw or b"+" in raw:
            return params(raw)
        return params([(name, value) for name, _, value in [pair.partition("=") for pair in raw.decode("latin-1").split("&") if pair]])

    class LazyRequest(base):
        def __init__(self, exchange: Http):
            self.exchange = exchange

        # Many methods read no more than these two, for which a scope is not needed.

        @property
        def method(self) -> str:
            exchange = self.__dict__.get("exchange")
            return self.scope["method"] if exchange is None else exchange.method()

        @property
        def query_params(self) -> Any:
            if "_query_params" not in self.__dict__:
                exchange = self.__dict__.get("exchange")
                self._query_params = params(self.scope["query_string"]) if exchange is None else query(exchange.query())
            return self._query_params

        def __getattr__(self, name: str) -> Any:
            exchange = self.__dict__.get("exchange")
            if exchange is None or name not in ("scope", "_receive", "_send", "_stream_consumed", "_is_disconnected", "_form"):
                raise AttributeError(f"'Request' object has no attribute {name!r}")
            base.__init__(self, exchange.http_scope(), exchange.receive, exchange.send)
            del self.__dict__["exchange"]
            return self.__dict__[name]

    LazyRequest.__name__, LazyRequest.__qualname__, LazyRequest.__module__ = "Request", "Request", base.__module__
    _state["request"], _state["query"] = LazyRequest, query
    return LazyRequest


def takes_request(fn: Callable) -> bool:
    """Whether a bound method or function is called with the request."""
    try:
        params = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return True
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in params)


class Plain:
    """Runs the exchanges of a plain deployment."""

    def __init__(self, worker, fn: Callable):
        self.worker, self.fn = worker, fn
        call = fn if inspect.isfunction(fn) or inspect.ismethod(fn) else getattr(fn, "__call__", fn)
        self.asynchronous = inspect.iscoroutinefunction(call)
        self.takes = takes_request(fn)

    def begin(self, id: int, info: Any, head: bytes, first: bytes) -> None:
        """Begins a request, with its head and the first part of its body."""
        worker, fn = self.worker, self.fn
        try:
            exchange = Http(worker, id, info, head, first)
            args = ((_state.get("request") or request_class())(exchange),) if self.takes else ()
            if self.asynchronous:
                worker.launch_exchange(exchange, self.run(exchange, fn, args))
            elif worker.pool is not None:
                info.threaded = True
                worker.launch_exchange(exchange, self.run(exchange, worker.in_thread, (fn, *args)))
            else:
                contextvars.copy_context().run(self.run_sync, exchange, fn, args)
        except BaseException as e:  # a task factory of the user's
            worker.not_begun(id, e, info)

    async def run(self, exchange: Http, fn: Callable, args: tuple) -> None:
        exchange.info.begun = True
        _spans.enter(exchange.info)
        try:
            value = await fn(*args)
            answer = encoded(value)
            if answer is None or not exchange.answer(*answer):
                await self.respond(exchange, value, answer)
        except BaseException as e:
            self.failed(exchange, e)

    def run_sync(self, exchange: Http, fn: Callable, args: tuple) -> None:
        _spans.enter(exchange.info)
        try:
            value = fn(*args)
            answer = encoded(value)
            if answer is not None and exchange.answer(*answer):
                return
        except BaseException as e:
            self.failed(exchange, e)
            return
        self.worker.launch_exchange(exchange, self.go_on(exchange, value, answer))

    async def go_on(self, exchange: Http, value: Any, answer: Optional[tuple]) -> None:
        exchange.begin()
        try:
            await self.respond(exchange, value, answer)
        except BaseException as e:
            self.failed(exchange, e)

    async def respond(self, exchange: Http, value: Any, answer: Optional[tuple]) -> None:
        """Sends an answer that is not one small part."""
        while answer is None and inspect.isawaitable(value):  # a plain function that returned a coroutine or a response of a handle
            value = await value
            answer = encoded(value)
        if answer is not None:
            await self.start(exchange, answer[0])
            await exchange.send({"type": "http.response.body", "body": answer[1]})
        elif inspect.isgenerator(value) or inspect.isasyncgen(value):
            await self.stream(exchange, value)
        elif plain_response(value):
            await exchange.send({"type": "http.response.start", "status": value.status_code, "headers": value.raw_headers})
            await exchange.send({"type": "http.response.body", "body": value.body})
        else:
            await value(exchange.http_scope(), exchange.receive, exchange.send)
            if exchange.stage != COMPLETE and not exchange.gone:
                raise RuntimeError(f"{type(value).__qualname__} ended before the end of its answer")
        if not exchange.over:
            raise ClientGone

    async def start(self, exchange: Http, head: bytes) -> None:
        p = head.split(b"\0")
        await exchange.send({"type": "http.response.start", "status": 200, "headers": list(zip(p[::2], p[1::2]))})

    async def stream(self, exchange: Http, items: Any) -> None:
        """Sends the items of a generator as they come: text and bytes unchanged, other values as lines of JSON. The kind of the first one
        is the kind of the answer.
        """
        head = b""
        n = quick = 0
        pool = self.worker.pool is not None
        end = object()
        plain = inspect.isgenerator(items)
        beat = None

        async def begin() -> None:
            nonlocal head
            if not head:
                head = EVENTS
                await self.start(exchange, head)

        async def send(body: bytes) -> None:
            await exchange.send({"type": "http.response.body", "body": body, "more_body": True})

        if (pool or not plain) and kind_of(None, exchange.head) is EVENTS and not exchange.head.startswith(b"HEAD\0"):
            beat = Heartbeat(begin, send)
        try:
            while True:
                began = monotonic()
                if not plain:
                    item = await anext(items, end)
                elif pool:
                    item = await self.worker.in_thread(next, items, end)
                else:
                    item = next(items, end)
                if item is end:
                    break
                if beat is not None:
                    await beat.event(event(item))
                    n += 1
                    if n % TURN == 0:
                        await sleep(0)
                    continue
                if not head:
                    head = kind_of(item, exchange.head)
                    await self.start(exchange, head)
                    if exchange.bodiless:  # the client asks for the head only
                        break
                await send(line(item, head))
                n += 1
                quick = quick + 1 if monotonic() - began < QUICK else 0
                if plain and (quick < TRUST or n % TURN == 0):  # the next step may take long, and the loop stands still meanwhile
                    exchange.emit()
                    self.worker.conn.flush()
                    await sleep(0)
                elif n % TURN == 0:
                    await sleep(0)
        except Exception:
            if beat is not None:
                await beat.stop()
            if head is EVENTS and not exchange.gone:  # a page has to know that the stream is not complete
                await send(last_error(exchange.info.request_id))
            raise
        finally:
            if beat is not None:
                await beat.stop()
            if not plain:
                await items.aclose()
            elif pool:
                await self.worker.in_thread(items.close)
            else:
                items.close()
        if not head:
            head = EVENTS if kind_of(None, exchange.head) is EVENTS else NOTHING
            await self.start(exchange, head)
        await exchange.send({"type": "http.response.body", "body": LAST_EVENT if head is EVENTS else b""})

    def failed(self, exchange: Http, e: BaseException) -> None:
        answer = None
        if not exchange.over and not exchange.sent and not exchange.gone:
            answer = http_exception(e)
        if answer is None:
            exchange.failed(e)
            return
        exchange.stage = BEGUN
        status, head, body = answer
        if not exchange.whole(status, head, body):
            exchange.failed(e)

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """The deployment as an ASGI application, for the middlewares around it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            raise RuntimeError(f"a plain deployment has no {scope['type']}")
        from starlette.requests import Request as Whole
        from starlette.responses import Response, StreamingResponse

        async def lines(items: Any):
            if inspect.isasyncgen(items):
                async for item in items:
                    yield line(item, OCTETS)
            else:
                for item in items:
                    yield line(item, OCTETS)

        try:
            value = self.fn(*((Whole(scope, receive, send),) if self.takes else ()))
            while inspect.isawaitable(value):
                value = await value
            answer = encoded(value)
        except Exception as e:
            refused = http_exception(e)
            if refused is None:
                raise
            p = refused[1].split(b"\0")
            await send({"type": "http.response.start", "status": refused[0], "headers": list(zip(p[::2], p[1::2]))})
            await send({"type": "http.response.body", "body": refused[2]})
            return
        if answer is not None:
            value = Response(answer[1], media_type=answer[0].partition(b"\0")[2].decode())
        elif inspect.isgenerator(value) or inspect.isasyncgen(value):
            value = StreamingResponse(lines(value))
        await value(scope, receive, send)


def http_exception(e: BaseException) -> Optional[tuple]:
    """The status, the header and the body of an HTTPException of Starlette or FastAPI; None for other exceptions."""
    module = sys.modules.get("starlette.exceptions")
    if module is None or not isinstance(e, module.HTTPException):
        return None
    try:
        head, body = JSON, to_json({"detail": e.detail}).encode()
        if not type(e).__module__.startswith("fastapi"):
            head, body = TEXT_PLAIN, str(e.detail).encode()
        more, _ = fields([(k.encode("latin-1"), v.encode("latin-1")) for k, v in (e.headers or {}).items()], "HTTPException")
        if more:
            head += b"\0" + more
        status = int(e.status_code)
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return None
    return (status, head, b"" if status in (204, 304) else body) if 200 <= status <= 999 else None


__all__ = ["Plain", "Request", "request_class"]
