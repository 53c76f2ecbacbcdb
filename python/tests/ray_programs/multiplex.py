"""serve.multiplexed: models over HTTP and by handles, which go to the replica that has the model."""

import requests
from ray import serve
import ray


@serve.deployment(num_replicas=2)
class ModelInferencer:
    def __init__(self):
        self.loaded = []

    @serve.multiplexed(max_num_models_per_replica=2)
    async def get_model(self, model_id: str):
        self.loaded.append(model_id)
        return f"model {model_id}"

    async def __call__(self, request):
        model_id = serve.get_multiplexed_model_id()
        model = await self.get_model(model_id)
        return model

    async def who(self):
        model = await self.get_model(serve.get_multiplexed_model_id())
        return serve.get_replica_context().replica_tag, model


handle = serve.run(ModelInferencer.bind())
resp = requests.get(url="http://localhost:8000", headers={"serve_multiplexed_model_id": str("1")})
print(resp.text)
first = [handle.options(multiplexed_model_id="a", method_name="who").remote().result() for _ in range(1)][0]
import time
time.sleep(2)
print({handle.options(multiplexed_model_id="a", method_name="who").remote().result() == tuple(first) or handle.options(multiplexed_model_id="a", method_name="who").remote().result() == first for _ in range(10)})
try:
    handle.who.remote().result()
except Exception as e:
    print("model ID" in str(e) or "model id" in str(e).lower(), isinstance(e, ValueError))
serve.shutdown()
