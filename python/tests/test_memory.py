"""A worker's part in the shared memory, without a node."""

import asyncio
import fcntl
import os

import pytest

from helve import _arena, _encoding as encoding, _wire as wire
from helve._parts import REF, Memory, Out
from helve._worker import Worker

SIZE = 64 * _arena.SLAB
LARGE = b"x" * 200_000


class Transport:
    def __init__(self):
        self.data = []

    def write(self, data):
        self.data.append(data)

    def set_write_buffer_limits(self, high):
        pass


class Options:
    python, request_codec, response_codec, model, session, plain = True, encoding.CLOUDPICKLE, encoding.CLOUDPICKLE, "", "", False
    by_reference = None


@pytest.fixture
def conn():
    loop = asyncio.new_event_loop()
    conn = wire.Connection(loop, None)
    conn.connection_made(Transport())
    conn.segments = True
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    fcntl.fcntl(fd, 1033, _arena._SEALS)
    memory = conn.memory = Memory(conn, fd, {"id": 7, "size": SIZE, "most": SIZE})
    conn.memory.arena.stock.granted(_arena.Grant(1, 0, SIZE))
    yield conn
    memory.close()
    loop.close()


def held(conn):
    stock = conn.memory.arena.stock
    return stock.held + sum(g.length for g in stock.surplus)


def start(conn, options, *args, **kwargs):
    call = wire.Call(conn, wire.new_request())
    conn.start(call, ("a", "d", "m"), None, options, args, kwargs)
    return call


def test_what_is_not_sent_goes_back_into_stock(conn):
    """The places of a call, or a result, that cannot be sent are used again: no other code would give them back."""
    conn.max_body = 300_000
    long = Options()
    long.model = "m" * 70_000
    go = Options()
    go.python, go.request_codec = False, encoding.MSGPACK
    for _ in range(50):
        for options, args in ((Options, (LARGE, LARGE)), (long, (LARGE,)), (go, (LARGE, LARGE)), (go, (LARGE, object()))):
            assert start(conn, options, *args).error is not None
    assert held(conn) == SIZE
    worker = Worker(conn.loop)
    worker.conn = conn
    for _ in range(50):
        with pytest.raises(Exception, match="at most"):
            worker.reply_in_parts(1, encoding.CLOUDPICKLE, b"", [LARGE, LARGE])
    assert held(conn) == SIZE
    assert start(conn, Options, LARGE).error is None and held(conn) < SIZE


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_sent_does_not_change_any_more(conn, shared):
    """A buffer that belongs to a value of the user's is copied before the user has it again."""
    if not shared:
        conn.memory = None
    data = bytearray(LARGE)
    out = Out(conn)
    where, _ = out.add(memoryview(data))
    assert bool(where) == shared
    conn.put(b"", *out.segments)
    data[:] = b"y" * len(data)
    conn.flush()
    assert b"y" not in b"".join(conn.transport.data)
    data.append(1)  # the value has no reader any more


def test_a_view_that_dies_while_others_are_released_is_released(conn):
    """The collector may run in the middle of a release, which makes objects: no reference waits for the next read."""
    arena = conn.memory.arena
    first, second = ([arena.view(_arena.Ref(7, 1, at * _arena.SLAB, 200_000))] for at in (0, 4))
    send, parse = conn.send, conn.parse
    conn.parse = lambda: (first.clear(), parse())
    conn.send = lambda *frame: (second.clear(), send(*frame))
    conn.get_buffer(-1)
    conn.buffer_updated(0)
    for _ in range(2):
        conn.loop.run_until_complete(asyncio.sleep(0))
    assert [data[16:] for data in conn.transport.data] == [REF.pack(7, 1, at * _arena.SLAB, 200_000) for at in (0, 4)]
