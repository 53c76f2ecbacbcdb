"""The Python twin of Zoo in models_test.go."""

import asyncio
import os
from pathlib import Path

from helve import serve


class Zoo:
    def __init__(self, directory):
        self.dir = Path(directory)

    @serve.multiplexed(max_num_models_per_replica=2)
    async def get(self, model_id):
        with open(self.dir / "loads", "a") as f:
            f.write(model_id + "\n")
        if model_id == "none":
            raise ValueError("there is none")
        return model_id

    async def where(self) -> str:
        await self.get(serve.get_multiplexed_model_id())
        return serve.get_replica_context().replica_tag

    async def hold(self) -> str:
        """Answers when the file go is there."""
        tag = await self.where()
        while not os.path.exists(self.dir / "go"):
            await asyncio.sleep(0.001)
        return tag
