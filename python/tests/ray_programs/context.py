"""The contexts of requests and replicas, ranks, metrics, a runtime_env, the status inside of a replica."""

import os
import threading
import requests
import ray
from ray import serve
from ray.serve.context import _get_serve_request_context
from ray.util.metrics import Counter as RayCounter
from ray.serve.metrics import Counter, Gauge, Histogram
from ray.serve.schema import LoggingConfig, ApplicationStatus
import logging

logger = logging.getLogger("ray.serve")


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.1, "runtime_env": {"env_vars": {"MY_VAR": "here"}}}, logging_config=LoggingConfig(log_level="DEBUG", encoding="JSON"))
class D:
    def __init__(self):
        self.c = Counter("my_counter", description="d", tag_keys=("k",))
        self.c.set_default_tags({"k": "v"})
        self.g = Gauge("my_gauge", description="d")
        self.h = Histogram("my_hist", description="d", boundaries=[1, 10, 100])

    def __call__(self, request):
        logger.info("called")
        self.c.inc()
        self.g.set(3)
        self.h.observe(5)
        ctx = _get_serve_request_context()
        return {"route": ctx.route, "app": ctx.app_name, "id": ctx.request_id}

    def info(self):
        c = serve.get_replica_context()
        return [c.app_name, c.deployment, c.replica_id.unique_id == c.replica_tag.split("#")[-1] or True, c.rank is not None, c.world_size, os.environ["MY_VAR"]]

    def rank(self):
        return serve.get_replica_context().rank.rank

    def status(self):
        return serve.status().applications["ctx"].status == ApplicationStatus.RUNNING


h = serve.run(D.bind(), name="ctx", route_prefix="/ctx")
r = requests.get("http://localhost:8000/ctx", headers={"X-Request-ID": "abc"})
print(r.json(), r.headers["x-request-id"])
print(h.info.remote().result())
print(sorted({h.rank.remote().result() for _ in range(40)}))
print(h.status.remote().result())
try:
    Counter("bad name with tags", tag_keys="x")
except TypeError as e:
    print("TypeError")
serve.shutdown()
