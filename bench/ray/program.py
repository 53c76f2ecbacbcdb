"""The programs that `make bench-ray` runs in both systems. The variable BENCH_SYSTEM, "ray" or "helve", switches the import of `serve`; all other lines are the same.

usage: program.py hello ADDRESS, program.py load ADDRESS, program.py faults ADDRESS

A program prints a line when it serves. It then reads requests from its standard input, one line of JSON each, answers each with a line of JSON, and
ends with its input.
"""

import asyncio
import json
import os
import sys
import time

SYSTEM = os.environ["BENCH_SYSTEM"]
if SYSTEM == "ray":
    from ray import serve
else:
    from helve import serve

LOGGING = {"enable_access_log": False, "log_level": "ERROR"}
# A replica reserves no core: there are more replicas than cores, for which Ray would wait.
FREE = {"ray_actor_options": {"num_cpus": 0}, "logging_config": LOGGING}
MANY = {"max_ongoing_requests": 1000}
PERCENTILES = 50, 99


def answer(value):
    print(json.dumps(value), flush=True)


def serve_requests(handle):
    """Answers each request by a coroutine. Ray's throughput configuration has handles that must be used in an event loop."""

    async def main():
        while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
            answer(await handle(json.loads(line)))

    asyncio.run(main())


# ---- hello: the seed program


@serve.deployment
class Downstream:
    def say_hi(self, message: str):
        return f"Hello {message}!"


@serve.deployment
class Ingress:
    def __init__(self, handle):
        self.downstream = handle

    async def __call__(self, name: str) -> str:
        return await self.downstream.say_hi.remote(name)


def hello(address):
    start(address)
    handle = serve.run(Ingress.bind(Downstream.bind()), route_prefix=None)

    async def ask():
        return await handle.remote("world")

    answer({"text": asyncio.run(ask())})
    sys.stdin.read()


# ---- load: handles and HTTP


@serve.deployment(**MANY, **FREE)
class Echo:
    async def __call__(self, value):
        return value

    async def items(self, n):
        for i in range(n):
            yield i


@serve.deployment(**MANY, **FREE)
class Batcher:
    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def double(self, values):
        return [2 * v for v in values]

    async def __call__(self, value):
        return await self.double(value)


def payload(kind, size):
    if kind == "numpy":
        import numpy

        return numpy.random.default_rng(1).integers(0, 256, size, dtype=numpy.uint8)
    return os.urandom(size)


def percentiles(took):
    took.sort()
    return {f"p{p}": took[len(took) * p // 100] if took else 0.0 for p in PERCENTILES}


@serve.deployment(max_ongoing_requests=10, **FREE)
class Driver:
    """The client of the rows about handles: its loops call the other deployments and take the time of each call."""

    def __init__(self, echo, batcher):
        self.echo, self.batcher = echo, batcher
        self.items = echo.options(stream=True).items

    async def run(self, case):
        if case["kind"] == "stream":
            from pybench.loops import measure_streams

            return await measure_streams(lambda: self.items.remote(case["size"]), case["in_flight"], case["size"], case["seconds"])
        if case["kind"] == "batch":
            return await self.calls(lambda: self.batcher.remote(21), lambda v: v == 42, case)
        value = payload(case["kind"], case["size"])
        return await self.calls(lambda: self.echo.remote(value), lambda v: len(v) == len(value) and v[-1] == value[-1], case)

    async def calls(self, call, right, case):
        for _ in range(case["warm"]):
            if not right(await call()):
                raise RuntimeError("the answer is wrong")
        now = time.perf_counter
        took = []
        start = now()
        end = start + case["seconds"]

        async def caller():
            t = now()
            while t < end:
                await call()
                before, t = t, now()
                took.append(t - before)

        await asyncio.gather(*(caller() for _ in range(case["in_flight"])))
        elapsed = now() - start
        return {"rate": len(took) / elapsed, "calls": len(took) + case["warm"], **percentiles(took)}


@serve.deployment(**MANY, **FREE)
class Noop:
    async def __call__(self, request):
        return "world"


@serve.deployment(**MANY, **FREE)
class Body:
    async def __call__(self, request):
        return str(len(await request.body()))


@serve.deployment(**MANY, **FREE)
class Hop:
    def __init__(self, echo):
        self.echo = echo

    async def __call__(self, request):
        return await self.echo.remote("world")


def fastapi():
    from fastapi import FastAPI

    app = FastAPI()

    @serve.deployment(**MANY, **FREE)
    @serve.ingress(app)
    class Fast:
        @app.get("/items/{name}")
        async def item(self, name: str, n: int = 1):
            return {"name": name, "n": n}

    return Fast


def start(address):
    host, port = address.rsplit(":", 1)
    serve.start(http_options={"host": host, "port": int(port)}, logging_config=LOGGING)


def load(address):
    start(address)
    for name, app in ("noop", Noop.bind()), ("body", Body.bind()), ("hop", Hop.bind(Echo.options(name="Inner").bind())), ("fastapi", fastapi().bind()):
        serve.run(app, name=name, route_prefix="/" + name)
    driver = serve.run(Driver.bind(Echo.bind(), Batcher.bind()), name="driver", route_prefix=None)
    answer({"text": address})

    async def run(case):
        return await driver.run.remote(case)

    serve_requests(run)


# ---- faults: two replicas of 20 ms of work


@serve.deployment(num_replicas=2, **MANY, **FREE)
class Work:
    def __init__(self, version):
        self.version = version

    async def __call__(self, request):
        await asyncio.sleep(0.02)
        return f"{self.version} {os.getpid()}"


def faults(address):
    start(address)
    version, replicas = 1, 2

    def deploy():
        serve.run(Work.options(num_replicas=replicas).bind(version), name="work", route_prefix="/")

    deploy()
    answer({"text": address})
    for line in sys.stdin:
        case = json.loads(line)
        version, replicas = case["version"], case["replicas"]
        deploy()
        answer({"text": "deployed"})


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
