"""WebSockets of ASGI applications, against a node of the tests."""

import asyncio

import pytest
from fake_node import head, pairs, raw

from helve import _http as http


def websocket(body):
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            await body(scope, receive, send)

    return raw(app)


def close(code, reason=b""):
    return http.CLOSE, code.to_bytes(2, "little") + reason


def test_websocket_echo(node):
    seen = []

    async def body(scope, receive, send):
        seen.append((scope["scheme"], scope["subprotocols"]))
        await send({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"X-A", b"1")]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        seen.append(message)

    n = node(websocket(body))
    id = n.socket(headers=[("sec-websocket-protocol", "a, b")])
    a = n.answers[id]
    assert a.kinds() == [http.ACCEPT] and pairs(a.parts[0][1]) == [("x-a", "1"), ("sec-websocket-protocol", "b")] and a.allowed == list(http.ROOM)
    n.upload(id, (http.TEXT, "é".encode()), (http.PIECE, b"a"), (http.PIECE, b"b"), (http.BINARY, b""), (http.TEXT_PIECE, b"\xc3"), (http.TEXT, b"\xa9"))
    n.turn(2)
    assert a.parts[1:] == [(http.TEXT, "é".encode()), (http.BINARY, b"ab"), (http.TEXT, "é".encode())]
    n.upload(id, close(4001, b"bye"))
    a = n.ended(id)
    assert a.error is None and len(a.parts) == 4
    assert seen == [("ws", ["a", "b"]), {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}]


def test_a_large_message_goes_in_pieces(node):
    async def body(scope, receive, send):
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"x" * (150 << 10)})

    n = node(websocket(body))
    a = n.ended(n.socket())
    assert a.kinds() == [http.ACCEPT, *[http.PIECE] * 4, http.BINARY, http.CLOSE] and a.parts[-1][1][:2] == (1000).to_bytes(2, "little")


def test_a_message_over_the_limit_closes(node):
    seen = []

    async def body(scope, receive, send):
        await send({"type": "websocket.accept"})
        seen.append(await receive())

    n = node(websocket(body))
    id = n.socket()
    a = n.answers[id]
    for _ in range(300):
        if a.ended:
            break
        n.upload(id, (http.PIECE, b"x" * http.MOST))
        n.turn(2)
    assert a.parts[-1][0] == http.CLOSE and a.parts[-1][1][:2] == (1009).to_bytes(2, "little") and seen[0]["code"] == 1009


def test_a_large_text_goes_in_pieces(node):
    async def body(scope, receive, send):
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "é" * (200 << 10)})

    n = node(websocket(body))
    a = n.ended(n.socket())
    accepted, *pieces, last, close = a.kinds()
    assert (accepted, {*pieces}, last, close) == (http.ACCEPT, {http.TEXT_PIECE}, http.TEXT, http.CLOSE)
    assert b"".join(d for _, d in a.parts[1:-1]).decode() == "é" * (200 << 10) and max(len(d) for _, d in a.parts) <= http.MOST


def test_messages_of_two_tasks_do_not_mix(node):
    async def body(scope, receive, send):
        await send({"type": "websocket.accept"})
        large = asyncio.gather(*(send({"type": "websocket.send", "bytes": c * (3 << 20)}) for c in (b"a", b"b")))
        await asyncio.sleep(0)
        await send({"type": "websocket.send", "bytes": b"small"})
        await large

    n = node(websocket(body))
    id = n.socket()
    a = n.answers[id]
    while not a.ended:
        n.credit(id, 256, 1 << 20)
        n.turn(3)
    got, message = [], b""
    for kind, data in a.parts:
        if kind in (http.PIECE, http.BINARY):
            message += data
        if kind == http.BINARY:
            got.append((set(message), len(message)))
            message = b""
    assert sorted(got, key=str) == sorted([({97}, 3 << 20), ({98}, 3 << 20), (set(b"small"), 5)], key=str) and a.error is None


