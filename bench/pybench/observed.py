"""A deployment and its caller, for the rows about the cost of observing. It prints "ready", and then measures once for each line of JSON that it reads
(pybench/loops.py). It ends with its standard input.
"""

import asyncio
import json
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from helve import serve  # noqa: E402
from pybench.loops import PAYLOAD, measure  # noqa: E402

OBSERVED = os.environ.get("BENCH_OBSERVED", "")  # as observed.go names the ways


@serve.deployment(max_ongoing_requests=1000)
class Echo:
    def __init__(self, watched):
        if not watched:
            watchdogs = [t for t in threading.enumerate() if t.name == "helve-watchdog"]
            watchdogs[0]._target.__self__.stop()
            watchdogs[0].join(5)
            assert not watchdogs[0].is_alive()

    async def __call__(self, value):
        return value


@serve.deployment(name="Echo", max_ongoing_requests=1000)
class Spanned:
    async def __call__(self, value):
        with serve.span("part"):
            return value


async def main():
    app = Spanned.bind() if OBSERVED.startswith("a span") else Echo.bind(OBSERVED != "no stall watchdog")
    handle = serve.run(app, route_prefix=None)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        print(json.dumps(await measure(lambda: handle.remote(PAYLOAD), asked["seconds"], asked["in_flight"], asked["per_second"])), flush=True)


asyncio.run(main())
