"""Configuration classes, with Ray Serve's names. They are pydantic models, which are loaded when one is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from helve import _refused

if TYPE_CHECKING:
    from helve.serve._autoscaling import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy, AggregationFunction
    from helve.serve._models import (
        BackpressureConfig, ControllerOptions, DeploymentActorConfig, DeploymentMode, GangPlacementStrategy, GangRuntimeFailurePolicy,
        GangSchedulingConfig, HTTPOptions, ProxyLocation, RequestRouterConfig, gRPCOptions,
    )
    from helve.serve.schema import LoggingConfig, TracingConfig

_PLACES = {
    "_autoscaling": ("AggregationFunction", "AutoscalingConfig", "AutoscalingContext", "AutoscalingPolicy"),
    "_models": (
        "BackpressureConfig", "ControllerOptions", "DeploymentActorConfig", "DeploymentMode", "GangPlacementStrategy", "GangRuntimeFailurePolicy",
        "GangSchedulingConfig", "HTTPOptions", "ProxyLocation", "RequestRouterConfig", "gRPCOptions",
    ),
    "schema": ("LoggingConfig", "TracingConfig"),
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for module, names in _PLACES.items():
            if name in names:
                from importlib import import_module

                value = globals()[name] = getattr(import_module(f"helve.serve.{module}"), name)
                return value
        _refused.fail(__name__, name, __all__)


def __dir__() -> List[str]:
    return sorted(__all__)


__all__ = [
    "AggregationFunction", "AutoscalingConfig", "AutoscalingContext", "AutoscalingPolicy", "BackpressureConfig", "ControllerOptions",
    "DeploymentActorConfig", "DeploymentMode", "GangPlacementStrategy", "GangRuntimeFailurePolicy", "GangSchedulingConfig", "HTTPOptions",
    "LoggingConfig", "ProxyLocation", "RequestRouterConfig", "TracingConfig", "gRPCOptions",
]
