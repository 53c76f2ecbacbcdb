"""Applications that the tests of the dashboard look at: calls between deployments, waits, failures, logs, an autoscaler, a constructor that fails."""

import asyncio
import logging
import os

from helve import serve

log = logging.getLogger("shop")


@serve.deployment(num_replicas=2, max_ongoing_requests=2)
class Prices:
    async def __call__(self, name: str) -> float:
        if name == "slow":
            await asyncio.sleep(1.5)
        if name == "held":
            while not os.path.exists(os.environ["SHOP_GATE"]):
                await asyncio.sleep(0.02)
        if name == "broken":
            log.error("there is no price of %s", name)
            raise ValueError("there is no price of broken, <b>in bold</b>")
        await asyncio.sleep(0.002)
        return 4.5


@serve.deployment(autoscaling_config={"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 2})
class Ranker:
    def __init__(self, prices):
        self.prices = prices

    async def rank(self, name: str) -> dict:
        log.info("ranks %s", name)
        return {"name": name, "price": await self.prices.remote(name)}


@serve.deployment
class Front:
    def __init__(self, ranker):
        self.ranker = ranker

    async def __call__(self, request) -> dict:
        return await self.ranker.rank.remote(request.query_params.get("name", "tea"))


app = Front.bind(Ranker.bind(Prices.bind()))


@serve.deployment(name="A_deployment_whose_name_is_as_long_as_names_of_teams_that_write_all_into_them_for_example_of_a_tokenizer")
class Long:
    def __call__(self, request) -> str:
        return "long"


long_app = Long.bind()


@serve.deployment
class Broken:
    def __init__(self):
        raise RuntimeError("the weights are not there: /srv/weights/model.bin")

    def __call__(self, request) -> str:
        return ""


broken_app = Broken.bind()


@serve.deployment(num_replicas=1000, ray_actor_options={"num_cpus": 0})
class Many:
    def __call__(self, request) -> str:
        return "one of many"


@serve.deployment(num_replicas=2)
class Steps:
    def __call__(self, request) -> str:
        return "one step after the other"


steps_app = Steps.bind()
