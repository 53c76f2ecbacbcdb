"""Deployments of every kind, bound, run and called: the types from the decorator to the result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Generic, Iterator, List, Optional, TypeVar

from typing_extensions import assert_type

from helve import serve
from helve.serve.handle import DeploymentBroadcastResponse, DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator, StreamingHandle

K = TypeVar("K")


@serve.deployment
class Model:
    def __init__(self, path: str, *, scale: float = 1.0) -> None:
        self.path, self.scale = path, scale

    def __call__(self, text: str) -> int:
        return len(text)

    async def score(self, text: str) -> float:
        return self.scale * len(text)

    def words(self, text: str) -> Iterator[str]:
        yield from text.split()


@serve.deployment()
class Empty:
    pass


@serve.deployment(num_replicas=2, max_ongoing_requests=10, user_config={"threshold": 3})
class Front:
    def __init__(self, model: DeploymentHandle, others: Optional[List[DeploymentHandle]] = None, by_name: Optional[Dict[str, Any]] = None) -> None:
        self.model, self.others, self.by_name = model, others or [], by_name

    async def __call__(self, text: str) -> str:
        n = await self.model.remote(text)
        return f"{text}: {n}"

    async def all(self, texts: List[str]) -> List[int]:
        responses = [self.model.remote(text) for text in texts]
        return list(await asyncio.gather(*responses))


@dataclass
class Rows:
    rows: int
    title: str = ""

    async def __call__(self) -> Dict[str, int]:
        return {self.title: self.rows}


Data = serve.deployment(Rows)  # pyright does not see the constructor of a dataclass whose decorators make it a deployment, too


class Base(Generic[K]):
    def __init__(self, key: K) -> None:
        self.key = key


@serve.deployment
class Derived(Base[str]):
    async def __call__(self, n: int) -> AsyncIterator[str]:
        for _ in range(n):
            yield self.key


@serve.deployment
def double(n: int) -> int:
    return 2 * n


@serve.deployment(max_queued_requests=5)
async def triple(n: int) -> int:
    return 3 * n


@serve.deployment
def count(n: int) -> Iterator[int]:
    yield from range(n)


@serve.deployment
async def count_async(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


class Plain:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, m: int) -> int:
        return self.n + m


def in_a_call() -> None:
    assert_type(serve.deployment(Plain).bind(1), serve.Application[Plain])
    assert_type(serve.deployment(num_replicas=2)(Plain).options(name="x").bind(1), serve.Application[Plain])
    assert_type(Model.options(func_or_class=Plain).bind(2), serve.Application[Plain])


def bound() -> None:
    model = Model.bind("weights", scale=2)
    Empty.bind()
    Front.bind(model)
    Front.bind(model, [Model.bind("a"), Model.options(name="B", num_replicas="auto").bind("b")], {"first": model})
    Front.options(ray_actor_options={"num_cpus": 2}, autoscaling_config={"min_replicas": 1, "max_replicas": 3}).bind(model, by_name={})
    Data.bind(3, title="x")
    Derived.bind("key")
    double.bind()
    triple.options(num_replicas=3).bind()


def results() -> None:
    handle = serve.run(Model.bind("weights"), name="model", route_prefix="/model")
    assert_type(handle.remote("text").result(), int)
    assert_type(handle.remote("text").result(timeout_s=3), int)
    assert_type(handle.score.remote("text"), DeploymentResponse[Any])
    score: float = handle.score.remote("text").result()
    assert score > 0 and handle.deployment_name == "Model" and handle.app_name == "model"

    assert_type(serve.run(Front.bind(Model.bind("w"))).remote("text").result(), str)
    assert_type(serve.run(Data.bind(1)).remote().result(), Dict[str, int])
    assert_type(serve.run(double.bind()).remote(2).result(), int)
    assert_type(serve.run(triple.bind()).remote(2).result(), int)


def passed_on() -> None:
    """A response stands for its result, so that the arguments of calls are not compared with the parameters."""
    doubler, tripler = serve.run(double.bind(), name="a"), serve.run(triple.bind(), name="b")
    assert_type(doubler.remote(tripler.remote(2)), DeploymentResponse[int])


def streams() -> None:
    items = serve.run(count.bind()).options(stream=True).remote(3)
    assert_type(items, DeploymentResponseGenerator[int])
    assert_type(list(items), List[int])
    handle: DeploymentHandle[Any] = serve.run(Model.bind("w"))
    streaming = handle.options(stream=True)
    assert_type(streaming, StreamingHandle[Any])
    assert_type(streaming.words.remote("a b"), DeploymentResponseGenerator[Any])
    assert_type(streaming.options(method_name="words").remote("a b"), DeploymentResponseGenerator[Any])
    assert_type(streaming.options(stream=False).remote("a b"), DeploymentResponse[Any])
    assert_type(handle.options(method_name="words", stream=True).remote("a b"), DeploymentResponseGenerator[Any])


async def on_a_loop(model: DeploymentHandle[Any]) -> None:
    assert_type([n async for n in serve.run(count_async.bind()).options(stream=True).remote(3)], List[int])
    stream = serve.run(Derived.bind("k")).options(stream=True).remote(3)
    assert_type(await stream.__anext__(), str)
    response: DeploymentResponse[float] = model.score.remote("x")
    assert_type(await response, float)
    response.cancel()
    assert response.cancelled() and response.request_id
    broadcast = model.broadcast("reset", limit=5)
    assert_type(broadcast, DeploymentBroadcastResponse[Any])
    for entry in await broadcast.entries_async(timeout_s=1):
        print(entry.replica_id, entry.error)
    print(await broadcast.results_async(return_exceptions=True), broadcast.missed)
    async with model.choose_replica() as selection:
        print(selection.replica_id, selection.address, await model.dispatch(selection, "text"))


def options_of_handles(handle: DeploymentHandle[Plain]) -> None:
    assert_type(handle.options(multiplexed_model_id="m", session_id="s"), DeploymentHandle[Plain])
    assert_type(handle.options(request_serialization="msgpack", _by_reference=False).remote(1).result(), int)
    assert_type(handle.options(method_name="other").remote(1), DeploymentResponse[Any])


def without_a_type(handle: DeploymentHandle, response: DeploymentResponse, items: DeploymentResponseGenerator) -> None:
    """The names without a type variable, as programs for Ray Serve have them."""
    assert_type(handle, DeploymentHandle[Any])
    assert_type(response.result(), Any)
    assert_type(list(items), List[Any])
    assert_type(handle.any.remote(1, a=2), DeploymentResponse[Any])


def members(d: serve.Deployment) -> None:
    assert d.name and d.version is None and d.num_replicas == 1 and d.max_ongoing_requests == 5 and d.max_queued_requests == -1
    d.set_logging_config({"log_level": "DEBUG"})
    plain: Callable[..., Any] = d.func_or_class
    print(plain, d.user_config, d.ray_actor_options, d.backpressure_config.status_code, d.logging_config, d.init_args, d.init_kwargs)


async def awaited(response: Awaitable[int]) -> int:
    return await response


async def as_an_awaitable() -> int:
    return await awaited(serve.run(double.bind()).remote(2))


members(double)
