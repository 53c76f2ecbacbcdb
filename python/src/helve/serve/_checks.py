"""The options of a deployment: their checks, with the errors and phrases of Ray Serve, and their form for the node."""

from __future__ import annotations

import functools
import logging
from typing import Any

from helve import _limits, _refused
from helve.serve import _environment, _resources
from helve.serve._options import OPTIONS

logger = logging.getLogger("helve.serve")

# The options of Ray Serve. Each but version is an argument of serve.deployment there too.
RAY = (
    "name", "version", "num_replicas", "ray_actor_options", "placement_group_bundles", "placement_group_strategy",
    "placement_group_bundle_label_selector", "max_replicas_per_node", "user_config", "max_ongoing_requests", "max_queued_requests",
    "backpressure_config", "autoscaling_config", "graceful_shutdown_wait_loop_s", "graceful_shutdown_timeout_s", "health_check_period_s",
    "health_check_timeout_s", "logging_config", "request_router_config", "max_constructor_retry_count", "gang_scheduling_config",
    "deployment_actors", "rolling_update_percentage", "max_surge_percent",
)
OWN = tuple(name for name in OPTIONS if name not in RAY)
_NULLABLE = (
    "version", "num_replicas", "ray_actor_options", "placement_group_bundles", "placement_group_strategy", "placement_group_bundle_label_selector",
    "max_replicas_per_node", "user_config", "autoscaling_config", "logging_config", "gang_scheduling_config", "deployment_actors", *OWN,
)
_REFUSED = ("gang_scheduling_config", "deployment_actors")
_INTEGERS = ("num_replicas", "max_ongoing_requests", "max_queued_requests", "max_constructor_retry_count", "max_surge_percent")


def read(given: dict, before: dict, at: str) -> dict:
    """The options with the given ones over those before. `at` begins the messages, for example "deployment 'A': "."""
    auto = isinstance(given.get("num_replicas"), str) and str.__str__(given["num_replicas"]) == "auto"
    if not auto and given.get("num_replicas") is not None and given.get("autoscaling_config") is not None:
        raise ValueError(
            f"{at}Manually setting num_replicas is not allowed when autoscaling_config is provided. Give min_replicas and max_replicas in "
            "autoscaling_config, or num_replicas alone."
        )
    out = dict(before)
    for name, value in given.items():
        if value is None and name not in _NULLABLE:
            raise ValueError(f"{at}`{name}` must be non-null, got None.")
        if name == "num_replicas" and (auto or value is None) or name == "autoscaling_config" and auto:
            continue
        if value is None:
            if name not in OWN and name != "version":  # None of an own option is no value
                out.pop(name, None)
            continue
        out[name] = _READ[name](at, value) if name in _READ else _plain(name, at, value)
    if auto:
        out["autoscaling_config"] = _automatic(at, given.get("autoscaling_config"))
        out.pop("num_replicas", None)
    if "request_router" in out and "request_router_config" in given:
        out.pop("request_router")
    _resources.check_groups(at, out)
    return out


def _plain(name: str, at: str, value: Any) -> Any:
    if name == "num_replicas" and type(value) is int and value == 0:
        raise ValueError(f'{at}num_replicas: num_replicas is expected to larger than 0, is {value}; give at least 1, or "auto"')
    if name in _INTEGERS or name in _TIMES:
        value = _number(name, value)
    try:
        return OPTIONS[name](at + name, value)
    except TypeError as e:
        raise ValueError(str(e)) from None


_TIMES = tuple(name for name, check in OPTIONS.items() if getattr(check, "func", check) is _limits.seconds) + ("rolling_update_percentage",)


def _number(name: str, value: Any) -> Any:
    """A number in the forms that Ray Serve takes too: text such as "2", and 2.0 for an integer."""
    try:
        if isinstance(value, str) and len(value) < 30:
            value = float(value) if name in _TIMES or "." in value else int(value)
        if isinstance(value, float) and name in _INTEGERS and value.is_integer():
            return int(value)
    except ValueError:
        pass
    return value


def _automatic(at: str, value: Any) -> Any:
    """The configuration of num_replicas="auto": the default one, with the fields that are given."""
    from helve.serve._autoscaling import AutoscalingConfig

    if value is None:
        return AutoscalingConfig.default()
    if isinstance(value, AutoscalingConfig):
        value = value.model_dump(exclude_unset=True)
    if not isinstance(value, dict):
        return _autoscaling(at, value)
    return AutoscalingConfig(**{"max_replicas": 100, **value})


