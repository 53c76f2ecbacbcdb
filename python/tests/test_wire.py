"""The wire protocol of this package against real sockets, and against docs/wire.md."""

import asyncio
import socket

from helve import _encoding as encoding
from helve import _wire as wire
from helve._stream import Outflow


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
        await asyncio.wait(tasks, timeout=0.2)
        waiting = conn.transport.get_write_buffer_size()
        # Those that were let in by the same look may add a frame each.
        assert (1 << 20) < waiting < (1 << 20) + 50 * 50_000, waiting
        assert not all(t.done() for t in tasks)
        got = 0
        while got < 50 * 10 * 40_000:
            got += len(await loop.sock_recv(node, 1 << 20))
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        # The end of the connection wakes those that wait.
        tasks = [asyncio.create_task(generate(Outflow(conn, 99, encoding.RAW, (100, 1 << 30)))) for _ in range(50)]
        await asyncio.wait(tasks, timeout=0.2)
        assert not all(t.done() for t in tasks)
        node.close()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    asyncio.run(main())
