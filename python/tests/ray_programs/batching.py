"""serve.batch: sizes, a reconfigure, wrong results, errors, and streams of a batch."""

import asyncio
from typing import List

import ray
import requests
from starlette.requests import Request
from ray import serve


@serve.deployment
class Model:
    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.1)
    async def __call__(self, multiple_samples: List[int]) -> List[int]:
        return [2 * x for x in multiple_samples]

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=10)
    async def sizes(self, xs):
        return [len(xs)] * len(xs)

    def reconfigure(self, cfg):
        self.sizes.set_max_batch_size(cfg["max_batch_size"])
        self.sizes.set_batch_wait_timeout_s(cfg["batch_wait_timeout_s"])

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=5)
    async def wrong(self, xs):
        return [1] * (len(xs) + 1)

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=5)
    async def raises(self, xs):
        raise ValueError(f"bad batch of {len(xs)}")

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=5)
    async def stream(self, ns: List[int]):
        for i in range(max(ns)):
            yield [i if i < n else StopIteration for n in ns]

    async def streams(self, n):
        async for i in self.stream(n):
            yield i


handle = serve.run(Model.options(max_ongoing_requests=20, user_config={"max_batch_size": 5, "batch_wait_timeout_s": 10}).bind())
responses = [handle.remote(i) for i in range(8)]
print(list(r.result() for r in responses))
print([r.result() for r in [handle.sizes.remote(i) for i in range(10)]])
for r in [handle.wrong.remote(i) for i in range(2)]:
    try:
        r.result()
    except Exception as e:
        print(isinstance(e, serve.exceptions.RayServeException), "preserve batch size" in str(e))
for r in [handle.raises.remote(i) for i in range(2)]:
    try:
        r.result()
    except ValueError as e:
        print("bad batch of 2" in str(e))
h = handle.options(stream=True)
gens = [h.streams.remote(n) for n in (2, 3, 5)]
print([list(g) for g in gens])
serve.shutdown()
