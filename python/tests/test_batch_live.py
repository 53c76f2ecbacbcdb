"""serve.batch in replicas of a real node."""

import asyncio
import threading
from typing import List

import httpx
import pytest
from starlette.requests import Request

from ports import free_port
from helve import _driver, serve
from helve.serve import context
from helve.serve.exceptions import RayServeException, RequestCancelledError


@serve.deployment(max_ongoing_requests=200, user_config={"size": 4, "wait": 1000})
class Model:
    def __init__(self):
        self.batches = []
        self.go = asyncio.Event()

    def reconfigure(self, config):
        self.batched.set_max_batch_size(config["size"])
        self.batched.set_batch_wait_timeout_s(config["wait"])

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0)
    async def batched(self, xs):
        self.batches.append(xs)
        members = context._get_serve_batch_request_context()
        if "raise" in xs:
            raise ZeroDivisionError("in the batch")
        if "short" in xs:
            return []
        return [(x, m.request_id, m.multiplexed_model_id) for x, m in zip(xs, members)]

    async def __call__(self, x):
        x = await x.json() if hasattr(x, "json") else x
        answer = await self.batched(x)
        own = context._get_serve_request_context()
        assert own.request_id == answer[1] and own.multiplexed_model_id == answer[2] == serve.get_multiplexed_model_id()
        return answer

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=1000)
    async def streamed(self, ns):
        for i in range(max(ns)):
            yield [i if i < n else StopIteration for n in ns]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=1000)
    async def held(self, xs):
        self.batches.append("held")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.batches.append("cancelled")
            raise
        return xs

    async def hold(self, x):
        return await self.held(x)

    async def until(self, n):
        """Returns the batches when there are n of them."""
        while len(self.batches) < n:
            await asyncio.sleep(0.001)
        return self.batches

    def release(self):
        self.go.set()


@serve.deployment
@serve.batch(max_batch_size=3, batch_wait_timeout_s=1000)
async def function(xs):
    return [sum(xs)] * len(xs)


@pytest.fixture(scope="module")
def url():
    port = free_port()
    serve.start(http_options={"port": port})
    serve.run(function.bind(), name="function", route_prefix=None)
    serve.run(Model.bind(), name="models", route_prefix="/models")
    yield f"http://127.0.0.1:{port}/models"
    serve.shutdown()
    _driver._http = None


@pytest.fixture
def model(url):
    """An application of the test's own: its batches are the test's."""
    handle = serve.run(Model.bind(), name="own", route_prefix=None)
    yield handle
    serve.delete("own")


def test_calls_of_a_handle(model):
    calls = [model.remote(i) for i in range(8)]
    assert [c.result()[0] for c in calls] == list(range(8))
    assert model.until.remote(2).result() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_options_of_the_config(model):
    serve.run(Model.options(user_config={"size": 10, "wait": 0}).bind(), name="own", route_prefix=None)
    assert model.remote("alone").result()[0] == "alone"


def test_errors_reach_all(model):
    for e in [c.exception for c in map(Failed, [model.remote(x) for x in (1, 2, 3, "raise")])]:
        assert type(e).__name__ == "ZeroDivisionError"
    for e in [c.exception for c in map(Failed, [model.remote(x) for x in (1, 2, 3, "short")])]:
        assert isinstance(e, RayServeException) and "Batched function doesn't preserve batch size" in str(e)


class Failed:
    def __init__(self, response):
        with pytest.raises(Exception) as e:
            response.result()
        self.exception = e.value


def test_models_are_apart(model):
    calls = [model.options(multiplexed_model_id="ab"[i % 2]).remote(i) for i in range(8)]
    assert [(x, m) for x, _, m in (c.result() for c in calls)] == [(i, "ab"[i % 2]) for i in range(8)]
    assert sorted(model.until.remote(2).result()) == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_requests(url):
    found = {}

    def ask(i):
        found[i] = httpx.post(url, json=i, headers={"x-request-id": f"mine-{i}"}).json()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == {i: [i, f"mine-{i}", ""] for i in range(4)}


def test_streams(model):
    streams = [model.options(stream=True).streamed.remote(n) for n in (1, 4, 2)]
    assert [list(s) for s in streams] == [[0], [0, 1, 2, 3], [0, 1]]
    with pytest.raises(TypeError, match="stream=True"):
        [model.streamed.remote(1) for _ in range(3)][0].result()


def test_cancelled_calls(model):
    gone, stays = model.hold.remote(1), model.hold.remote(2)
    assert model.until.remote(1).result() == ["held"]
    gone.cancel()
    with pytest.raises(RequestCancelledError):
        gone.result()
    model.release.remote().result()
    assert stays.result() == 2


def test_batch_of_cancelled_calls(model):
    calls = [model.hold.remote(i) for i in range(2)]
    model.until.remote(1).result()
    for c in calls:
        c.cancel()
    assert model.until.remote(2).result() == ["held", "cancelled"]


@serve.deployment(max_ongoing_requests=7)
class Limited:
    async def limit(self):
        from helve import _runtime

        return _runtime.max_ongoing_requests


def test_a_replica_knows_its_limit(url):
    """With it the replica warns of batches that are never full."""
    handle = serve.run(Limited.bind(), name="limited", route_prefix=None)
    assert handle.limit.remote().result() == 7


@serve.deployment(max_ongoing_requests=20)
class Web:
    def __init__(self):
        self.batches = []

    async def until(self, n):
        while len(self.batches) < n:
            await asyncio.sleep(0.001)
        return self.batches

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=1000)
    async def __call__(self, requests: List[Request]) -> List[str]:
        if requests[0].query_params["what"] == "gone":
            self.batches.append("gone")
            try:
                await asyncio.sleep(1000)
            finally:
                self.batches.append("ended")
        return [f"{r.query_params['what']} of {len(requests)}" for r in requests]


@serve.deployment(max_ongoing_requests=20)
class WebStream:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=1000)
    async def __call__(self, requests: List[Request]):
        for i in range(2):
            yield [f"{r.query_params['what']}{i} " for r in requests]


def test_requests_are_the_items(url):
    base = url.removesuffix("/models")
    handle = serve.run(Web.bind(), name="web", route_prefix="/web")
    serve.run(WebStream.bind(), name="stream", route_prefix="/stream")

    async def ask():
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:
            gone = [asyncio.ensure_future(client.get("/web", params={"what": "gone"})) for _ in range(4)]
            await handle.until.remote(1)
            for g in gone:
                g.cancel()
            await asyncio.wait(gone)
            assert await handle.until.remote(2) == ["gone", "ended"]
            web = await asyncio.gather(*[client.get("/web", params={"what": w}) for w in "abcd"])
            stream = await asyncio.gather(*[client.get("/stream", params={"what": w}) for w in "ab"])
            return [r.text for r in (*web, *stream)]

    assert asyncio.run(ask()) == [*(f"{w} of 4" for w in "abcd"), "a0 a1 ", "b0 b1 "]


def test_function(url):
    handle = serve.get_app_handle("function")
    assert [c.result() for c in [handle.remote(i) for i in range(3)]] == [3, 3, 3]
