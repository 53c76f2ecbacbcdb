"""ASGI for WebSockets. The node speaks the protocol of the connection, pings included; messages are what comes here."""

from __future__ import annotations

import asyncio
from typing import Callable, Optional

from helve._asgi import Http
from helve._guard import type_name
from helve._http import ACCEPT, BINARY, BROKEN, CLOSE, LAST, MOST, PIECE, ROOM, TEXT, TEXT_PIECE, U16, ClientGone, fields

LARGEST = 16 << 20  # bytes of one message, which comes in pieces

CONNECTING, OPEN, REFUSING, CLOSED = 0, 1, 2, 3


class Socket(Http):
    """An exchange of one WebSocket connection, for ASGI."""

    phase = CONNECTING
    greeted = False  # the application has taken websocket.connect
    left = False  # the client's end of the connection was told to the application
    more = watched = True
    turn: Optional[asyncio.Lock] = None  # since there was a message in pieces

    def __init__(self, worker, id: int, info, head: bytes, body: bytes):
        super().__init__(worker, id, info, head, body)
        self.more = True

    def socket_scope(self) -> dict:
        scope = self.scope("websocket")
        del scope["method"]
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        offered = [v for k, v in scope["headers"] if k == b"sec-websocket-protocol"]
        scope["subprotocols"] = [p.strip() for v in offered for p in v.decode("latin-1").split(",") if p.strip()]
        scope["extensions"] = {"websocket.http.response": {}}
        return scope

    # ---- receive

    async def receive(self) -> dict:
        if not self.greeted:
            self.greeted = True
            return {"type": "websocket.connect"}
        pieces: list = []
        size = 0
        while True:
            while not self.parts:
                if self.gone or self.over or self.left:
                    self.left = True  # a client that is lost has sent its code; a call that the node cuts off has none
                    code = 1005 if self.phase == CLOSED else 1006 if self.worker.over else 1001
                    return {"type": "websocket.disconnect", "code": code, "reason": ""}
                await self.wait()
            kind, data = self.parts.popleft()
            if kind == CLOSE:
                self.left = True
                code = U16.unpack_from(data)[0] if len(data) >= 2 else 1005
                return {"type": "websocket.disconnect", "code": code, "reason": data[2:].decode("utf-8", "replace")}
            if kind in (LAST, BROKEN):
                self.left = True
                return {"type": "websocket.disconnect", "code": 1006, "reason": ""}
            self.owe(len(data))
            size += len(data)
            if size > LARGEST:
                await self.close(1009, f"a message is larger than {LARGEST} bytes")
                self.left = True
                return {"type": "websocket.disconnect", "code": 1009, "reason": ""}
            if pieces or kind == PIECE or kind == TEXT_PIECE:
                pieces.append(data)
                if kind == PIECE or kind == TEXT_PIECE:
                    continue
                data = b"".join(pieces)
            if kind == TEXT:
                return {"type": "websocket.receive", "text": data.decode("utf-8", "replace")}
            if kind == BINARY:
                return {"type": "websocket.receive", "bytes": data}
            raise ValueError(f"a part of kind {kind} in a WebSocket")

    # ---- send

    async def send(self, message: dict) -> None:
        kind = message["type"]
        if self.phase == CONNECTING:
            await self.answer(kind, message)
        elif self.phase == REFUSING:
            if kind != "websocket.http.response.body":
                raise RuntimeError(f"ASGI: {kind!r} came in the middle of a response that refuses a WebSocket")
            await Http.send(self, {**message, "type": "http.response.body"})
            if self.over:
                self.phase = CLOSED
        elif self.phase == CLOSED:
            raise RuntimeError(f"ASGI: {kind!r} was sent after the end of the WebSocket")
        elif kind == "websocket.send":
            if self.left or self.gone or not self.more:  # also if the application has not received the end yet
                raise ClientGone
            text, data = message.get("text"), message.get("bytes")
            if (text is None) == (data is None):
                raise RuntimeError("ASGI websocket.send: it must have either text or bytes")
            if text is not None:
                if not isinstance(text, str):
                    raise RuntimeError(f"ASGI websocket.send: text must be str, is {type(text).__name__}")
                await self.message(TEXT, text.encode(), TEXT_PIECE)
            else:
                if not isinstance(data, (bytes, bytearray, memoryview)):
                    raise RuntimeError(f"ASGI websocket.send: bytes must be bytes, is {type(data).__name__}")
                await self.message(BINARY, bytes(data), PIECE)
        elif kind == "websocket.close":
            await self.close(message.get("code") or 1000, message.get("reason") or "")
        else:
            raise RuntimeError(f"ASGI: {kind!r} is no message for an open WebSocket")

    async def message(self, kind: int, data: bytes, before: int) -> None:
        """Sends a message. While one goes out in pieces, other tasks wait with theirs: pieces of two would be one message."""
        if self.turn is None:
            if len(data) <= MOST:
                await self.put(kind, data)
                return
            self.turn = asyncio.Lock()
        async with self.turn:
            if self.torn:  # this one would be its end
                raise RuntimeError("ASGI: websocket.send came after a message that was cancelled when a part of it was sent")
            await self.pieces(kind, data, before)

    async def answer(self, kind: str, message: dict) -> None:
        """Answers the handshake."""
        if kind == "websocket.accept":
            headers = list(message.get("headers") or ())
            if any(bytes(name).lower() == b"sec-websocket-protocol" for name, _ in headers):
                raise RuntimeError("ASGI websocket.accept: the subprotocol is no header, but `subprotocol`")
            if message.get("subprotocol"):
                headers.append((b"sec-websocket-protocol", message["subprotocol"].encode()))
            data, _ = fields(headers, "ASGI websocket.accept")
            await self.put(ACCEPT, data)
            self.sent, self.phase = True, OPEN
            if self.more:
                self.allow(*ROOM)
        elif kind == "websocket.close":
            await self.close(message.get("code") or 1000, message.get("reason") or "")
        elif kind == "websocket.http.response.start":
            self.start(message)
            self.phase = REFUSING
        else:
            raise RuntimeError(f"ASGI: {kind!r} came before websocket.accept")

    async def close(self, code: int, reason: str) -> None:
        if not isinstance(code, int) or not 1000 <= code <= 4999:
            raise RuntimeError(f"ASGI websocket.close: code must be an integer from 1000 to 4999, is {code!r}")
        self.phase = CLOSED
        if not self.left and not self.gone:
            self.say_close(code, reason)
        self.end()

    def say_close(self, code: int, reason: str) -> None:
        """Sends CLOSE, which needs no credit. A reason has at most 123 bytes in a WebSocket."""
        self.add(CLOSE, U16.pack(code) + reason.encode()[:123].decode("utf-8", "ignore").encode())
        self.sent = True

    # ---- the application

    async def run(self, app: Callable) -> None:
        try:
            self.begin()
            await app(self.socket_scope(), self.receive, self.send)
            if self.phase == OPEN:
                await self.close(1000, "")
            elif self.phase != CLOSED and not self.gone and not self.left:
                raise RuntimeError("the ASGI application returned without an answer to the WebSocket's handshake")
            self.end()
        except BaseException as e:
            if (self.left or self.gone or not self.more) and type_name(e) in ("WebSocketDisconnect", "ClientGone"):  # an end that every application knows
                self.end()
                return
            if self.phase == OPEN and not self.over and not self.left and not self.gone:
                self.say_close(1011, "")
            self.failed(e)

    def refuse(self) -> None:
        """Refuses the handshake with 403."""
        self.say_close(1000, "")
        self.end()


__all__ = ["Socket"]
