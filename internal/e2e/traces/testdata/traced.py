"""The deployment in Python of the tests of traces."""

import asyncio
import threading

from helve import serve


class Model:
    def __init__(self, ranker):
        self.ranker = ranker

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=60)
    async def embed(self, ns):
        with serve.span("matrix", size=len(ns)):
            return [n + 1 for n in ns]

    async def Embed(self, n: int) -> int:
        return await self.embed(n)

    async def Top(self, n: int) -> int:
        with serve.span("python", n=n) as span:
            await asyncio.gather(self.ranker.Rank.remote(1), self.ranker.Rank.remote(2))
            span.set(late=True)
        loop, note = asyncio.get_running_loop(), self.ranker.Note
        with serve.span("elsewhere"):
            await asyncio.create_task(self.one(note, 1))
            await asyncio.to_thread(lambda: note.remote(2).result())
            await loop.run_in_executor(None, lambda: note.remote(3).result())
            thread = threading.Thread(target=lambda: note.remote(4).result())
            thread.start()
            await loop.run_in_executor(None, thread.join)
        return len([i async for i in self.ranker.options(stream=True).Items.remote(n)])

    async def one(self, note, n: int) -> int:
        return await note.remote(n)

    async def Items(self, n: int):
        for i in range(n):
            yield i

    async def Note(self, n: int) -> int:
        return n