def _model(module: str, cls: str, option: str) -> Any:
    def check(at: str, value: Any) -> Any:
        from importlib import import_module

        kind = getattr(import_module(f"helve.serve.{module}"), cls)
        if isinstance(value, kind):
            return kind.model_validate(value).model_copy(deep=False)
        if not isinstance(value, dict):
            raise ValueError(f"{at}{option}: must be a dict or {cls}, is {_limits.shown(value)}")
        return kind(**value)

    return check


_autoscaling = _model("_autoscaling", "AutoscalingConfig", "autoscaling_config")


def _router(at: str, value: Any) -> Any:
    from helve.serve import request_router

    config = _model("_models", "RequestRouterConfig", "request_router_config")(at, value)
    OPTIONS["request_router"](at + "request_router_kwargs", request_router.options(config))
    return config


def _logging(at: str, value: Any) -> dict:
    return _model("schema", "LoggingConfig", "logging_config")(at, value).model_dump(mode="json")


def _per_node(at: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{at}Get invalid type '{type(value)}' for max_replicas_per_node. Expected None or an integer in the range of [1, 100].")
    if not 1 <= value <= 100:
        raise ValueError(f"{at}Invalid max_replicas_per_node {_limits.shown(value)}. Valid values are None or an integer in the range of [1, 100].")
    return value


def _refuse(option: str) -> Any:
    def check(at: str, value: Any) -> Any:
        raise NotImplementedError(f"{at}{option} is not there: {_refused.option(option)}")

    return check


def _labels(at: str, value: Any) -> list:
    if not isinstance(value, list):
        raise ValueError(f"{at}placement_group_bundle_label_selector: must be a list of dicts, is {_limits.shown(value)}")
    return value


def _own_environment(at: str, value: Any) -> dict:
    return OPTIONS["runtime_env"](at + "runtime_env", _environment.environment(at + "runtime_env", value))


_READ = {
    "autoscaling_config": _autoscaling,
    "backpressure_config": _model("_models", "BackpressureConfig", "backpressure_config"),
    "request_router_config": _router,
    "logging_config": _logging,
    "ray_actor_options": _resources.actor_options,
    "runtime_env": _own_environment,
    "max_replicas_per_node": _per_node,
    "placement_group_bundles": _resources.bundles,
    "placement_group_strategy": lambda at, value: _limits.text(at + "placement_group_strategy", value),
    "placement_group_bundle_label_selector": _labels,
    **{name: _refuse(name) for name in _REFUSED},
}


def for_node(name: str, options: dict) -> dict:
    """The options of a deployment as JSON, in the names of the node."""
    out = {k: v for k, v in options.items() if k in OPTIONS and k not in ("ray_actor_options", "runtime_env")}
    if "autoscaling_config" in options:
        out["autoscaling_config"] = options["autoscaling_config"].for_node()
        out.pop("num_replicas", None)
    if "backpressure_config" in options:
        out["backpressure_config"] = options["backpressure_config"].model_dump(mode="json", exclude_none=True)
    if "request_router_config" in options:
        from helve.serve import request_router

        config = options["request_router_config"]
        out["request_router"] = request_router.options(config)
        out.setdefault("request_routing_stats_period_s", config.request_routing_stats_period_s)
        out.setdefault("request_routing_stats_timeout_s", config.request_routing_stats_timeout_s)
    resources = _resources.for_node(options)
    if resources:
        out["ray_actor_options"] = resources
    own = options.get("ray_actor_options") or {}
    environment = _environment.merge(own.get("runtime_env"), options.get("runtime_env"))
    if environment:
        out["runtime_env"] = environment
    return out


@functools.lru_cache(maxsize=None)
def say(text: str) -> None:
    """Logs a warning, once in a process."""
    logger.warning("%s", text)


def unknown(function: str, names: Any) -> TypeError:
    """The error of arguments that no option has."""
    name, options = next(iter(names)), (*RAY, *OWN)
    hint = _resources.near(name, options) or f"; there are {', '.join(options)}"
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")


__all__ = ["OWN", "RAY", "for_node", "read", "say", "unknown"]
