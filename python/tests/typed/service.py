"""The functions of helve.serve, batches, models, HTTP, the context of replicas, metrics, configuration, status and exceptions."""

from __future__ import annotations

from typing import Any, AsyncGenerator, AsyncIterator, Dict, List, Optional, Tuple, Union

from fastapi import FastAPI
from starlette.requests import Request
from typing_extensions import assert_type

import helve
from helve import serve
from helve.serve import batch, metrics, multiplexed
from helve.serve.autoscaling_policy import default_autoscaling_policy
from helve.serve.config import (
    AggregationFunction, AutoscalingConfig, AutoscalingContext, AutoscalingPolicy, BackpressureConfig, ControllerOptions, GangSchedulingConfig, HTTPOptions,
    LoggingConfig, ProxyLocation, RequestRouterConfig, TracingConfig, gRPCOptions,
)
from helve.serve.context import ReplicaContext
from helve.serve.exceptions import (
    BackPressureError, DeploymentUnavailableError, RayServeException, ReplicaUnavailableError, RequestCancelledError, UnknownDeploymentError, gRPCStatusError,
)
from helve.serve.grpc_util import RayServegRPCContext, gRPCInputStream
from helve.serve.handle import DeploymentHandle
from helve.serve.multiplex import get_multiplexed_model_id
from helve.serve.request_router import ConsistentHashRouter, PowerOfTwoChoicesRequestRouter
from helve.serve.schema import ApplicationStatus, DeploymentSchema, ReplicaRank, ServeDeploySchema, ServeStatus

api = FastAPI()


class Weights:
    def __init__(self, language: str) -> None:
        self.language = language


@serve.deployment(max_ongoing_requests=64)
class Batched:
    @serve.batch
    async def plain(self, texts: List[str]) -> List[int]:
        return [len(text) for text in texts]

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.1, max_concurrent_batches=2, batch_size_fn=lambda texts: sum(map(len, texts)))
    async def sized(self, texts: List[str]) -> List[int]:
        return [len(text) for text in texts]

    @batch(max_batch_size=4)
    async def pairs(self, a: List[int], b: List[str]) -> List[Tuple[int, str]]:
        return list(zip(a, b))

    @serve.batch(max_batch_size=4)
    async def streamed(self, counts: List[int]) -> AsyncIterator[List[int]]:
        for i in range(max(counts)):
            yield [i for _ in counts]

    @multiplexed(max_num_models_per_replica=2)
    async def get_model(self, model_id: str) -> Weights:
        return Weights(model_id)

    async def __call__(self, text: str) -> int:
        assert_type(await self.plain(text), int)
        assert_type(await self.sized(text), int)
        assert_type(await self.sized(texts=text), int)
        assert_type(await self.pairs(1, "a"), Tuple[int, str])
        assert_type(self.streamed(3), AsyncGenerator[int, None])
        model = await self.get_model(serve.get_multiplexed_model_id())
        assert_type(model, Weights)
        return len(model.language)

    def reconfigure(self, user_config: Dict[str, int]) -> None:
        self.plain.set_max_batch_size(user_config["size"])
        self.sized.set_batch_wait_timeout_s(0.5)


@serve.batch
async def of_a_function(values: List[int]) -> List[str]:
    return [str(value) for value in values]


@serve.multiplexed
async def load(model_id: str) -> Weights:
    return Weights(model_id)


async def of_functions() -> None:
    assert_type(await of_a_function(1), str)
    assert_type(await load("en"), Weights)


@serve.deployment(ray_actor_options={"num_cpus": 0.5})
@serve.ingress(api)
class Shop:
    def __init__(self, prices: DeploymentHandle, currency: str = "EUR") -> None:
        self.prices, self.currency = prices, currency

    @api.get("/items/{name}")
    async def item(self, name: str) -> Dict[str, Any]:
        return {"name": name, "price": await self.prices.price.remote(name)}


@serve.deployment
class Greeter:
    async def __call__(self, request: Request) -> Union[str, helve.Event]:
        return helve.Event(data=request.query_params["name"], event="hello", id="1", retry=2.5)


