"""The wire protocol of this package against real sockets, and against docs/wire.md."""

import asyncio
import hashlib
import hmac
import json
import re
import socket
import struct
from pathlib import Path

from helve import _encoding as encoding
from helve import _http as http
from helve import _parts as parts
from helve import _wire as wire
from helve._stream import ITEM, Outflow


class Server:
    def on_lost(self, error):
        pass


def test_generators_wait_for_a_node_that_is_slow(monkeypatch):
    monkeypatch.setattr(wire, "STREAM_BACKLOG", 1 << 20)

    async def main():
        loop = asyncio.get_running_loop()
        ours, node = socket.socketpair()
        node.setblocking(False)
        conn = wire.Connection(loop, Server())
        await loop.create_connection(lambda: conn, sock=ours)
        flows = [Outflow(conn, i + 1, encoding.RAW, (100, 1 << 30)) for i in range(50)]
        tasks = []

        async def generate(flow):
            for _ in range(10):
                await flow.put(b"x" * 40_000)
            flow.emit()

        for flow in flows:
            tasks.append(asyncio.create_task(generate(flow)))
        while conn.transport.get_write_buffer_size() <= 1 << 20:
            await asyncio.sleep(0)
        for _ in range(100):  # turns in which more could be written
            await asyncio.sleep(0)
        waiting = conn.transport.get_write_buffer_size()
        # Generators that were let in by the same look may add a frame each.
        assert (1 << 20) < waiting < (1 << 20) + 50 * 50_000, waiting
        assert not all(t.done() for t in tasks)
        got = 0
        while got < 50 * 10 * 40_000:
            got += len(await loop.sock_recv(node, 1 << 20))
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        # The end of the connection wakes the generators that wait.
        tasks = [asyncio.create_task(generate(Outflow(conn, 99, encoding.RAW, (100, 1 << 30)))) for _ in range(50)]
        await asyncio.wait(tasks, timeout=0.2)
        assert not all(t.done() for t in tasks)
        node.close()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    asyncio.run(main())


# ---- docs/wire.md

PAGE = Path(__file__).parents[2] / "docs" / "wire.md"


def frames():
    """(header, meta, body) of every example of the page; of a CHUNK it shows the header alone."""
    for block in re.findall(r"^```\n((?:(?:[0-9a-f]{2} ?)+\n)+)```$", PAGE.read_text(), re.M):
        data = bytes.fromhex(block)
        size, meta, kind, flags, id = header = wire.HEADER.unpack_from(data)
        if kind != 21:
            assert len(data) == 16 + meta + size, block
        yield header, data[16 : 16 + meta], data[16 + meta :]


def of(kind, id=None, bulk=False):
    return [(h, m, b) for h, m, b in frames() if h[2] == kind and id in (None, h[4]) and bool(h[3] & 0x80) == bulk]


class Parts:
    """A connection that accepts every reference to shared memory."""

    def __init__(self):
        self.taken, self.owned, self.memory, self.loop = [], False, self, None

    def take(self, ref):
        self.taken.append(parts.REF.unpack(ref))
        return parts.Segment(b"\xa2hi", ref)


def test_the_page_shows_every_type():
    assert {h[2] for h, _, _ in frames()} == {1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 27, 28}


def test_the_opening_of_the_page():
    token, mine, theirs = bytes(range(32)), bytes(range(0x20, 0x30)), bytes(range(0x30, 0x40))
    (_, _, hello), (_, _, welcome) = of(wire.HELLO)
    hello, welcome = json.loads(hello), json.loads(welcome)
    assert bytes.fromhex(hello["nonce"]) == mine and bytes.fromhex(welcome["nonce"]) == theirs
    assert welcome["proof"] == hmac.new(token, b"node" + mine + theirs, hashlib.sha256).hexdigest()
    (_, _, proof), = of(wire.PROOF)
    assert proof == hmac.new(token, b"dialler" + mine + theirs, hashlib.sha256).digest()
    (_, _, ready), = of(wire.READY)
    assert json.loads(ready) == {"arena": {"id": 7, "size": 1 << 30, "most": 64 << 20}}
    assert welcome["proof"] in PAGE.read_text() and proof.hex() in PAGE.read_text()


