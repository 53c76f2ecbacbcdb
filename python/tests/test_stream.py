"""Streams between Python deployments, drivers and Go over a real node."""

import asyncio
import gc
import threading

import pytest

from helve import serve
from helve.serve.exceptions import RequestCancelledError


@serve.deployment(max_ongoing_requests=20)
class Source:
    def __init__(self):
        self.made = 0
        self.closed = asyncio.Event()
        self.more = asyncio.Event()

    def numbers(self, n: int):
        for i in range(n):
            yield i

    async def slow_numbers(self, n: int):
        for i in range(n):
            yield i
            await asyncio.sleep(0)

    def returned(self, n: int):
        return self.numbers(n)

    async def fail_after(self, n: int):
        for i in range(n):
            yield i
        raise ValueError(f"after {n}")

    async def endless(self, size: int):
        try:
            while True:
                self.made += 1
                yield b"x" * size
        finally:
            self.closed.set()

    def endless_sync(self):
        try:
            while True:
                yield "x"
        finally:
            self.closed.set()

    async def one_then_wait(self):
        yield "first"
        await self.more.wait()
        yield "second"

    async def go_on(self):
        self.more.set()

    async def count(self):
        return self.made

    async def await_closed(self):
        await self.closed.wait()
        self.closed.clear()
        return "closed"

    async def unary(self, x):
        return x


@serve.deployment
class Reader:
    def __init__(self, source):
        self.source = source.options(stream=True)
        self.plain = source

    async def total(self, n: int):
        return sum([i async for i in self.source.slow_numbers.remote(n)])

    async def relay(self, n: int):
        async for i in self.source.numbers.remote(n):
            yield i * 10

    async def both(self):
        a, b = self.source.numbers.remote(3), self.source.slow_numbers.remote(3)
        return [(await anext(a), await anext(b)) for _ in range(3)]

    async def break_out(self):
        async for _ in self.source.endless.remote(10):
            break
        return await self.plain.await_closed.remote()

    async def sync_next(self):
        return next(self.source.numbers.remote(1))

    async def awaits(self):
        return await self.source.numbers.remote(1)


@pytest.fixture(scope="module")
def source():
    serve.start(http_options={"port": None})
    serve.run(Reader.bind(Source.bind()))
    yield serve.get_deployment_handle("Source", "default")
    serve.shutdown()


@pytest.fixture(scope="module")
def reader(source):
    return serve.get_app_handle("default")


@pytest.mark.parametrize("method", ["numbers", "slow_numbers", "returned"])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_all_items_in_order(source, method, n):
    assert list(source.options(stream=True, method_name=method).remote(n)) == list(range(n))


def test_the_handle_still_makes_unary_calls(source):
    h = source.options(stream=True)
    assert list(h.numbers.remote(2)) == [0, 1]
    assert h.options(stream=False).unary.remote(7).result() == 7


def test_exhausted_stays_exhausted(source):
    g = source.options(stream=True).numbers.remote(1)
    assert next(g) == 0
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(g)


@pytest.mark.parametrize("n", [0, 3, 600])
def test_an_error_comes_last(source, n):
    got = []
    with pytest.raises(ValueError, match=f"after {n}"):
        for i in source.options(stream=True).fail_after.remote(n):
            got.append(i)
    assert got == list(range(n))
    assert source.unary.remote("serves on").result() == "serves on"


def test_items_arrive_while_the_method_runs(source):
    g = source.options(stream=True).one_then_wait.remote()
    assert next(g) == "first"
    source.go_on.remote().result()
    assert list(g) == ["second"]


def test_large_items(source):
    g = source.options(stream=True).endless.remote(3 << 20)
    assert [len(next(g)) for _ in range(4)] == [3 << 20] * 4
    g.cancel()
    assert source.await_closed.remote().result() == "closed"


@pytest.mark.parametrize("size, most", [(1, 300), (100_000, 40)])
def test_the_method_waits_for_its_reader(source, size, most):
    before = source.count.remote().result()
    g = source.options(stream=True).endless.remote(size)
    next(g)
    for _ in range(300):  # each gives the method the time to go further
        made = source.count.remote().result() - before
    assert 1 <= made <= most
    g.cancel()
    assert source.await_closed.remote().result() == "closed"
    with pytest.raises(RequestCancelledError):
        next(g)
    assert g.cancelled()


@pytest.mark.parametrize("method, args", [("endless", (10,)), ("endless_sync", ())])
def test_whoever_is_forgotten_is_closed(source, method, args):
    g = source.options(stream=True, method_name=method).remote(*args)
    next(g)
    del g
    gc.collect()
    assert source.await_closed.remote().result() == "closed"


def test_cancelled_before_it_was_read(source):
    g = source.options(stream=True).endless.remote(10)
    g.cancel()
    with pytest.raises(RequestCancelledError):
        list(g)


def test_in_deployments(reader):
    assert reader.total.remote(1000).result() == 499500
    assert list(reader.options(stream=True).relay.remote(300)) == [10 * i for i in range(300)]
    assert reader.both.remote().result() == [(i, i) for i in range(3)]
    assert reader.break_out.remote().result() == "closed"


@pytest.mark.parametrize("method, error", [("sync_next", RuntimeError), ("awaits", TypeError)])
def test_wrong_reads(reader, method, error):
    with pytest.raises(error, match="async for"):
        reader.options(method_name=method).remote().result()


def test_async_reads_on_another_loop(source):
    async def read():
        return [i async for i in source.options(stream=True).numbers.remote(500)]

    assert asyncio.run(read()) == list(range(500))


def test_many_at_once(source):
    got, h = [], source.options(stream=True)
    threads = [threading.Thread(target=lambda: got.append(sum(h.slow_numbers.remote(400)))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == [79800] * 8


def test_wrong_calls(source):
    with pytest.raises(TypeError, match="stream=True"):
        source.numbers.remote(1).result()
    with pytest.raises(TypeError, match="stream=True"):
        source.returned.remote(1).result()
    with pytest.raises(TypeError, match="did not return a generator"):
        next(source.options(stream=True).unary.remote(1))
    g = source.options(stream=True).numbers.remote(1)
    with pytest.raises(TypeError, match="doesn.t support `.result"):
        g.result()
    with pytest.raises(RuntimeError, match="cannot be passed"):
        source.unary.remote(g)
