"""WebSockets of a raw ASGI application through a real node: both ends of a connection in every way, and backpressure in both directions."""

import os
import socket
import threading

import httpx
import pytest
import websockets
from eventually import eventually
from websockets.sync.client import connect

from ports import free_port
from helve import serve

PIECE = 60_000


class Application:
    """The path chooses the end of the connection. GET gives the list of the ends that the application has seen, and counts."""

    def __init__(self):
        self.ends, self.sent = [], 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            body = repr((self.ends, self.sent)).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
            return
        if scope["type"] == "lifespan":
            raise NotImplementedError
        assert (await receive())["type"] == "websocket.connect"
        path = scope["path"].rpartition("/")[2]
        if path == "denied":
            return await send({"type": "websocket.close"})
        if path == "unauthorized":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]})
            return await send({"type": "websocket.http.response.body", "body": b"who are you"})
        if path == "failed":
            raise ValueError("private text")
        await send({"type": "websocket.accept", "headers": [(b"x-pid", str(os.getpid()).encode())]})
        if path == "fails":
            raise ValueError("private text")
        if path == "returns":
            return
        if path == "closes":
            await send({"type": "websocket.close", "code": 4001, "reason": "because"})
        if path == "floods":
            while True:
                await send({"type": "websocket.send", "bytes": bytes(PIECE)})
                self.sent += 1
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        self.ends.append((message["code"], message["reason"]))


@serve.deployment(max_ongoing_requests=100, graceful_shutdown_timeout_s=1, graceful_shutdown_wait_loop_s=0.1)
@serve.ingress(Application())
class Sockets:
    pass


class Live:
    def __init__(self, port):
        self.port = port

    def open(self, path, **options):
        return connect(f"ws://127.0.0.1:{self.port}/{path}", **options)

    def seen(self):
        return eval(httpx.get(f"http://127.0.0.1:{self.port}/").text)


@pytest.fixture(scope="module")
def live():
    port = free_port()
    serve.shutdown()
    serve.start(http_options={"port": port})
    serve.run(Sockets.bind())
    yield Live(port)
    serve.shutdown()


def end_of(ws):
    """The close code and reason that a client gets."""
    with pytest.raises(websockets.ConnectionClosed) as e:
        while True:
            ws.recv()
    return (e.value.rcvd.code, e.value.rcvd.reason) if e.value.rcvd else None


@pytest.mark.parametrize("close, end", [
    (lambda ws: ws.close(), (1000, "")),
    (lambda ws: ws.close(1001, "tab closed"), (1001, "tab closed")),
    (lambda ws: ws.close(4999, "r" * 123), (4999, "r" * 123)),
    (lambda ws: ws.socket.sendall(b"\x88\x80\0\0\0\0"), (1005, "")),  # a close frame without a code
    (lambda ws: ws.socket.shutdown(socket.SHUT_RDWR), (1006, "")),
])
def test_the_end_by_the_client(live, close, end):
    before = len(live.seen()[0])
    with live.open("echo") as ws:
        ws.send("x")
        assert ws.recv() == "x"
        close(ws)
    eventually(lambda: end in live.seen()[0][before:])  # behind the end of another test, which may come late


@pytest.mark.parametrize("path, end", [("closes", (4001, "because")), ("returns", (1000, "")), ("fails", (1011, ""))])
def test_the_end_by_the_application(live, path, end):
    with live.open(path) as ws:
        assert end_of(ws) == end


@pytest.mark.parametrize("path, status, body", [("denied", 403, "Forbidden"), ("unauthorized", 401, "who are you"), ("failed", 500, "Internal Server Error")])
def test_a_handshake_that_the_application_refuses(live, path, status, body):
    with pytest.raises(websockets.InvalidStatus) as e:
        live.open(path)
    text = bytes(e.value.response.body).decode()
    assert e.value.response.status_code == status and body in text and "private" not in text


def test_messages(live):
    with live.open("echo", max_size=None) as ws:
        for message in ["", "é", b"", b"\xff", "€" * (1 << 20), bytes(10 << 20)]:
            ws.send(message)
            assert ws.recv() == message
        ws.send(["in ", "frag", "ments"])
        assert ws.recv() == "in fragments"
        assert ws.ping("a").wait(30)


def test_a_message_that_is_too_big(live):
    with live.open("echo", max_size=None) as ws:
        try:
            ws.send(bytes((16 << 20) + 1))
        except websockets.ConnectionClosed:  # before it was sent whole
            pass
        assert end_of(ws)[0] == 1009
    eventually(lambda: (1009, "message too big") in live.seen()[0])


def test_a_client_that_does_not_read_stops_the_application(live):
    last = -1

    def still():
        nonlocal last
        before, last = last, live.seen()[1]
        threading.Event().wait(0.2)
        return before == last

    with live.open("floods", max_queue=1, max_size=None) as ws:
        ws.recv()
        eventually(still)
        assert last * PIECE < 64 << 20  # the window, and the buffers of the kernel and of the client
        ws.socket.shutdown(socket.SHUT_RDWR)
        eventually(still)  # the application has learnt that its client is gone


def test_replica_that_dies(live):
    with live.open("echo") as ws:
        os.kill(int(ws.response.headers["x-pid"]), 9)
        assert end_of(ws) == (1012, "the replica has ended")
    eventually(lambda: httpx.get(f"http://127.0.0.1:{live.port}/").status_code == 200)


def test_application_that_is_deleted(live):
    with live.open("echo") as ws:
        ws.send("x")
        assert ws.recv() == "x"
        serve.delete("default")
        assert end_of(ws) == (1001, "going away")
