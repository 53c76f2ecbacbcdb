"""The streams of serve.batch: async generators whose batches give one item to each caller at a time."""

import asyncio
import gc

from clock import collect, run, settle, spawn

from helve import serve
from helve.serve.batching import AHEAD


def test_streams():
    async def main():
        @serve.batch(max_batch_size=3, batch_wait_timeout_s=1000)
        async def count(ns):
            for i in range(max(ns)):
                yield [i if i < n else StopIteration for n in ns]

        streams = [count(n) for n in (1, 3, 2)]  # each is in the batch from its call on
        assert [await collect(s) for s in streams] == [([0], None), ([0, 1, 2], None), ([0, 1], None)]

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=1)
        async def fails(xs):
            yield xs
            raise ZeroDivisionError

        for items, e in await asyncio.gather(collect(fails(1)), collect(fails(2))):
            assert len(items) == 1 and type(e) is ZeroDivisionError

        @serve.batch(batch_wait_timeout_s=0)
        async def nothing(xs):
            return
            yield

        assert await collect(nothing(1)) == ([], None)

    run(main)


def test_items_come_as_they_are_made():
    async def main():
        go = asyncio.Event()

        @serve.batch(batch_wait_timeout_s=0)
        async def f(xs):
            yield [1]
            await go.wait()
            yield [2]

        s = f(0)
        assert await anext(s) == 1
        rest = spawn(collect(s))
        await settle()
        assert not rest.done()
        go.set()
        assert await rest == ([2], None)

    run(main)


def test_readers_that_leave():
    async def main():
        ended, steps = asyncio.Event(), []

        @serve.batch(max_batch_size=3, batch_wait_timeout_s=0)
        async def forever(xs):
            try:
                while True:
                    steps.append(len(xs))
                    yield xs
                    await asyncio.sleep(1)
            finally:
                ended.set()

        a, b, never_read = forever("a"), forever("b"), forever("c")
        assert await anext(a) == "a" and await anext(b) == "b"
        await a.aclose()
        assert await anext(b) == "b"
        await b.aclose()
        assert not ended.is_set()
        del never_read
        gc.collect()
        await asyncio.wait_for(ended.wait(), 5)

    run(main)


def test_a_slow_reader_holds_the_batch():
    async def main():
        made = 0

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=0)
        async def many(xs):
            nonlocal made
            for made in range(1, AHEAD + 100):
                yield xs

        slow, other = many("slow"), many("other")
        reading = spawn(collect(other))
        await settle()
        for _ in range(AHEAD):
            await asyncio.sleep(0)
        assert made == AHEAD and not reading.done()
        items, e = await collect(slow)
        assert len(items) == AHEAD + 99 and e is None
        assert (await reading) == (["other"] * (AHEAD + 99), None)

    run(main)


def test_a_stream_that_a_thread_made():
    @serve.batch(batch_wait_timeout_s=0)
    async def f(xs):
        yield xs

    s = f(1)  # no loop runs here
    assert asyncio.run(collect(s)) == ([1], None)
