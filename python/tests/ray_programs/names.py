"""Functions, builders, odd names, applications inside of objects, attributes of deployments, and wrong options."""

from functools import partial
import ray
from ray import serve
import requests
from ray.serve import Application, Deployment
from typing import Dict
from pydantic import BaseModel


@serve.deployment
def hello(request):
    return "hello"


@serve.deployment(name="a/b", num_replicas="auto")
class Weird:
    def __call__(self, x=None):
        return "weird"


class Args(BaseModel):
    message: str


@serve.deployment
class HelloWorld:
    def __init__(self, message: str):
        self._message = message

    def __call__(self, request):
        return self._message


def app_builder(args: Args) -> Application:
    return HelloWorld.bind(args.message)


class Box:
    def __init__(self, *inner):
        self.inner = inner


@serve.deployment
class Many:
    def __init__(self, box, by_name: Dict, lst):
        self.box, self.by_name, self.lst = box, by_name, lst

    async def __call__(self):
        out = [await h.remote() for h in self.box.inner]
        out += [await h.remote() for h in self.by_name.values()]
        out += [await h.remote() for h in self.lst]
        return out


h = serve.run(hello.bind())
print(requests.get("http://localhost:8000/").text)
print(serve.run(Weird.bind(), name="w", route_prefix="/w").remote().result())
serve.run(app_builder(Args(message="hi")), name="b", route_prefix="/b")
print(requests.get("http://localhost:8000/b").text)
w = Weird.options(name="w1", num_replicas=1, ray_actor_options={"num_cpus": 0})
print(serve.run(Many.bind(Box(w.bind()), {"x": w.options(name="w2").bind()}, [w.options(name="w3").bind()]), name="many", route_prefix=None).remote().result())
print(sorted(serve.status().applications))
d = HelloWorld.options(num_replicas=3, max_ongoing_requests=7, user_config={"a": 1})
print(d.name, d.num_replicas, d.max_ongoing_requests, d.user_config, d.max_queued_requests, d.ray_actor_options, d.func_or_class.__name__)
print(Weird.num_replicas, Weird.max_ongoing_requests, d == HelloWorld, str(d))
try:
    HelloWorld()
except RuntimeError as e:
    print("RuntimeError")
for bad in ({"num_replicas": 0}, {"num_replicas": -1}, {"max_ongoing_requests": 0}, {"max_queued_requests": 0}, {"max_ongoing_requests": None}, {"health_check_period_s": -1}, {"graceful_shutdown_timeout_s": -1}, {"ray_actor_options": {"name": "x"}}, {"ray_actor_options": 3}, {"user_config": object()}):
    try:
        serve.deployment(**bad)(Box)
        print(bad, "accepted")
    except Exception as e:
        print(sorted(bad)[0], isinstance(e, ValueError), isinstance(e, TypeError))
try:
    serve.deployment(bad_option=1)
except TypeError as e:
    print("TypeError", "bad_option" in str(e))
serve.shutdown()
