"""Configuration classes: their fields, defaults, checks and errors. reference_surface.json has those of Ray Serve 2.60, as data."""

import enum
import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from helve.serve import autoscaling_policy, config, request_router
from helve.serve.config import AggregationFunction, AutoscalingConfig, AutoscalingContext, AutoscalingPolicy, HTTPOptions, RequestRouterConfig

REFERENCE = json.loads(Path(__file__).with_name("reference_surface.json").read_text())
# Fields whose default is another one here: HTTP is served on the one node, with the node's own limits.
DIFFERS = {
    "config.HTTPOptions": {"location": "ProxyLocation.HeadOnly", "keep_alive_timeout_s": None},
    "config.AutoscalingConfig": {name: None for name in (
        "stable_window_s", "panic_window_s", "panic_threshold", "tolerance", "max_upscale_factor", "max_downscale_factor", "upscale_steps_per_minute",
        "downscale_steps_per_minute", "prometheus_metrics",
    )} | {"policy": {"AutoscalingPolicy": {"policy_function": "ray.serve.autoscaling_policy:default_autoscaling_policy", "policy_kwargs": {}, "timeout_s": None}}},
    "config.AutoscalingPolicy": {"timeout_s": None},
    "schema.TracingConfig": {"otlp_endpoint": None, "otlp_headers": None, "slow_request_s": None},  # Helve's own
}


def named(name):
    module, name = name.split(".")
    return getattr(importlib.import_module(f"helve.serve.{module}"), name)