def test_the_calls_of_the_page():
    (_, meta, body), (_, shared, reference), (_, exchange, head), (_, stream, arguments) = sorted(of(wire.CALL), key=lambda f: len(f[1]))
    conn = Parts()
    assert wire.in_parts(wire.parse_call(shared)[3])
    wire.parse_parts(conn, wire.parse_call(shared)[3], memoryview(reference))
    assert conn.taken == [(7, 12, 0x20000, 200_000)]
    route, want, info, slots = wire.parse_call(meta)
    assert (route, want, info.depth, info.call, info.window) == (3, encoding.TEXT, 0, 5, None)
    assert info.request_id == "11220000-0000-0000-0000-000000000000"
    assert wire.parse_args(slots, body) == (("hi",), {})
    route, want, info, slots = wire.parse_call(stream)
    assert (route, want, info.depth, info.model, info.window) == (3, encoding.MSGPACK, 1, "m:1", (256, 1 << 20))
    assert wire.parse_args(slots, arguments) == ((b"hi",), {"n": 3})
    route, want, info, slots = wire.parse_call(exchange)
    assert (info.http, info.window, slots) == ((http.REQUEST, http.MORE), (256, 1 << 20), [(1, encoding.RAW, 0, 64)])
    assert wire.is_head(head) and head.split(b"\0")[:4] == [b"POST", b"http", b"1.1", b"/x"]
    (_, announced, rest), = of(wire.CALL, bulk=True)
    assert rest == b"" and struct.unpack("<QQ", announced[-16:]) == (1, 300_000)


def test_the_answers_of_the_page():
    good, failed, buffer, kept = of(wire.END)
    conn = Parts()
    value = parts.parse_end(conn, buffer[0][3], buffer[1], memoryview(buffer[2]))
    assert (value.codec, bytes(value.main.data), len(value.buffers)) == (encoding.CLOUDPICKLE, b"pickle", 1)
    assert conn.taken == [(7, 12, 0x20000, 200_000)]
    value = parts.parse_end(conn, kept[0][3], kept[1], b"")
    assert (value.codec, value.number, value.size) == (encoding.MSGPACK, 4, 300_000)
    assert encoding.decode(good[1][0], good[2]) == "hi!" and not good[0][3] & wire.FLAG_ERROR
    assert failed[0][3] & wire.FLAG_ERROR and "none" in str(encoding.decode_error(failed[2]))
    streams = of(wire.ITEMS)
    items = []
    for _, _, body in streams:
        while body:
            size, codec = ITEM.unpack_from(body)
            items.append((codec, body[ITEM.size : ITEM.size + size]))
            body = body[ITEM.size + size :]
    assert [encoding.decode(*i) for i in items[:2]] == [1, "hi"]
    assert encoding.decode(*items[2]) == [{"replica": "D#1", "node": "n1"}]
    assert items[3] == (encoding.RAW, b"\0\0\0\0\x06hi")
    assert items[4][1][:5] == b"\0\0\0\0\xff" and "none" in str(encoding.decode_error(items[4][1][5:]))
    assert items[5:] == [(http.HEAD, b"\xc8\0content-type\0text/plain"), (http.BODY, b"ok")]
    (_, meta, _), = of(wire.CREDIT)
    assert wire.WINDOW.unpack(meta) == (128, 1000)


def test_the_rest_of_the_page():
    (route, _, body), = of(wire.ROUTE)
    assert route[4] == 3 and json.loads(body) == {"replica": "D#1", "method": "SayHi"}
    assert [json.loads(b) for _, _, b in of(wire.CONTROL)] == [{"op": "ping"}]
    assert [json.loads(b) for _, _, b in of(wire.REPLY)] == [{}, {"error": {"reason": "user", "type": "ValueError", "message": "no"}}]
    assert [json.loads(b)["reason"] for _, _, b in of(wire.GOAWAY)] == ["stopping"]
    (cancel, meta, body), = of(wire.CANCEL)
    assert (cancel[4], meta, body) == (1, b"", b"")
    (_, _, upload), = of(wire.UPLOAD)
    (_, allowed, _), = of(wire.ALLOW)
    assert upload == b"".join(http.PART.pack(len(d), k) + d for k, d in ((http.BODY, b"hi"), (http.LAST, b""))) and wire.WINDOW.unpack(allowed) == (256, 1 << 20)
    (_, _, lease), = of(parts.LEASE)
    (_, _, release), = of(parts.RELEASE)
    (drop, _, _), = of(parts.DROP)
    assert parts.NUMBER.unpack(lease) == (1 << 20,) and parts.REF.unpack(release) == (7, 12, 0x20000, 200_000) and drop[4] == 4


def test_the_page_names_every_control_request():
    """The requests that this package handles and sends."""
    source = Path(wire.__file__).parent
    text = PAGE.with_name("control.md").read_text()
    ops = set(re.findall(r'\bop == "(\w+)"', (source / "_worker.py").read_text()))
    for path in [source / "_driver.py", *(source / "serve").glob("*.py")]:
        ops |= set(re.findall(r'\.(?:control|request)\("(\w+)"', path.read_text()))
    assert {"start_replica", "deploy", "delete"} <= ops
    for op in ops:
        assert f"\n| `{op}` |" in text, op