@serve.deployment(
    name="Whole", version="1", num_replicas="auto", ray_actor_options=None, max_replicas_per_node=2, user_config={"a": 1}, max_ongoing_requests=4,
    max_queued_requests=-1, backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1.5),
    autoscaling_config=AutoscalingConfig(min_replicas=1, max_replicas=4, policy=AutoscalingPolicy(policy_function=default_autoscaling_policy)),
    graceful_shutdown_wait_loop_s=1, graceful_shutdown_timeout_s=2.5, health_check_period_s=10, health_check_timeout_s=30,
    logging_config=LoggingConfig(encoding="JSON", log_level="DEBUG"), request_router_config=RequestRouterConfig(request_router_class=ConsistentHashRouter),
    max_constructor_retry_count=3, rolling_update_percentage=0.5, max_surge_percent=50, construct_timeout_s=60, request_routing_stats_period_s=1,
    request_routing_stats_timeout_s=1, runtime_env={"env_vars": {"A": "1"}}, limits={"memory": 1 << 30}, unresponsive_after_s=5, max_unresponsive_s=0,
)
def every_option(n: int) -> int:
    return n


def whole_applications() -> None:
    serve.start(proxy_location="EveryNode", http_options={"host": "0.0.0.0", "port": 80}, logging_config={"log_level": "INFO"})
    serve.start(
        proxy_location=ProxyLocation.HeadOnly, http_options=HTTPOptions(port=8001, request_timeout_s=60), grpc_options=gRPCOptions(),
        tracing_config=TracingConfig(enabled=False), controller_options=ControllerOptions(),
    )
    handle = serve.run(Shop.bind(Greeter.bind(), currency="USD"), blocking=False, name="shop", route_prefix=None, logging_config=LoggingConfig())
    local = serve.run(every_option.bind(), _local_testing_mode=True)
    assert_type(local.remote(2).result(), int)
    assert_type(handle.item.remote("apple").result(), Any)
    handles = serve.run_many([serve.RunTarget(Batched.bind()), serve.RunTarget(every_option.bind(), name="b", route_prefix="/b")])
    assert_type(handles, List[DeploymentHandle[Any]])
    assert_type(serve.get_app_handle("shop"), DeploymentHandle[Any])
    typed: DeploymentHandle[Weights] = serve.get_deployment_handle("Prices", app_name="shop")
    print(typed, typed.deployment_id.name)
    serve.delete("shop")
    serve.shutdown()


async def on_a_loop() -> None:
    await serve.wait_for_drain()
    await serve.shutdown_async()


def state() -> Optional[str]:
    status = serve.status()
    assert_type(status, ServeStatus)
    for name, application in status.applications.items():
        if application.status == ApplicationStatus.RUNNING:
            print(name, application.message, application.last_deployed_time_s, application.deployments["A"].replica_states)
    return next(iter(status.proxies.values()), None)


def in_a_replica() -> str:
    context = serve.get_replica_context()
    assert_type(context, ReplicaContext)
    assert_type(context.rank, ReplicaRank)
    print(context.rank.rank, context.world_size, context.servable_object, serve.get_trace_context(), get_multiplexed_model_id(), serve.draining())
    with serve.span("part", size=1) as part:
        part.set(text="t", ratio=0.5)
    return f"{context.app_name}/{context.deployment}/{context.replica_tag}/{context.replica_id.unique_id}"


def measured() -> None:
    hits = metrics.Counter("hits", description="Of the cache.", tag_keys=("model",))
    hits.set_default_tags({"model": "a"})
    hits.inc()
    hits.inc(2, tags={"model": "b"})
    serve.metrics.Gauge("depth").set(3.5)
    took = metrics.Histogram("took_ms", boundaries=[1, 10, 100])
    took.observe(12)
    print(took.info["name"], took.boundaries)


def refused(handle: DeploymentHandle[Any]) -> Optional[float]:
    try:
        handle.remote().result(timeout_s=1)
    except BackPressureError as e:
        print(e.message, e.status_code)
        return e.retry_after_s
    except (DeploymentUnavailableError, ReplicaUnavailableError) as e:
        print(e.message)
    except (RequestCancelledError, UnknownDeploymentError, gRPCStatusError, TimeoutError):
        pass
    except serve.exceptions.TooLargeError:
        pass
    except RayServeException as e:
        print(e)
    return None


def policy(context: AutoscalingContext) -> Tuple[int, Dict[str, Any]]:
    print(context.total_num_requests, AggregationFunction.MAX)
    return context.current_num_replicas + 1, context.policy_state


async def grpc(context: RayServegRPCContext, messages: gRPCInputStream[bytes]) -> List[bytes]:
    context.set_details(context.peer())
    return [message async for message in messages]


def configurations() -> None:
    schema = ServeDeploySchema.model_validate({"applications": []})
    print(schema.applications, DeploymentSchema(name="A", num_replicas=2).num_replicas, PowerOfTwoChoicesRequestRouter, GangSchedulingConfig)
    print(serve.schema.LoggingConfig(), serve.config.HTTPOptions().port, serve.TracingConfig(), serve.HTTPOptions(), helve.__version__)