def shown(value):
    """A default in the form of the data."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, BaseModel):
        return {type(value).__name__: {f: shown(getattr(value, f)) for f in type(value).model_fields}}
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", sorted(REFERENCE["models"]))
def test_fields_and_defaults_of_models(name):
    model = named(name)
    got = {f: "(required)" if i.is_required() else shown(i.get_default(call_default_factory=True)) for f, i in model.model_fields.items()}
    assert got == {**REFERENCE["models"][name], **DIFFERS.get(name, {})}


@pytest.mark.parametrize("name", sorted(REFERENCE["enums"]))
def test_members_of_enumerations(name):
    members = {k: v.value for k, v in named(name).__members__.items()}
    assert members == REFERENCE["enums"][name] and issubclass(named(name), str)


def test_classes_are_loaded_when_they_are_used():
    program = (
        "import sys; from helve import serve; import helve.serve.config, helve.serve.autoscaling_policy, helve.serve.request_router\n"
        "serve.deployment(num_replicas=2, ray_actor_options={'num_cpus': 1})(lambda: 1); assert 'pydantic' not in sys.modules\n"
        "from helve.serve.config import AutoscalingConfig, HTTPOptions; assert 'pydantic' in sys.modules; print(serve.HTTPOptions is HTTPOptions)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stdout == "True\n"
    assert set(config.__all__) <= set(dir(config))
    with pytest.raises(ImportError):
        from helve.serve.config import Nothing  # noqa: F401


@pytest.mark.parametrize("fields, text", [
    ({"min_replicas": -1}, "min_replicas\n  Input should be greater than or equal to 0"),
    ({"max_replicas": 0}, "max_replicas\n  Input should be greater than 0"),
    ({"min_replicas": 2, "max_replicas": 1}, r"max_replicas \(1\) must be greater than or equal to min_replicas \(2\)!"),
    ({"min_replicas": 2, "max_replicas": 3, "initial_replicas": 1}, r"min_replicas \(2\) must be less than or equal to initial_replicas \(1\)!"),
    ({"initial_replicas": 2}, r"max_replicas \(1\) must be greater than or equal to initial_replicas \(2\)!"),
    ({"min_replicas": None}, "min_replicas"), ({"max_replicas": None}, "max_replicas"), ({"min_replicas": 1.5}, "min_replicas"),
    ({"target_ongoing_requests": 0}, "target_ongoing_requests"), ({"look_back_period_s": 0}, "look_back_period_s"),
    ({"metrics_interval_s": 0}, "metrics_interval_s"), ({"upscale_delay_s": -1}, "upscale_delay_s"), ({"upscaling_factor": 0}, "upscaling_factor"),
    ({"aggregation_function": "p50"}, "'p50' is not a valid AggregationFunction"), ({"policy": "x"}, "policy"),
    ({"policy": {"policy_kwargs": {"a": object()}}}, "policy_kwargs is not JSON-serializable"),
])
def test_a_wrong_autoscaling_config(fields, text):
    with pytest.raises(ValidationError, match=text) as e:
        AutoscalingConfig(**fields)
    assert isinstance(e.value, ValueError)


def test_an_autoscaling_config():
    assert AutoscalingConfig(min_replicas="1", unknown=1) == AutoscalingConfig()
    default = AutoscalingConfig.default()
    assert (default.min_replicas, default.max_replicas, default.target_ongoing_requests, default.initial_replicas) == (1, 100, 2, None)
    assert AutoscalingConfig(aggregation_function="MAX").aggregation_function is AggregationFunction.MAX
    assert AutoscalingConfig(target_ongoing_requests=None).get_target_ongoing_requests() is None
    with pytest.warns(DeprecationWarning, match="metrics_interval_s"):
        AutoscalingConfig(metrics_interval_s=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoscalingConfig(metrics_interval_s=10)


@pytest.mark.parametrize("fields, up, down", [
    ({}, 1, 1), ({"upscaling_factor": 2}, 2, 1), ({"upscale_smoothing_factor": 3}, 3, 1), ({"smoothing_factor": 4}, 4, 4),
    ({"downscale_smoothing_factor": 3}, 1, 3), ({"downscaling_factor": 0.5, "downscale_smoothing_factor": 3}, 1, 0.5),
])
def test_factors_of_an_autoscaling_config(fields, up, down):
    c = AutoscalingConfig(**fields)
    assert (c.get_upscaling_factor(), c.get_downscaling_factor(), c.get_target_ongoing_requests()) == (up, down, 2)


def policy(ctx):
    return 1, {}


def test_an_autoscaling_policy():
    p = AutoscalingPolicy()
    assert p.is_default_policy_function() and p.get_policy() is autoscaling_policy.default_autoscaling_policy
    p = AutoscalingPolicy(policy_function=policy, policy_kwargs={"a": 1})
    assert p.policy_function == f"{__name__}.policy" and p.get_policy() is policy and not p.is_default_policy_function()
    assert p.model_dump(exclude_none=True) == {"policy_function": f"{__name__}.policy", "policy_kwargs": {"a": 1}}
    assert AutoscalingPolicy(policy_function="json:dumps").get_policy() is json.dumps
    assert AutoscalingConfig(policy={"policy_function": policy}).policy.get_policy() is policy
    assert AutoscalingPolicy(policy_function="ray.serve.autoscaling_policy:replica_queue_length_autoscaling_policy").get_policy() is p.__class__().get_policy()
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        AutoscalingConfig(policy={"policy_function": "nowhere:f"})


def context(total, target=1, running=1, now=0.0, state=None, **fields):
    c = AutoscalingConfig(**{"min_replicas": 0, "max_replicas": 10, "upscale_delay_s": 0, "downscale_delay_s": 0, **fields})
    return AutoscalingContext(
        deployment_id=None, deployment_name="D", app_name="a", current_num_replicas=running, target_num_replicas=target, running_replicas=[],
        total_num_requests=total, total_queued_requests=2, aggregated_metrics=None, raw_metrics=None, capacity_adjusted_min_replicas=c.min_replicas,
        capacity_adjusted_max_replicas=c.max_replicas, policy_state=state or {}, last_scale_up_time=None, last_scale_down_time=None, current_time=now, config=c,
    )


def test_a_context_reads_its_numbers_when_they_are_asked_for():
    asked = []
    ctx = context(lambda: asked.append(1) or 5)
    assert not asked
    assert (ctx.total_num_requests, ctx.total_queued_requests, ctx.total_running_requests, ctx.aggregated_metrics) == (5, 2, 3, None)
    assert asked == [1]


@pytest.mark.parametrize("total, target, running, fields, want", [
    (12, 2, 2, {}, 6), (12, 2, 2, {"upscaling_factor": 0.5, "upscale_delay_s": 30, "max_replicas": 3}, 6), (3, 4, 4, {}, 1.5), (0, 1, 1, {}, 0),
    (12, 2, 2, {"target_ongoing_requests": 5}, 2.4), (1, 0, 0, {}, 1), (12, 0, 0, {}, 6), (0, 3, 0, {}, 3),
])
def test_the_default_policy(total, target, running, fields, want):
    """Its number is what the load needs: the node applies factors, delays and bounds."""
    assert autoscaling_policy.default_autoscaling_policy(context(total, target, running, **fields)) == (want, {})


@pytest.mark.parametrize("cls, fields, text", [
    ("BackpressureConfig", {"status_code": 500}, "Input should be 503 or 429"), ("BackpressureConfig", {"x": 1}, "Extra inputs are not permitted"),
    ("BackpressureConfig", {"retry_after_s": -1}, "retry_after_s"), ("BackpressureConfig", {"retry_after_s": float("inf")}, "retry_after_s"),
    ("ControllerOptions", {"runtime_env": {"pip": []}}, "only supports .'env_vars'."), ("ControllerOptions", {"x": 1}, "Extra inputs are not permitted"),
    ("GangSchedulingConfig", {"gang_size": 0}, "gang_size"), ("GangSchedulingConfig", {}, "gang_size"),
    ("GangSchedulingConfig", {"gang_size": 2, "runtime_failure_policy": "RESTART_REPLICA"}, "RESTART_REPLICA"),
    ("gRPCOptions", {"grpc_servicer_functions": "a"}, "valid list"), ("RequestRouterConfig", {"request_routing_stats_period_s": 0}, "greater than 0"),
    ("RequestRouterConfig", {"request_router_kwargs": {"a": object()}}, "request_router_kwargs is not JSON-serializable"),
    ("HTTPOptions", {"ssl_certfile": "a"}, "Both ssl_keyfile and ssl_certfile must be provided together"),
    ("HTTPOptions", {"location": "x"}, "location"), ("HTTPOptions", {"port": 65536}, "port"), ("TracingConfig", {"sampling_ratio": 2}, "between 0.0 and 1.0, got 2.0"),
    ("LoggingConfig", {"encoding": "x"}, "Got 'x' for encoding. Encoding must be one of"), ("LoggingConfig", {"log_level": "debug"}, 'Got "debug" for log_level'),
    ("LoggingConfig", {"additional_log_standard_attrs": ["x"]}, "Unknown attribute 'x'"), ("LoggingConfig", {"x": 1}, "Extra inputs are not permitted"),
])
def test_a_wrong_configuration(cls, fields, text):
    with pytest.raises(ValidationError, match=text):
        getattr(config, cls)(**fields)


def test_a_logging_config():
    c = config.LoggingConfig(log_level=10, additional_log_standard_attrs=["name", "thread", "name"])
    assert (c.log_level, c.additional_log_standard_attrs, c.encoding) == ("DEBUG", ["name", "thread"], "TEXT")


def test_the_location_of_proxies():
    normal = config.ProxyLocation._normalize
    assert normal(None) is None and normal("HeadOnly") is config.ProxyLocation.HeadOnly is normal(config.ProxyLocation.HeadOnly)
    with pytest.raises(ValueError, match="'x' is not a valid ProxyLocation"):
        normal("x")
    with pytest.raises(TypeError, match="Must be a `ProxyLocation` or str, got"):
        normal(5)
    assert HTTPOptions(location=config.ProxyLocation.Disabled).port is None and HTTPOptions(location="EveryNode").location is config.ProxyLocation.EveryNode


class Mine(request_router.RequestRouter):
    pass


@pytest.mark.parametrize("path, policy", [
    ("ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter", "power_of_two_choices"),
    ("ray.serve._private.request_router.pow_2_router.PowerOfTwoChoicesRequestRouter", "power_of_two_choices"),
    ("ray.serve.experimental.round_robin_router:RoundRobinRouter", "round_robin"),
    ("ray.serve.experimental.consistent_hash_router:ConsistentHashRouter", "consistent_hash"),
    ("helve.serve.request_router.RoundRobinRouter", "round_robin"), (request_router.ConsistentHashRouter, "consistent_hash"),
])
def test_shipped_routing_policies_by_their_paths(path, policy):
    assert request_router.options(RequestRouterConfig(request_router_class=path)) == {"policy": policy}


def test_arguments_of_routing_policies():
    assert RequestRouterConfig().is_default_request_router() and request_router.options(RequestRouterConfig()) == {"policy": "power_of_two_choices"}
    hashed = RequestRouterConfig(request_router_class=request_router.ConsistentHashRouter, request_router_kwargs={"num_virtual_nodes": 7, "num_fallback_replicas": 0})
    assert request_router.options(hashed) == {"policy": "consistent_hash", "virtual_nodes": 7, "fallback_replicas": 0}
    with pytest.raises(ValueError, match="RoundRobinRouter has no argument 'a'"):
        request_router.options(RequestRouterConfig(request_router_class=request_router.RoundRobinRouter, request_router_kwargs={"a": 1}))
    with pytest.raises(NotImplementedError, match="test_config.Mine: a request router in Python is not there.*CustomRouting"):
        request_router.options(RequestRouterConfig(request_router_class=Mine))
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        RequestRouterConfig(request_router_class="nowhere:X")
    with pytest.raises(NotImplementedError, match="use|Use"):
        Mine()


def test_servicers_of_grpc_that_cannot_be_imported():
    with pytest.raises(ModuleNotFoundError, match="no_such.f can't be imported!"):
        config.gRPCOptions(grpc_servicer_functions=["no_such.f"]).grpc_servicer_func_callable
