"""serve.run with _local_testing_mode."""

import asyncio
from ray import serve
from ray.serve.handle import DeploymentHandle


@serve.deployment(user_config="A")
class Model:
    def __init__(self):
        self.cfg = None

    def reconfigure(self, cfg):
        self.cfg = cfg

    def predict(self, x):
        return f"{self.cfg}{x}"

    def gen(self, n):
        yield from range(n)

    def boom(self):
        raise ValueError("boom")


@serve.deployment
class Front:
    def __init__(self, m: DeploymentHandle):
        self.m = m

    async def __call__(self, x):
        return await self.m.predict.remote(x)

    async def total(self, n):
        return sum([i async for i in self.m.options(stream=True).gen.remote(n)])


h = serve.run(Front.bind(Model.bind()), _local_testing_mode=True)
print(h.remote(3).result(), h.total.remote(4).result(), isinstance(h, DeploymentHandle))
m = serve.run(Model.bind(), _local_testing_mode=True, name="m")
print(m.predict.remote(m.predict.remote("z")).result())
try:
    m.boom.remote().result()
except ValueError as e:
    print("ValueError", e)
print(list(m.options(stream=True).gen.remote(3)))


async def main():
    return await h.remote("async")

print(asyncio.run(main()))
