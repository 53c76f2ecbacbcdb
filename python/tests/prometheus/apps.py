"""The applications of run.py."""

import asyncio
import os

from helve import serve


@serve.deployment(num_replicas=2, logging_config={"log_level": "CRITICAL"})
class Main:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
    async def together(self, bodies):
        return ["ok" for _ in bodies]

    @serve.multiplexed(max_num_models_per_replica=1)
    async def load(self, model_id):
        return model_id

    async def pid(self):
        return os.getpid()

    async def __call__(self, request):
        if await request.body() == b"fail":
            raise ValueError("the body asks for it")
        await self.load(serve.get_multiplexed_model_id())
        return await self.together(1)


@serve.deployment(max_ongoing_requests=1)
class Slow:
    async def __call__(self):
        await asyncio.sleep(600)


@serve.deployment
class Crash:
    async def __call__(self):
        os._exit(3)
