"""The configuration of an autoscaler, and the view of a deployment that an autoscaling policy gets."""

from __future__ import annotations

import hashlib
import json
import warnings
from enum import Enum
from typing import Any, Callable, Dict, List, Optional, Union

import cloudpickle
from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, PrivateAttr, field_validator, model_validator

from helve.serve import _imports
from helve.serve._fields import Fields

DEFAULT_AUTOSCALING_POLICY_NAME = "ray.serve.autoscaling_policy:default_autoscaling_policy"
_SHIPPED = ("ray.serve.autoscaling_policy", "helve.serve.autoscaling_policy")
DEFAULT_TARGET_ONGOING_REQUESTS = 2
DEFAULT_METRICS_INTERVAL_S = 10.0
POLICY = "autoscaling_policy/"  # begins the keys of policies among the pickles of an application; a deployment has no such name


class AggregationFunction(str, Enum):
    """The way in which the samples of a time window become one number."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


class AutoscalingPolicy(BaseModel):
    """The function or class that says how many replicas a deployment needs, with arguments for it.

    The node calls it in a Python process beside the replicas, which has the environment of the deployment. Factors, delays and bounds of `AutoscalingConfig`
    are applied to its answer. A function gets an `AutoscalingContext`, and returns the number and the state for its next call: `return 3, {}`. A class is
    constructed once, with `policy_kwargs`, and is called in the same way.

    Attributes:
        policy_function: The function or class, or its import path. Default: `default_autoscaling_policy`.
        policy_kwargs: Arguments for the class, as JSON.
        timeout_s: Time of one answer, in seconds. A policy that is late changes no number: its last answer holds. Default: 10.
    """

    policy_function: Union[str, Callable] = DEFAULT_AUTOSCALING_POLICY_NAME
    policy_kwargs: Dict[str, Any] = Field(default_factory=dict)
    timeout_s: Optional[PositiveFloat] = None

    _policy: Any = PrivateAttr(default=None)

    @field_validator("policy_kwargs")
    @classmethod
    def _is_json(cls, value: Dict[str, Any]) -> Dict[str, Any]:
        return json_serializable("policy_kwargs", value)

    @model_validator(mode="wrap")
    @classmethod
    def _resolved(cls, data: Any, handler: Any) -> Any:
        made = handler(data)
        if isinstance(data, dict):
            if not isinstance(made.policy_function, str):
                made._policy, made.policy_function = made.policy_function, _imports.path_of(made.policy_function)
            elif made.policy_function != DEFAULT_AUTOSCALING_POLICY_NAME:
                made._policy = _imports.find(made.policy_function)
        return made

    def is_default_policy_function(self) -> bool:
        """Whether the policy is the default one, under any of its names."""
        module, _, name = str(self.policy_function).replace(":", ".").rpartition(".")
        return module in _SHIPPED and name in ("default_autoscaling_policy", "replica_queue_length_autoscaling_policy")

    def get_policy(self) -> Callable:
        """The function, or the class."""
        return self._policy if self._policy is not None else _imports.find(str(self.policy_function))

    def serialize_policy(self) -> None:
        """Does nothing: the policy is pickled when it is asked for."""

    def get_serialized_policy_def(self) -> bytes:
        """The function or class as a pickle."""
        return cloudpickle.dumps(self.get_policy())


class AutoscalingConfig(Fields):
    """Bounds and pace of a deployment's autoscaler: the option `autoscaling_config`.

    A delay that is set is waited for exactly. A delay that is not set is adapted to the load: a step up comes within seconds, and a step down when the
    last minutes have shown that fewer replicas suffice. An attribute that was not set reads as the default of Ray Serve. Times are in seconds. A field
    that is not there is ignored, with a warning.

    Attributes:
        min_replicas: Smallest number of replicas, 0 or more. Default: 1.
        initial_replicas: Number of replicas at the start. Default: None, min_replicas.
        max_replicas: Largest number of replicas. Default: 1.
        target_ongoing_requests: Number of requests of one replica that the autoscaler aims at. Default: 2.
        metrics_interval_s: Without effect, which a warning says: replicas are counted where they are.
        look_back_period_s: Length of the time window whose requests are counted. Default: 30, adaptive if it is not set.
        smoothing_factor: Factor of steps up and down. Default: 1.
        upscale_smoothing_factor: Old name of upscaling_factor.
        downscale_smoothing_factor: Old name of downscaling_factor.
        upscaling_factor: Factor of steps up. Default: None, smoothing_factor.
        downscaling_factor: Factor of steps down. Default: None, smoothing_factor.
        downscale_delay_s: Time for which fewer replicas must suffice before a step down. Default: 600, adaptive if it is not set.
        downscale_to_zero_delay_s: The same for the last replica. Default: None, downscale_delay_s.
        upscale_delay_s: Time for which more replicas must be due before a step up. Default: 30, adaptive if it is not set.
        aggregation_function: Way in which the samples of the time window become one number: "mean", "max" or "min". Default: "mean".
        policy: Policy that decides. Default: the number of requests per replica.
        stable_window_s: Adaptive steps down: the time in which the most replicas that were needed are kept. Default: 60, or look_back_period_s if that is set.
        panic_window_s: Adaptive steps up: the time whose mean load decides. Default: 6, or the stable window if that is shorter.
        panic_threshold: Load of the last second, over what the ready replicas should have, from which that second decides. Default: 2.
        tolerance: Share of load above target_ongoing_requests that asks for no other replica. Default: 0.1.
        max_upscale_factor: Largest factor of one adaptive step up. Default: 10.
        max_downscale_factor: Largest divisor of one adaptive step down. Default: 4.
        upscale_steps_per_minute: Most adaptive steps up in a minute. Default: 30.
        downscale_steps_per_minute: Most adaptive steps down in a minute. Default: 2.
        prometheus_metrics: Names of metrics for policies. Accepted, and without effect: a policy gets the numbers of `record_autoscaling_stats`.

    Raises:
        ValueError: A value out of its bounds, or bounds that exclude each other.
    """

    min_replicas: NonNegativeInt = 1
    initial_replicas: Optional[NonNegativeInt] = None
    max_replicas: PositiveInt = 1
    target_ongoing_requests: Optional[PositiveFloat] = DEFAULT_TARGET_ONGOING_REQUESTS
    metrics_interval_s: PositiveFloat = DEFAULT_METRICS_INTERVAL_S
    look_back_period_s: PositiveFloat = 30.0
    smoothing_factor: PositiveFloat = 1.0
    upscale_smoothing_factor: Optional[PositiveFloat] = Field(default=None, description="Old name of upscaling_factor.")
    downscale_smoothing_factor: Optional[PositiveFloat] = Field(default=None, description="Old name of downscaling_factor.")
    upscaling_factor: Optional[PositiveFloat] = None
    downscaling_factor: Optional[PositiveFloat] = None
    downscale_delay_s: NonNegativeFloat = 600.0
    downscale_to_zero_delay_s: Optional[NonNegativeFloat] = None
    upscale_delay_s: NonNegativeFloat = 30.0
    aggregation_function: Union[str, AggregationFunction] = AggregationFunction.MEAN
    policy: AutoscalingPolicy = Field(default_factory=AutoscalingPolicy)
    stable_window_s: Optional[float] = Field(default=None, ge=1)
    panic_window_s: Optional[float] = Field(default=None, ge=1)
    panic_threshold: Optional[float] = Field(default=None, ge=1)
    tolerance: Optional[NonNegativeFloat] = None
    max_upscale_factor: Optional[float] = Field(default=None, ge=1.1)
    max_downscale_factor: Optional[float] = Field(default=None, ge=1.1)
    upscale_steps_per_minute: Optional[PositiveFloat] = None
    downscale_steps_per_minute: Optional[PositiveFloat] = None
    prometheus_metrics: Optional[List[str]] = None

    @model_validator(mode="after")
    def _bounds(self) -> "AutoscalingConfig":
        least, first, most = self.min_replicas, self.initial_replicas, self.max_replicas
        if most < least:
            raise ValueError(f"max_replicas ({most}) must be greater than or equal to min_replicas ({least})!")
        if first is not None and first < least:
            raise ValueError(f"min_replicas ({least}) must be less than or equal to initial_replicas ({first})!")
        if first is not None and first > most:
            raise ValueError(f"max_replicas ({most}) must be greater than or equal to initial_replicas ({first})!")
        return self

    @field_validator("metrics_interval_s")
    @classmethod
    def _interval(cls, value: float) -> float:
        if value != DEFAULT_METRICS_INTERVAL_S:
            warnings.warn("metrics_interval_s of autoscaling_config has no effect: replicas are counted where they are", DeprecationWarning, stacklevel=2)
        return value

    @field_validator("aggregation_function", mode="before")
    @classmethod
    def _aggregation(cls, value: Any) -> AggregationFunction:
        return value if isinstance(value, AggregationFunction) else AggregationFunction(str(value).lower())

    def for_node(self) -> Dict[str, Any]:
        """The fields that were set, as JSON: the node tells a delay that is set from one that is not.

        For example, AutoscalingConfig(max_replicas=4) is {"max_replicas": 4}.
        """
        out = self.model_dump(mode="json", exclude_unset=True)
        if "policy" in out:
            out["policy"] = self.policy.model_dump(mode="json", exclude_none=True)
        return out

    @classmethod
    def default(cls) -> "AutoscalingConfig":
        """The configuration of num_replicas="auto"."""
        return cls(target_ongoing_requests=DEFAULT_TARGET_ONGOING_REQUESTS, min_replicas=1, max_replicas=100)

    def get_upscaling_factor(self) -> float:
        """The factor of steps up, under its new or its old name."""
        return _first(self.upscaling_factor, self.upscale_smoothing_factor, self.smoothing_factor)

    def get_downscaling_factor(self) -> float:
        """The factor of steps down, under its new or its old name."""
        return _first(self.downscaling_factor, self.downscale_smoothing_factor, self.smoothing_factor)

    def get_target_ongoing_requests(self) -> Optional[float]:
        """The number of requests of one replica that the autoscaler aims at."""
        return self.target_ongoing_requests


def add_policy(code: Dict[str, bytes], options: dict, app: str, deployment: str, policy: AutoscalingPolicy, bound: Callable[[Any], Optional[str]]) -> None:
    """Pickles a policy of the program beside the code of its deployment, with its path, and gives it a version in the options: the node tells by the version
    whether the policy has changed.
    """
    from helve import _code
    from helve._pickling import dumps_replacing

    target = policy.get_policy()
    try:
        entry = dumps_replacing((policy.policy_function, target), lambda v: NotImplemented)
    except Exception as e:
        raise TypeError(f"application {app!r} cannot be pickled: the autoscaling policy of deployment {deployment!r}: {e}") from None
    code[POLICY + deployment] = entry
    version = _code.version(target, _code.source(target), (), {}, bound) or hashlib.sha256(entry).hexdigest()
    options["autoscaling_config"]["policy"]["_version"] = version


def _first(*values: Optional[float]) -> float:
    return next(v for v in values if v)


def json_serializable(what: str, value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as e:
        raise ValueError(f"{what} is not JSON-serializable: {e}.") from None
    return value


class AutoscalingContext:
    """The view of one deployment that an autoscaling policy gets. A number or table may be given as a function, which is called when it is first read.

    Args:
        deployment_id: The deployment as a `DeploymentID`.
        deployment_name: Its name.
        app_name: Name of its application.
        current_num_replicas: Number of its replicas.
        target_num_replicas: Number of replicas that it should have.
        running_replicas: Replicas that run.
        total_num_requests: Number of its requests, those that run and those that wait.
        total_queued_requests: Number of requests that wait; None if it is not known.
        aggregated_metrics: Numbers by name and replica, over the time window.
        raw_metrics: Samples by name and replica.
        capacity_adjusted_min_replicas: Smallest number of replicas.
        capacity_adjusted_max_replicas: Largest number of replicas.
        policy_state: State that the policy has returned at its last call.
        last_scale_up_time: Time of the last step up, in seconds since 1970.
        last_scale_down_time: Time of the last step down, in seconds since 1970.
        current_time: Present time, in seconds since 1970.
        config: `AutoscalingConfig` of the deployment.
    """

    def __init__(
        self, deployment_id: Any, deployment_name: str, app_name: Optional[str], current_num_replicas: int, target_num_replicas: int,
        running_replicas: List[Any], total_num_requests: Union[float, Callable[[], float]],
        total_queued_requests: Optional[Union[float, Callable[[], float]]],
        aggregated_metrics: Optional[Union[Dict[str, Dict[Any, float]], Callable[[], Dict[str, Dict[Any, float]]]]],
        raw_metrics: Optional[Union[Dict[str, Dict[Any, List[Any]]], Callable[[], Dict[str, Dict[Any, List[Any]]]]]],
        capacity_adjusted_min_replicas: int, capacity_adjusted_max_replicas: int, policy_state: Dict[str, Any],
        last_scale_up_time: Optional[float], last_scale_down_time: Optional[float], current_time: Optional[float], config: Optional[Any],
    ):
        self.deployment_id, self.deployment_name, self.app_name = deployment_id, deployment_name, app_name
        self.current_num_replicas, self.target_num_replicas, self.running_replicas = current_num_replicas, target_num_replicas, running_replicas
        self.capacity_adjusted_min_replicas, self.capacity_adjusted_max_replicas = capacity_adjusted_min_replicas, capacity_adjusted_max_replicas
        self.policy_state, self.config = policy_state, config
        self.last_scale_up_time, self.last_scale_down_time, self.current_time = last_scale_up_time, last_scale_down_time, current_time
        self._given = {
            "total_num_requests": total_num_requests, "total_queued_requests": total_queued_requests, "aggregated_metrics": aggregated_metrics,
            "raw_metrics": raw_metrics,
        }

    def _value(self, name: str) -> Any:
        given = self._given[name]
        if callable(given):
            given = self._given[name] = given()
        return given

    @property
    def total_num_requests(self) -> float:
        """Number of requests, those that run and those that wait."""
        return self._value("total_num_requests")

    @property
    def total_queued_requests(self) -> Optional[float]:
        """Number of requests that wait; None if it is not known."""
        return self._value("total_queued_requests")

    @property
    def total_running_requests(self) -> float:
        """Number of requests that run."""
        return self.total_num_requests - (self.total_queued_requests or 0)

    @property
    def aggregated_metrics(self) -> Optional[Dict[str, Dict[Any, float]]]:
        """Numbers by name and replica, over the time window."""
        return self._value("aggregated_metrics")

    @property
    def raw_metrics(self) -> Optional[Dict[str, Dict[Any, List[Any]]]]:
        """Samples by name and replica."""
        return self._value("raw_metrics")
