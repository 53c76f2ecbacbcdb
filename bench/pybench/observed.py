"""A deployment and its caller, for the rows about the cost of observing. It prints "ready", and then measures once for each line of JSON that it reads
(pybench/loops.py). It ends with its standard input.
"""

import asyncio
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from helve import serve  # noqa: E402
from pybench.loops import PAYLOAD, measure  # noqa: E402


@serve.deployment(max_ongoing_requests=1000)
class Echo:
    async def __call__(self, value):
        return value


async def main():
    handle = serve.run(Echo.bind(), route_prefix=None)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        print(json.dumps(await measure(lambda: handle.remote(PAYLOAD), asked["seconds"], asked["in_flight"], asked["per_second"])), flush=True)


asyncio.run(main())
