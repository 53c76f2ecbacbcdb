"""Views of a deployment's options: as the schema of configurations, and as the objects that programs for the insides of Ray Serve read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from helve.serve import _checks
from helve.serve._default import DEFAULT
from helve.serve.config import BackpressureConfig, RequestRouterConfig
from helve.serve.deployment import Deployment
from helve.serve.schema import DeploymentSchema, RayActorOptionsSchema

_DEFAULTS = {
    "graceful_shutdown_timeout_s": 20, "graceful_shutdown_wait_loop_s": 2, "health_check_period_s": 10, "health_check_timeout_s": 30,
    "max_constructor_retry_count": 20, "rolling_update_percentage": 0.2, "max_surge_percent": 0,
}
_OF_REPLICAS = ("placement_group_bundles", "placement_group_strategy", "placement_group_bundle_label_selector", "max_replicas_per_node")


def deployment_config(d: Deployment) -> SimpleNamespace:
    o = d._options
    return SimpleNamespace(
        num_replicas=d.num_replicas, max_ongoing_requests=d.max_ongoing_requests, max_queued_requests=d.max_queued_requests, user_config=d.user_config,
        backpressure_config=o.get("backpressure_config") or BackpressureConfig(), autoscaling_config=o.get("autoscaling_config"),
        request_router_config=o.get("request_router_config") or RequestRouterConfig(), logging_config=d.logging_config, version=d.version,
        gang_scheduling_config=None, deployment_actors=None, user_configured_option_names=set(d._given),
        **{name: o.get(name, value) for name, value in _DEFAULTS.items()},
    )


def replica_config(d: Deployment) -> SimpleNamespace:
    return SimpleNamespace(
        deployment_def=d.func_or_class, ray_actor_options=d.ray_actor_options, init_args=d.init_args, init_kwargs=d.init_kwargs,
        **{name: d._options.get(name) for name in _OF_REPLICAS},
    )


def to_schema(d: Deployment) -> DeploymentSchema:
    config, replica = deployment_config(d), replica_config(d)
    fields: dict = {"name": d.name}
    for name in DeploymentSchema.model_fields:
        if name not in d._given or name == "name":
            continue
        value = getattr(config, name) if hasattr(config, name) else getattr(replica, name)
        if name == "ray_actor_options":
            value = RayActorOptionsSchema.model_construct(**value)
        if name == "num_replicas" and config.autoscaling_config is not None:
            value = "auto"
        fields[name] = value
    return DeploymentSchema(**fields)


def from_schema(schema: DeploymentSchema) -> Deployment:
    given: dict = {}
    for name in schema.model_fields_set - {"name"}:
        value = getattr(schema, name)
        if value is DEFAULT.VALUE:
            continue
        if name == "ray_actor_options":
            value = value.model_dump(exclude_unset=True)
        elif name == "logging_config":
            value = value.model_dump()
        given[name] = value
    options = _checks.read(given, {}, f"deployment {schema.name!r}: ")
    return Deployment(_no_class, schema.name, options, None, frozenset({*given, "name"}))


def _no_class() -> None:
    raise RuntimeError("this deployment was made of a schema, and has no class")


__all__ = ["deployment_config", "from_schema", "replica_config", "to_schema"]
