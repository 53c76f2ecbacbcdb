"""The loops that measure both sides of a row: closed (callers that wait for their answer), and open (calls that come when
they come)."""

import asyncio
import random
import time

PAYLOAD = b"x" * 100
WARM = 200


async def measure(call, seconds, in_flight, per_second, payload=PAYLOAD):
    warm = WARM if payload is PAYLOAD else 5
    for _ in range(warm):
        if await call() != payload:
            raise RuntimeError("the echo is not what was sent")
    took, done, elapsed = await (open_loop(call, seconds, per_second) if per_second else closed_loop(call, seconds, in_flight))
    took.sort()
    return {
        "rate": done / elapsed,
        "p50": took[len(took) // 2] if took else 0.0,
        "p99": took[len(took) * 99 // 100] if took else 0.0,
        "calls": float(done + warm),
    }


async def closed_loop(call, seconds, in_flight):
    now = time.perf_counter
    took, done = [], 0
    start = now()
    end = start + seconds

    async def caller():
        nonlocal done
        while True:
            t = now()
            if t >= end:
                return
            await call()
            done += 1
            took.append(now() - t)

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return took, done, now() - start


async def measure_streams(call, streams, items, seconds):
    """Rounds of streams that begin at the same time. The rate is of items, and the times end with the first item of each stream."""
    now = time.perf_counter
    first, count = [], 0

    async def one():
        begin, n = now(), 0
        async for _ in call():
            if n == 0:
                first.append(now() - begin)
            n += 1
        if n != items:
            raise RuntimeError(f"{n} of {items} items")

    start = now()
    while now() < start + seconds or not count:
        await asyncio.gather(*(one() for _ in range(streams)))
        count += streams * items
    elapsed = now() - start
    first.sort()
    return {"rate": count / elapsed, "p50": first[len(first) // 2], "p99": first[len(first) * 99 // 100], "calls": float(count)}


async def open_loop(call, seconds, per_second):
    """Poisson arrivals, as fine as the event loop's timers; the same ones on both sides."""
    draw = random.Random(1)
    now = time.perf_counter
    took, tasks = [], set()

    async def one(due):
        await call()
        took.append(now() - due)

    start = due = now()
    while due < start + seconds:
        due += draw.expovariate(per_second)
        if (wait := due - now()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.ensure_future(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.gather(*tasks)
    return took, len(took), now() - start