def test_a_message_that_was_cancelled_on_its_way_has_no_other_end(node):
    async def body(scope, receive, send):
        await send({"type": "websocket.accept"})
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(send({"type": "websocket.send", "bytes": b"a" * (3 << 20)}), 0.01)
        await send({"type": "websocket.send", "bytes": b"b"})

    n = node(websocket(body))
    id = n.socket()
    n.until(lambda: n.answers[id].ended)
    a = n.answers[id]
    assert "a part of it was sent" in a.error["message"] and a.kinds()[-1] == http.CLOSE and http.BINARY not in a.kinds()


def test_tasks_share_the_credit_of_a_websocket(node):
    ready = asyncio.Event()

    async def body(scope, receive, send):
        await send({"type": "websocket.accept"})
        ready.clear()
        tasks = [asyncio.ensure_future(send({"type": "websocket.send", "text": str(i)})) for i in range(9)]
        await asyncio.wait([tasks[0]])
        await send({"type": "websocket.close"})  # needs no credit
        assert [type(e).__name__ for e in await asyncio.gather(*tasks[1:], return_exceptions=True) if e] == ["ClientGone"] * 8
        ready.set()

    n = node(websocket(body))
    n.worker.conn.room.clear()  # as if much waited to be written
    id = n.call(head(), kind=http.SOCKET, window=(2, 100))
    n.turn(5)
    n.worker.conn.room.set()
    n.until(ready.is_set)
    assert n.answers[id].kinds() == [http.ACCEPT, http.TEXT, http.CLOSE]


@pytest.mark.parametrize("messages, kinds, text", [
    ([{"type": "websocket.close", "code": 4000, "reason": "no"}], [http.CLOSE], None),
    ([{"type": "websocket.accept"}, {"type": "websocket.close", "code": 4000}], [http.ACCEPT, http.CLOSE], None),
    ([{"type": "websocket.accept"}], [http.ACCEPT, http.CLOSE], None),
    ([{"type": "websocket.http.response.start", "status": 401, "headers": []}, {"type": "websocket.http.response.body", "body": b"no"}], [http.HEAD, http.BODY], None),
    ([], [], "without an answer to the WebSocket's handshake"),
    ([{"type": "websocket.send", "text": "x"}], [], "before websocket.accept"),
    ([{"type": "websocket.accept"}, {"type": "websocket.accept"}], [http.ACCEPT, http.CLOSE], "no message for an open WebSocket"),
    ([{"type": "websocket.accept"}, {"type": "websocket.send"}], [http.ACCEPT, http.CLOSE], "either text or bytes"),
    ([{"type": "websocket.accept"}, {"type": "websocket.send", "text": b"x"}], [http.ACCEPT, http.CLOSE], "text must be str"),
    ([{"type": "websocket.accept"}, {"type": "websocket.close", "code": 7}], [http.ACCEPT, http.CLOSE], "code must be an integer"),
])
def test_answers_to_a_handshake(node, messages, kinds, text):
    async def body(scope, receive, send):
        for message in messages:
            await send(message)

    n = node(websocket(body))
    a = n.ended(n.socket())
    assert a.kinds() == kinds
    assert a.error is None if text is None else text in a.error["message"]


def test_a_client_of_a_websocket_that_is_lost(node):
    seen = []

    async def body(scope, receive, send):
        await send({"type": "websocket.accept"})
        seen.append((await receive())["code"])
        with pytest.raises(OSError):
            await send({"type": "websocket.send", "text": "x"})

    n = node(websocket(body))
    id = n.socket()
    n.upload(id, close(1006))
    assert n.ended(id).error is None and seen == [1006]


def test_an_application_that_only_sends_learns_that_its_client_is_lost(node):
    async def body(scope, receive, send):
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "text": "x"})
            await asyncio.sleep(0)

    n = node(websocket(body))
    id = n.socket()
    n.upload(id, close(1006))
    assert n.ended(id).error is None


def test_plain_deployments_refuse_websockets(node):
    a = node(lambda request: "x")
    answer = a.ended(a.socket())
    assert answer.kinds() == [http.CLOSE] and answer.error is None
