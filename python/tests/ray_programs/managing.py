"""Updates in place and of code, status objects, failed deploys, deletes, and mistakes of options."""

import time
import requests
import ray
from ray import serve
from ray.serve.config import AutoscalingConfig


@serve.deployment(name="my_model", num_replicas=1)
class SimpleDeployment:
    def __init__(self):
        self.threshold = None

    def reconfigure(self, config):
        self.threshold = config["threshold"]

    def __call__(self, request=None):
        return f"v1 {self.threshold}"


handle = serve.run(SimpleDeployment.options(user_config={"threshold": 1}).bind(), name="a", route_prefix="/a")
print(requests.get("http://localhost:8000/a").text)
serve.run(SimpleDeployment.options(user_config={"threshold": 2}).bind(), name="a", route_prefix="/a")
print(handle.remote().result())


@serve.deployment(name="my_model", num_replicas=2)
class SimpleDeployment2:
    def __call__(self, request=None):
        return "v2"


h2 = serve.run(SimpleDeployment2.bind(), name="a", route_prefix="/a")
print(requests.get("http://localhost:8000/a").text, handle.remote().result(), h2.remote().result())
st = serve.status()
app = st.applications["a"]
print(app.status, app.status == "RUNNING", app.deployments["my_model"].status, app.deployments["my_model"].replica_states["RUNNING"])
print(type(st).__name__, sorted(st.__dataclass_fields__))


@serve.deployment(name="my_model", ray_actor_options={"num_cpus": 0})
class Broken:
    def __init__(self):
        raise RuntimeError("constructor is broken")


try:
    serve.run(Broken.options(max_constructor_retry_count=1).bind(), name="b", route_prefix="/b")
except RuntimeError as e:
    print("Deploying application b failed" in str(e))
b = serve.status().applications["b"]
print(b.status, "constructor is broken" in b.message or "constructor is broken" in b.deployments["my_model"].message)
serve.delete("b")
print("b" in serve.status().applications)
serve.delete("a")
print(serve.status().applications)
try:
    serve.get_app_handle("a")
except Exception as e:
    print(type(e).__name__, "does not exist" in str(e))
try:
    serve.run(SimpleDeployment.bind(), name="x", route_prefix="no-slash")
except ValueError as e:
    print("ValueError", "route_prefix" in str(e))
try:
    @serve.deployment(num_replicas=2, autoscaling_config={"min_replicas": 1})
    class X:
        pass
except ValueError as e:
    print("Manually setting num_replicas is not allowed when autoscaling_config is provided." in str(e))
try:
    AutoscalingConfig(min_replicas=3, max_replicas=1)
except ValueError as e:
    print("ValueError", "max_replicas" in str(e))
serve.shutdown()
