"""The closed loop that measures both sides of a row."""

import asyncio
import time


async def measure(call, seconds, in_flight):
    now = time.perf_counter
    for _ in range(200):
        await call()
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
            if in_flight == 1:
                took.append(now() - t)

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    rate = done / (now() - start)
    took.sort()
    return {"rate": rate, "p50": took[len(took) // 2] if took else 0.0}
