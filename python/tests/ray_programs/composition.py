"""Deployments that call each other: responses as arguments, streams, several calls at once, references."""

import asyncio
import ray
import requests
import starlette
from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from ray.serve.handle import DeploymentResponseGenerator
from typing import Generator


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.1})
class Adder:
    def __init__(self, increment: int):
        self.increment = increment

    def add(self, inp: int) -> int:
        return self.increment + inp

    __call__ = add


@serve.deployment
class Multiplier:
    def __init__(self, multiple: int):
        self.multiple = multiple

    async def multiply(self, inp: int) -> int:
        await asyncio.sleep(0.01)
        return self.multiple * inp

    async def __call__(self, inp: int) -> int:
        return await self.multiply(inp)


@serve.deployment
class Streamer:
    def __call__(self, limit: int) -> Generator[int, None, None]:
        for i in range(limit):
            yield i


@serve.deployment
class Ingress:
    def __init__(self, adder: DeploymentHandle[Adder], multiplier: DeploymentHandle, streamer: DeploymentHandle):
        self._adder = adder
        self._multiplier = multiplier
        self._streamer = streamer.options(stream=True)

    async def __call__(self, input: int) -> int:
        adder_response: DeploymentResponse = self._adder.remote(input)
        # Pass the adder response directly into the multipler (no await needed).
        multiplier_response: DeploymentResponse[int] = self._multiplier.remote(adder_response)
        return await multiplier_response

    async def total(self, n):
        gen: DeploymentResponseGenerator = self._streamer.remote(n)
        total = 0
        async for i in gen:
            total += i
        return total

    async def gathered(self, n):
        return await asyncio.gather(*[self._adder.add.remote(i) for i in range(n)])

    async def refs(self, n):
        ref = await self._adder.remote(n)._to_object_ref()
        return await ref

    async def over_http(self):
        return 3


app = Ingress.bind(Adder.bind(increment=1), Multiplier.bind(multiple=2), Streamer.bind())
handle: DeploymentHandle = serve.run(app)
response = handle.remote(5)
assert response.result() == 12, "(5 + 1) * 2 = 12"
print(response.result(), handle.total.remote(10).result(), handle.gathered.remote(4).result(), handle.refs.remote(4).result())
try:
    handle.nothing.remote().result()
except Exception as e:
    print("Available methods" in str(e))
try:
    handle.remote("x").result()
except TypeError as e:
    print(type(e).__mro__[-3].__name__, isinstance(e, TypeError), "can only concatenate" in str(e) or "unsupported operand" in str(e))
print(sorted(serve.status().applications["default"].deployments))
serve.shutdown()
