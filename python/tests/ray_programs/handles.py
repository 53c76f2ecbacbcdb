"""Handles by name inside of replicas, misuse, backpressure, cancels, timeouts, pickles, broadcast."""

import asyncio
import pickle
import time
import ray
import requests
from ray import serve
from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError
from ray.serve.handle import DeploymentHandle


@serve.deployment(max_ongoing_requests=1, max_queued_requests=1, graceful_shutdown_timeout_s=1)
class Slow:
    async def __call__(self, s):
        await asyncio.sleep(s)
        return "done"

    def sync(self):
        return serve.get_replica_context().app_name


@serve.deployment
class Caller:
    def __init__(self):
        self.h = None

    async def late(self, name):
        self.h = serve.get_app_handle(name)
        return await self.h.sync.remote()

    async def by_deployment(self):
        return await serve.get_deployment_handle("Slow", app_name="slow").sync.remote()

    async def own(self):
        return await serve.get_deployment_handle("Caller").echo.remote("me")

    def echo(self, x):
        return x

    async def result_in_loop(self):
        try:
            serve.get_deployment_handle("Caller").echo.remote("me").result()
        except RuntimeError as e:
            return "RuntimeError asyncio" if "asyncio" in str(e) else str(e)

    def gen(self):
        yield 1

    async def cancelled(self):
        r = serve.get_app_handle("slow").remote(100)
        await asyncio.sleep(0.2)
        r.cancel()
        try:
            await r
        except (asyncio.CancelledError, RequestCancelledError) as e:
            return type(e).__name__


slow = serve.run(Slow.bind(), name="slow", route_prefix="/slow")
caller = serve.run(Caller.bind(), name="caller", route_prefix="/caller")
print(caller.late.remote("slow").result(), caller.by_deployment.remote().result(), caller.own.remote().result())
print(caller.result_in_loop.remote().result())
print(caller.cancelled.remote().result())
try:
    caller.gen.remote().result()
except TypeError as e:
    print("stream=True" in str(e))
try:
    list(caller.options(stream=True).echo.remote(1))
except TypeError as e:
    print("did not return a generator" in str(e))
h2 = pickle.loads(pickle.dumps(slow))
print(h2.sync.remote().result(), h2.deployment_name, h2.app_name, str(h2.deployment_id))
try:
    pickle.dumps(caller.echo.remote(1))
except Exception as e:
    print(type(e).__name__, "is not serializable" in str(e))
time.sleep(0.5)
rs = [slow.remote(1)]
time.sleep(0.3)
rs += [slow.remote(0.1) for _ in range(5)]
out = []
for r in rs:
    try:
        out.append(r.result())
    except BackPressureError as e:
        out.append("backpressure")
print(out.count("done"), out.count("backpressure"))
r = slow.remote(100)
time.sleep(0.2)
r.cancel()
try:
    r.result()
except RequestCancelledError:
    print("RequestCancelledError")
try:
    slow.remote(100).result(timeout_s=0.1)
except TimeoutError:
    print("TimeoutError")
print(hasattr(slow, "is_initialized"), isinstance(slow.options(method_name="sync"), DeploymentHandle))
try:
    slow.options(stream=True, method_name="x", nonsense=1)
except TypeError:
    print("TypeError")
try:
    serve.get_deployment_handle("nope", app_name="slow").remote(1).result(timeout_s=5)
except Exception as e:
    print("nope fails")
b = caller.broadcast("echo", 5) if hasattr(caller, "broadcast") else None
print(b.results(timeout_s=10) if b is not None else None)
serve.shutdown()
