"""Memory of node, driver and worker under mixed work: python growth.py [--seconds 180] [--leak driver|worker]. make growth runs it in CI.

Calls, streams, batches, models, failures, cancels and deploys go on all the time; between them the memory of each process is noted, after a
garbage collection. The first third of the notes is warm-up: allocators, caches and pools reach their sizes. Then the median of the last third may be above
that of the second third by no more than the bounds below. For example, a leak of 1 kB in every call of a minute with 10,000 calls is 10 MB.

--leak keeps arguments of calls in one process, so that the program can be seen to fail.
"""

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time

from faults import node_pid, pss
from helve import serve

BOUNDS = {"node": 8, "driver": 3, "worker": 3}  # MiB between the second third and the last one
NOTES = 9  # at least, for a median of each third
_kept = []


@serve.deployment(max_ongoing_requests=100)
class Inner:
    async def double(self, x):
        return x + x


@serve.deployment(max_ongoing_requests=200, logging_config={"log_level": "CRITICAL"})
class Work:
    def __init__(self, inner, leak):
        self.inner, self.leak = inner, leak

    async def pid(self):
        gc.collect()
        return os.getpid()

    async def echo(self, x):
        if self.leak:
            _kept.append(bytes(x))
        return x

    async def composed(self, x):
        return await self.inner.double.remote(x)

    async def items(self, n):
        for i in range(n):
            yield bytes(100)

    async def fails(self):
        raise ValueError("as wanted")

    async def hangs(self):
        await asyncio.sleep(3600)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.001)
    async def batch(self, numbers):
        return [n + 1 for n in numbers]

    @serve.multiplexed(max_num_models_per_replica=2)
    async def load(self, model):
        return bytearray(100_000), model

    async def model(self):
        return (await self.load(serve.get_multiplexed_model_id()))[1]

    async def __call__(self, request):
        return {"length": len(await request.body())}


@serve.deployment
class Cycle:
    def reconfigure(self, config):
        self.n = config["n"]

    async def number(self):
        return self.n


async def expect(response, kind):
    try:
        await response
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


async def cancelled(h):
    response = h.hangs.remote()
    await asyncio.sleep(0.002)
    response.cancel()
    await expect(response, (asyncio.CancelledError, serve.exceptions.RequestCancelledError))


async def breaks_out(h):
    async for _ in (stream := h.options(stream=True).items.remote(10_000)):
        stream.cancel()
        break


async def whole(h):
    assert len([i async for i in h.options(stream=True).items.remote(50)]) == 50


async def large(h):
    assert len(await h.echo.remote(bytes(300_000))) == 300_000


def round_of(h, n, leak):
    """Some calls of each kind."""
    for i in range(10):
        x = os.urandom(1000)
        if leak:
            _kept.append(x * 20)
        yield h.echo.remote(x)
        yield h.composed.remote(i)
        yield h.batch.remote(i)
        yield h.options(multiplexed_model_id=f"m{(n + i) % 3}").model.remote()
    for _ in range(3):
        yield expect(h.fails.remote(), ValueError)
        yield cancelled(h)
        yield breaks_out(h)
        yield whole(h)
    yield large(h)
    yield h.composed.remote(h.composed.remote(n))


async def waited(awaitable):
    return await awaitable


def deploys(n):
    """A deployment comes, is changed in place and by a new version, and goes."""
    for version, config in (("1", n), ("1", n + 1), ("2", n + 1)):
        h = serve.run(Cycle.options(version=version, user_config={"n": config}).bind(), name="cycle", route_prefix=None)
        assert h.number.remote().result() == config
    serve.delete("cycle")


async def run(seconds, leak):
    serve.start(http_options={"port": None})
    h = serve.run(Work.bind(Inner.bind(), leak == "worker"), route_prefix=None)
    worker = await h.pid.remote()
    notes, rounds, cycles, end = [], 0, 0, time.monotonic() + seconds
    while time.monotonic() < end or len(notes) < NOTES:  # on a busy machine a cycle may take much longer than on an idle one
        step = time.monotonic() + min(3, seconds / 30)
        while time.monotonic() < step:
            await asyncio.gather(*(waited(a) for a in round_of(h, rounds, leak == "driver")))
            rounds += 1
        await asyncio.to_thread(deploys, cycles)
        cycles += 1
        assert await h.pid.remote() == worker  # after its garbage collection
        gc.collect()
        notes.append({"node": pss(node_pid()), "driver": pss(os.getpid()), "worker": pss(worker)})
    serve.shutdown()
    return notes, rounds, cycles


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--leak", choices=["driver", "worker"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hg-") as place:
        os.environ["HELVE_RUNTIME_DIR"] = place  # programs beside this one do not find its node
        notes, rounds, cycles = asyncio.run(run(args.seconds, args.leak))
    print(f"{rounds} rounds of 54 calls, {cycles} cycles of three deploys, {len(notes)} notes in {args.seconds:.0f} s")
    third, grown = len(notes) // 3, []
    for name, most in BOUNDS.items():
        first, second, last = (statistics.median(n[name] for n in part) / (1 << 20) for part in (notes[:third], notes[third : 2 * third], notes[-third:]))
        print(f"{name:7} {first:7.1f} {second:7.1f} {last:7.1f} MiB in thirds, growth {last - second:+.1f} of at most {most}")
        if last - second > most:
            grown.append(name)
    if grown:
        sys.exit(f"the memory grows: {', '.join(grown)}")


if __name__ == "__main__":
    main()
