"""Deployments and the applications that are bound from them."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, List, Literal, NoReturn, Optional, Tuple, Union, overload

from helve import _code, _limits
from helve._hooks import DEFINITION, hook, no_reconfigure
from helve._pickling import dumps_replacing
from helve.serve import _checks
from helve.serve._default import DEFAULT
from helve.serve._types import D, P

if TYPE_CHECKING:
    from helve.serve._types import P2, ClassOf, Decorator, InstanceOf, R
    from helve.serve.config import AutoscalingConfig, BackpressureConfig, GangSchedulingConfig, LoggingConfig, RequestRouterConfig


def _target(target: Any) -> Callable:
    if isinstance(target, Deployment):
        raise TypeError(f"@serve.deployment is for classes and functions, not {_limits.shown(target)}: it is a deployment already; use {target.name}.options(...)")
    if not callable(target):
        raise TypeError(f"@serve.deployment must be called on a class or function: it is for classes and functions, not {_limits.shown(target)}")
    return target


def _qualified(target: Any) -> str:
    return getattr(target, "__qualname__", None) or type(target).__qualname__


def _named(target: Any) -> str:
    """The name of a deployment of a class or function."""
    return getattr(target, "__name__", None) or type(target).__name__


if TYPE_CHECKING:
    from helve.serve.handle import DeploymentHandle as _Handle
else:
    _Handle = Generic


class Application(_Handle[D]):
    """A deployment bound to the arguments of its constructor, which may be other applications: the graph of an app.

    `Deployment.bind` makes it. `serve.run` takes it, and so does `bind` of another deployment, whose constructor gets a
    `DeploymentHandle` in its place. For type checkers it is therefore a kind of handle, so that `bind` can compare its arguments with the
    parameters of the constructor. It has no calls: `remote` and `options` are an AttributeError.
    """

    if TYPE_CHECKING:
        remote: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]
        options: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]
        broadcast: None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]

        def __getattr__(self, name: str) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, deployment: "Deployment[..., Any]", args: tuple, kwargs: dict):
        self._bound, self._args, self._kwargs = deployment, args, kwargs

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self._bound._name}.bind(...) is no value: pass it to another deployment's bind(), which makes a handle of it, or to serve.run"
        )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str):
            if name in ("remote", "options", "broadcast"):
                raise AttributeError(f"{self._bound._name}.bind(...) is not running: handles have {name!r}; serve.run gives one, and bind() passes one on")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Deployment(Generic[P, D]):
    """A class or function with a name and options: the result of `@serve.deployment`.

    It is bound to the arguments of the constructor, and the bound application is run:

        handle = serve.run(Model.options(num_replicas=2).bind("weights.bin"))

    A call of the deployment itself is a RuntimeError, and the methods of the class are an AttributeError: calls go to the handle.
    """

    __hash__ = None  # type: ignore[assignment]  # two deployments may be equal

    def __init__(self, target: Callable, name: str, options: dict, source: Optional[tuple] = None, given: frozenset = frozenset()):
        """given are the names of the options that the program has passed."""
        self._target, self._name, self._options, self._given = target, name, options, given
        self._source = source or _code.source(target)

    @property
    def name(self) -> str:
        """Name of the deployment in its application."""
        return self._name

    @property
    def version(self) -> Optional[str]:
        """The option `version`; None if it was not given."""
        return self._options.get("version")

    @property
    def func_or_class(self) -> Callable[..., Any]:
        """The class or function below the decorator. `Model.func_or_class` is the plain class, for example for a unit test."""
        return self._target

    @property
    def num_replicas(self) -> int:
        """The option `num_replicas`: 1 if it was not given, and with `autoscaling_config`."""
        return self._options.get("num_replicas", 1)

    @property
    def user_config(self) -> Any:
        """The option `user_config`; None if it was not given."""
        return self._options.get("user_config")

    @property
    def max_ongoing_requests(self) -> int:
        """The option `max_ongoing_requests`."""
        return self._options.get("max_ongoing_requests", 5)

    @property
    def max_queued_requests(self) -> int:
        """The option `max_queued_requests`; -1 for no limit."""
        return self._options.get("max_queued_requests", -1)

    @property
    def backpressure_config(self) -> "BackpressureConfig":
        """The option `backpressure_config`, with its defaults."""
        from helve.serve.config import BackpressureConfig

        return self._options.get("backpressure_config") or BackpressureConfig()

    @property
    def ray_actor_options(self) -> Dict[str, Any]:
        """A copy of the option `ray_actor_options`, with `num_cpus`."""
        return copy.deepcopy(self._options.get("ray_actor_options") or {"num_cpus": 1})

    @property
    def init_args(self) -> Tuple[Any, ...]:
        """`()`: the arguments of the constructor are in the application that `bind` makes."""
        return ()

    @property
    def init_kwargs(self) -> Dict[str, Any]:
        """`{}`: the arguments of the constructor are in the application that `bind` makes."""
        return {}

    @property
    def logging_config(self) -> Optional[Dict[str, Any]]:
        """The option `logging_config` as a dict; None if it was not given."""
        return self._options.get("logging_config")

    def set_logging_config(self, logging_config: Union[Dict[str, Any], "LoggingConfig"]) -> None:
        """Changes the option `logging_config` of this deployment in place. Replicas that start from now on have it.

        Args:
            logging_config: The new configuration, as a `LoggingConfig` or a dict of its fields.

        Raises:
            ValueError: A field that is not there, or a value that it does not take.
        """
        self._options = _checks.read({"logging_config": logging_config}, self._options, f"deployment {self._name!r}: ")

    @property
    def _deployment_config(self) -> Any:
        """The options as programs that were written for the insides of Ray Serve read them."""
        from helve.serve._views import deployment_config

        return deployment_config(self)

    @property
    def _replica_config(self) -> Any:
        from helve.serve._views import replica_config

        return replica_config(self)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Application[D]:
        """The deployment with the arguments of its constructor.

        An argument that is an application, or has one inside (a list, a dict, an object of any class), becomes a handle to it.

        Args:
            *args: Positional arguments of the constructor. They are pickled when the application is run.
            **kwargs: Keyword arguments of the constructor.

        Returns:
            The application, for `serve.run` or for `bind` of another deployment.

        Raises:
            ValueError: Arguments of a function deployment: a function has no constructor.
        """
        if args and inspect.isfunction(self._target):
            raise ValueError(f"deployment {self._name!r}: init_args not supported for function deployments.")
        if kwargs and inspect.isfunction(self._target):
            raise ValueError(f"deployment {self._name!r}: init_kwargs not supported for function deployments.")
        return Application(self, args, kwargs)

    @overload
    def options(
        self,
        func_or_class: None = None,
        name: str = ...,
        version: Optional[str] = ...,
        num_replicas: Union[int, Literal["auto"], None] = ...,
        ray_actor_options: Optional[Dict[str, Any]] = ...,
        placement_group_bundles: Optional[List[Dict[str, float]]] = ...,
        placement_group_strategy: Optional[str] = ...,
        placement_group_bundle_label_selector: Optional[List[Dict[str, str]]] = ...,
        max_replicas_per_node: Optional[int] = ...,
        user_config: Any = ...,
        max_ongoing_requests: int = ...,
        max_queued_requests: int = ...,
        backpressure_config: Union[Dict[str, Any], "BackpressureConfig"] = ...,
        autoscaling_config: Union[Dict[str, Any], "AutoscalingConfig", None] = ...,
        graceful_shutdown_wait_loop_s: float = ...,
        graceful_shutdown_timeout_s: float = ...,
        health_check_period_s: float = ...,
        health_check_timeout_s: float = ...,
        logging_config: Union[Dict[str, Any], "LoggingConfig", None] = ...,
        request_router_config: Union[Dict[str, Any], "RequestRouterConfig"] = ...,
        max_constructor_retry_count: int = ...,
        gang_scheduling_config: Union[Dict[str, Any], "GangSchedulingConfig", None] = ...,
        deployment_actors: Optional[List[Any]] = ...,
        rolling_update_percentage: float = ...,
        max_surge_percent: int = ...,
        construct_timeout_s: Optional[float] = ...,
        request_router: Optional[Dict[str, Any]] = ...,
        request_routing_stats_period_s: Optional[float] = ...,
        request_routing_stats_timeout_s: Optional[float] = ...,
        runtime_env: Optional[Dict[str, Any]] = ...,
        limits: Optional[Dict[str, Any]] = ...,
        unresponsive_after_s: Optional[float] = ...,
        max_unresponsive_s: Optional[float] = ...,
        warm_spare: Optional[bool] = ...,
        rollout_config: Optional[Dict[str, Any]] = ...,
        health_check_failure_threshold: Optional[int] = ...,
        readiness_check_period_s: Optional[float] = ...,
        readiness_check_timeout_s: Optional[float] = ...,
        readiness_failure_threshold: Optional[int] = ...,
        readiness_success_threshold: Optional[int] = ...,
        ejection_config: Optional[Dict[str, Any]] = ...,
    ) -> "Deployment[P, D]": ...
    @overload
    def options(self, func_or_class: "Callable[P2, R]", **options: Any) -> "Deployment[P2, R]": ...
    def options(
        self, func_or_class: Optional[Callable] = None,
        name: Union[DEFAULT, str] = DEFAULT.VALUE,
        version: Union[DEFAULT, Optional[str]] = DEFAULT.VALUE,
        num_replicas: Union[DEFAULT, int, str, None] = DEFAULT.VALUE,
        ray_actor_options: Union[DEFAULT, Optional[Dict[str, Any]]] = DEFAULT.VALUE,
        placement_group_bundles: Union[DEFAULT, Optional[List[Dict[str, float]]]] = DEFAULT.VALUE,
        placement_group_strategy: Union[DEFAULT, Optional[str]] = DEFAULT.VALUE,
        placement_group_bundle_label_selector: Union[DEFAULT, Optional[List[Dict[str, str]]]] = DEFAULT.VALUE,
        max_replicas_per_node: Union[DEFAULT, Optional[int]] = DEFAULT.VALUE,
        user_config: Any = DEFAULT.VALUE,
        max_ongoing_requests: Union[DEFAULT, int] = DEFAULT.VALUE,
        max_queued_requests: Union[DEFAULT, int] = DEFAULT.VALUE,
        backpressure_config: Union[DEFAULT, Dict[str, Any], "BackpressureConfig"] = DEFAULT.VALUE,
        autoscaling_config: Union[DEFAULT, Dict[str, Any], "AutoscalingConfig", None] = DEFAULT.VALUE,
        graceful_shutdown_wait_loop_s: Union[DEFAULT, float] = DEFAULT.VALUE,
        graceful_shutdown_timeout_s: Union[DEFAULT, float] = DEFAULT.VALUE,
        health_check_period_s: Union[DEFAULT, float] = DEFAULT.VALUE,
        health_check_timeout_s: Union[DEFAULT, float] = DEFAULT.VALUE,
        logging_config: Union[DEFAULT, Dict[str, Any], "LoggingConfig", None] = DEFAULT.VALUE,
        request_router_config: Union[DEFAULT, Dict[str, Any], "RequestRouterConfig"] = DEFAULT.VALUE,
        max_constructor_retry_count: Union[DEFAULT, int] = DEFAULT.VALUE,
        gang_scheduling_config: Union[DEFAULT, Dict[str, Any], "GangSchedulingConfig", None] = DEFAULT.VALUE,
        deployment_actors: Union[DEFAULT, Optional[List[Any]]] = DEFAULT.VALUE,
        rolling_update_percentage: Union[DEFAULT, float] = DEFAULT.VALUE,
        max_surge_percent: Union[DEFAULT, int] = DEFAULT.VALUE,
        construct_timeout_s: Optional[float] = None,
        request_router: Optional[Dict[str, Any]] = None,
        request_routing_stats_period_s: Optional[float] = None,
        request_routing_stats_timeout_s: Optional[float] = None,
        runtime_env: Optional[Dict[str, Any]] = None,
        limits: Optional[Dict[str, Any]] = None,
        unresponsive_after_s: Optional[float] = None,
        max_unresponsive_s: Optional[float] = None,
        warm_spare: Optional[bool] = None,
        rollout_config: Optional[Dict[str, Any]] = None,
        health_check_failure_threshold: Optional[int] = None,
        readiness_check_period_s: Optional[float] = None,
        readiness_check_timeout_s: Optional[float] = None,
        readiness_failure_threshold: Optional[int] = None,
        readiness_success_threshold: Optional[int] = None,
        ejection_config: Optional[Dict[str, Any]] = None,
        **unknown: NoReturn,
    ) -> "Deployment":
        """A copy of the deployment with these options changed:

            two = Model.options(name="Second", num_replicas=2).bind("weights.bin")

        An option that is not passed stays as it is. An option that is a dict or a configuration replaces the one before as a whole. The
        options are those of `serve.deployment`, which describes each.

        Args:
            func_or_class: Another class or function for the deployment.
            name: Another name. Two deployments of one application that are bound with one name get numbers.
            **unknown: Refused, with the option that was probably meant.

        Returns:
            A new deployment. The one before stays as it is.

        Raises:
            TypeError: An option that is not there, or a value of a wrong type.
            ValueError: A value out of its bounds, or options that exclude each other.
            NotImplementedError: An option that is refused.
        """
        given = _passed(locals(), "Deployment.options", unknown)
        if "name" in given:
            given["name"] = _deployment_name(given["name"])
        own: str = given.pop("name", self._name)
        options = _checks.read(given, self._options, f"deployment {own!r}: ")
        names = _names_of(self._given, given, own != self._name)
        if callable(func_or_class):
            return Deployment(_target(func_or_class), own, options, None, names)
        return Deployment(self._target, own, options, self._source, names)

    if not TYPE_CHECKING:  # type checkers refuse what these refuse

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(
                f"deployment {self._name} cannot be constructed directly (Deployments cannot be constructed directly.); use {self._name}.bind(...) and serve.run"
            )

        def __getattr__(self, name: str) -> NoReturn:
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            own = self.__dict__.get("_name")
            if own is not None and not name.startswith("_"):
                text += f": calls go to the handle of an application that runs, handle = serve.run({own}.bind(...))"
            raise AttributeError(text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Deployment):
            return NotImplemented
        return (self._name, self._target, self._options) == (other._name, other._target, other._options)

    def __repr__(self) -> str:
        return f"Deployment(name={self._name})"


def _deployment_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name: name must be a string. It is {_limits.shown(name)}")
    name = _limits.name("name", name)
    if "#" in name:
        raise ValueError(f"name: Deployment names must not contain the '#' character. Current name: {name}.")
    return name


def _passed(local: dict, function: str, unknown: dict) -> dict:
    """The options that were passed, of the local variables of a function that has a parameter for each."""
    if unknown:
        raise _checks.unknown(function, unknown)
    passed = {name: local[name] for name in _checks.RAY if local[name] is not DEFAULT.VALUE}
    passed.update((name, local[name]) for name in _checks.OWN if local[name] is not None)
    return passed


def _names_of(before: frozenset, given: dict, named: bool) -> frozenset:
    names = before | set(given) | ({"name"} if named else set())
    return frozenset(names | {"autoscaling_config"} if isinstance(given.get("num_replicas"), str) else names)


# The defaults of this signature are the real ones, for readers and editors; the function itself must know whether an option was passed.
@overload
def deployment(
    _func_or_class: None = None,
    name: str = ...,
    version: Optional[str] = None,
    num_replicas: Union[int, Literal["auto"], None] = 1,
    ray_actor_options: Optional[Dict[str, Any]] = None,
    placement_group_bundles: Optional[List[Dict[str, float]]] = None,
    placement_group_strategy: Optional[str] = None,
    placement_group_bundle_label_selector: Optional[List[Dict[str, str]]] = None,
    max_replicas_per_node: Optional[int] = None,
    user_config: Any = None,
    max_ongoing_requests: int = 5,
    max_queued_requests: int = -1,
    backpressure_config: Union[Dict[str, Any], "BackpressureConfig"] = ...,
    autoscaling_config: Union[Dict[str, Any], "AutoscalingConfig", None] = None,
    graceful_shutdown_wait_loop_s: float = 2,
    graceful_shutdown_timeout_s: float = 20,
    health_check_period_s: float = 10,
    health_check_timeout_s: float = 30,
    logging_config: Union[Dict[str, Any], "LoggingConfig", None] = None,
    request_router_config: Union[Dict[str, Any], "RequestRouterConfig"] = ...,
    max_constructor_retry_count: int = 20,
    gang_scheduling_config: Union[Dict[str, Any], "GangSchedulingConfig", None] = None,
    deployment_actors: Optional[List[Any]] = None,
    rolling_update_percentage: float = 0.2,
    max_surge_percent: int = 0,
    construct_timeout_s: Optional[float] = 1200,
    request_router: Optional[Dict[str, Any]] = None,
    request_routing_stats_period_s: Optional[float] = 10,
    request_routing_stats_timeout_s: Optional[float] = 30,
    runtime_env: Optional[Dict[str, Any]] = None,
    limits: Optional[Dict[str, Any]] = None,
    unresponsive_after_s: Optional[float] = 5,
    max_unresponsive_s: Optional[float] = 0,
    warm_spare: Optional[bool] = False,
    rollout_config: Optional[Dict[str, Any]] = None,
    health_check_failure_threshold: Optional[int] = 3,
    readiness_check_period_s: Optional[float] = 5,
    readiness_check_timeout_s: Optional[float] = 5,
    readiness_failure_threshold: Optional[int] = 1,
    readiness_success_threshold: Optional[int] = 1,
    ejection_config: Optional[Dict[str, Any]] = None,
) -> "Decorator": ...
@overload
def deployment(_func_or_class: "ClassOf[P2, R]", /) -> "Deployment[P2, R]": ...  # type: ignore[overload-overlap]
@overload
def deployment(_func_or_class: "type[InstanceOf[P2, R]]", /) -> "Deployment[P2, R]": ...  # type: ignore[overload-overlap]
@overload
def deployment(_func_or_class: "type[R]", /) -> "Deployment[..., R]": ...  # type: ignore[overload-overlap,overload-cannot-match]
@overload
def deployment(_func_or_class: "Callable[P2, R]", /) -> "Deployment[[], Callable[P2, R]]": ...
def deployment(
    _func_or_class: Any = None,
    name: Union[DEFAULT, str] = DEFAULT.VALUE,
    version: Union[DEFAULT, Optional[str]] = DEFAULT.VALUE,
    num_replicas: Union[DEFAULT, int, str, None] = DEFAULT.VALUE,
    ray_actor_options: Union[DEFAULT, Optional[Dict[str, Any]]] = DEFAULT.VALUE,
    placement_group_bundles: Union[DEFAULT, Optional[List[Dict[str, float]]]] = DEFAULT.VALUE,
    placement_group_strategy: Union[DEFAULT, Optional[str]] = DEFAULT.VALUE,
    placement_group_bundle_label_selector: Union[DEFAULT, Optional[List[Dict[str, str]]]] = DEFAULT.VALUE,
    max_replicas_per_node: Union[DEFAULT, Optional[int]] = DEFAULT.VALUE,
    user_config: Any = DEFAULT.VALUE,
    max_ongoing_requests: Union[DEFAULT, int] = DEFAULT.VALUE,
    max_queued_requests: Union[DEFAULT, int] = DEFAULT.VALUE,
    backpressure_config: Union[DEFAULT, Dict[str, Any], "BackpressureConfig"] = DEFAULT.VALUE,
    autoscaling_config: Union[DEFAULT, Dict[str, Any], "AutoscalingConfig", None] = DEFAULT.VALUE,
    graceful_shutdown_wait_loop_s: Union[DEFAULT, float] = DEFAULT.VALUE,
    graceful_shutdown_timeout_s: Union[DEFAULT, float] = DEFAULT.VALUE,
    health_check_period_s: Union[DEFAULT, float] = DEFAULT.VALUE,
    health_check_timeout_s: Union[DEFAULT, float] = DEFAULT.VALUE,
    logging_config: Union[DEFAULT, Dict[str, Any], "LoggingConfig", None] = DEFAULT.VALUE,
    request_router_config: Union[DEFAULT, Dict[str, Any], "RequestRouterConfig"] = DEFAULT.VALUE,
    max_constructor_retry_count: Union[DEFAULT, int] = DEFAULT.VALUE,
    gang_scheduling_config: Union[DEFAULT, Dict[str, Any], "GangSchedulingConfig", None] = DEFAULT.VALUE,
    deployment_actors: Union[DEFAULT, Optional[List[Any]]] = DEFAULT.VALUE,
    rolling_update_percentage: Union[DEFAULT, float] = DEFAULT.VALUE,
    max_surge_percent: Union[DEFAULT, int] = DEFAULT.VALUE,
    construct_timeout_s: Optional[float] = None,
    request_router: Optional[Dict[str, Any]] = None,
    request_routing_stats_period_s: Optional[float] = None,
    request_routing_stats_timeout_s: Optional[float] = None,
    runtime_env: Optional[Dict[str, Any]] = None,
    limits: Optional[Dict[str, Any]] = None,
    unresponsive_after_s: Optional[float] = None,
    max_unresponsive_s: Optional[float] = None,
    warm_spare: Optional[bool] = None,
    rollout_config: Optional[Dict[str, Any]] = None,
    health_check_failure_threshold: Optional[int] = None,
    readiness_check_period_s: Optional[float] = None,
    readiness_check_timeout_s: Optional[float] = None,
    readiness_failure_threshold: Optional[int] = None,
    readiness_success_threshold: Optional[int] = None,
    ejection_config: Optional[Dict[str, Any]] = None,
    **unknown: NoReturn,
) -> Any:
    """Makes a class or function a deployment: `@serve.deployment`, or `@serve.deployment(num_replicas=2)`:

        @serve.deployment(num_replicas=2, max_ongoing_requests=10)
        class Model:
            def __init__(self, path: str): ...
            async def __call__(self, text: str) -> str: ...

        handle = serve.run(Model.bind("weights.bin"))

    Times are in seconds. An option that is not passed has its default. docs/options.md has the options with their bounds.

    Args:
        _func_or_class: The class or function, where the decorator has no parentheses.
        name: Name of the deployment in its application. Default: the class's or function's own name.
        version: Version of the deployment's code: replicas of another version are replaced by an update. Default: None.
        num_replicas: Number of replicas, or "auto": the autoscaler's default configuration, from 1 to 100 replicas with 2 requests each. Default: 1.
        ray_actor_options: Resources of a replica (`num_cpus`, `num_gpus`, `memory` in bytes, `resources`, `accelerator_type`) and its
            `runtime_env`. Default: {"num_cpus": 1}.
        placement_group_bundles: Resources as a list of bundles, whose sum a replica asks for. Default: None.
        placement_group_strategy: Without effect on one node, but for "STRICT_SPREAD", which is refused. Default: "PACK".
        placement_group_bundle_label_selector: Refused: a node has no labels. Default: None.
        max_replicas_per_node: Number of replicas that one node may have, from 1 to 100. The other replicas wait. Default: None, no limit.
        user_config: Value, as JSON, that the method `reconfigure` gets at the start and when it changes. Default: None.
        max_ongoing_requests: Number of calls that one replica executes at a time, at least 1. Default: 5.
        max_queued_requests: Number of calls of one caller that may wait for a replica; -1 is no limit. A call above it is a
            `BackPressureError`. Default: -1.
        backpressure_config: HTTP answer to a request over max_queued_requests: `status_code` 503 or 429, `retry_after_s` in seconds. Default:
            status 503.
        autoscaling_config: Bounds and pace of the autoscaler, in place of num_replicas. Default: None.
        graceful_shutdown_wait_loop_s: Without effect. Default: 2.
        graceful_shutdown_timeout_s: Time in which a replica that stops may finish its calls. Default: 20.
        health_check_period_s: Time between two health checks of a replica. Default: 10.
        health_check_timeout_s: Time that one health check may take. Default: 30.
        logging_config: Logging of the replicas: `encoding`, `log_level`, `logs_dir`, `enable_access_log`,
            `additional_log_standard_attrs`. Default: None.
        request_router_config: Way in which replicas are picked, a `RequestRouterConfig` with the class of a shipped policy. Default: power of two
            choices.
        max_constructor_retry_count: Number of failed starts after which the deployment is given up. Default: 20.
        gang_scheduling_config: Refused: one node starts all replicas together. Default: None.
        deployment_actors: Refused: bind another deployment instead. Default: None.
        rolling_update_percentage: Share of the replicas that an update replaces at a time, above 0 and at most 1. Default: 0.2.
        max_surge_percent: Percent of the replicas that an update may start beside the wanted number, 0 to 100; with 0 old replicas stop first.
            Default: by rolling_update_percentage.
        construct_timeout_s: Time in which a replica must be ready. An option of Helve only, as all below. Default: 1200.
        request_router: `policy`: "power_of_two_choices", "round_robin" or "consistent_hash"; for the last `virtual_nodes` and
            `fallback_replicas`. Default: power of two choices.
        request_routing_stats_period_s: Time between two questions for routing stats. Default: 10.
        request_routing_stats_timeout_s: Time that the answer with routing stats may take. Default: 30.
        runtime_env: Environment of the replicas' processes: `env_vars`, `working_dir`, `py_modules`, `pip`. It goes over the one in
            ray_actor_options. Default: None.
        limits: Limits of a replica's process: `memory` in bytes, `num_cpus`, `open_files`, and `from_resources` to have the first two from ray_actor_options. Default: None, no limit.
        unresponsive_after_s: Time without an answer after which a replica is reported, with stacks. Default: 5.
        max_unresponsive_s: Time without an answer after which a replica is replaced; 0 is never. Default: 0.
        warm_spare: Whether a process waits for the next start of a replica, with the modules of the deployment imported. Default: False.
        rollout_config: How an update replaces replicas: `max_surge` and `max_unavailable` (2 or "25%"), `steps`, `step_pause_s`, `min_ready_s`,
            `progress_deadline_s`, `automatic_rollback`, `error_rate`. Default: None, one wave of rolling_update_percentage at a time.
        health_check_failure_threshold: Number of failed health checks in a row after which a replica is replaced. Default: 3.
        readiness_check_period_s: Time between two calls of `check_ready`. Default: 5.
        readiness_check_timeout_s: Time that one readiness check may take. Default: 5.
        readiness_failure_threshold: Number of failed readiness checks in a row after which a replica gets no more calls. Default: 1.
        readiness_success_threshold: Number of good readiness checks in a row after which it gets calls again. Default: 1.
        ejection_config: When a replica whose calls fail for reasons of the system gets no calls for a while: `enabled`, `consecutive_failures`,
            `eject_s`, `max_percent`. Default: None, five failures in a row, for 5 seconds.
        **unknown: Refused, with the option that was probably meant.

    Returns:
        A `Deployment`, or with options a decorator that makes one.

    Raises:
        TypeError: An option that is not there, a value of a wrong type, or something else than a class or function.
        ValueError: A value out of its bounds, or options that exclude each other, such as num_replicas and autoscaling_config.
        NotImplementedError: An option that is refused; the text says what to use instead.
    """
    local = dict(locals())
    if _func_or_class is not None and callable(_func_or_class):
        _target(_func_or_class)
    given = _passed(local, "deployment", unknown)
    if "name" in given:
        given["name"] = _deployment_name(given["name"])
    own: Optional[str] = given.pop("name", None)
    target = _func_or_class if callable(_func_or_class) else None
    known = own or (target is not None and _named(target)) or None
    options = _checks.read(given, {}, f"deployment {known!r}: " if known else "")
    names = _names_of(frozenset(), given, own is not None)

    def decorate(target: Callable) -> Deployment:
        return Deployment(_target(target), own or _named(target), dict(options), None, names)

    return decorate(target) if target is not None else decorate


class Graph:
    """An application in the form that is sent to the node: deployments by name, with handles in place of bound
    applications.
    """

    def __init__(self, app: Application, app_name: str, middlewares: Optional[list] = None, change: Optional[Callable] = None):
        """middlewares are put around the application of the ingress. change gives a deployment with other options, for its name and the
        deployment.
        """
        if not isinstance(app, Application):
            hint = "; call .bind() on it" if hasattr(app, "bind") else ""
            raise TypeError(f"`serve.run` expects an `Application` returned by `Deployment.bind()`, got {type(app).__name__}{hint}")
        self.app_name = app_name
        self._middlewares, self._change = middlewares or [], change
        self.targets: dict[str, Callable] = {}  # of the Python deployments
        self.code: dict[str, bytes] = {}  # pickles of (class, args, kwargs)
        self.deployments: list[dict] = []
        self.given: dict[str, frozenset] = {}  # the names of the options that are not the default ones
        self._names: dict[int, str] = {}
        self._keep: list = []  # keeps the objects alive, because their ids are keys
        self.ingress = self._add(app)

    def _add(self, app: Application) -> str:
        if id(app) in self._names:  # bound once, used twice: one deployment
            return self._names[id(app)]
        d, name, n = app._bound, app._bound._name, 0
        taken = set(self._names.values())
        while name in taken:
            n += 1
            name = f"{d._name}_{n}"
        self._names[id(app)] = name
        self._keep.append(app)
        if not isinstance(d, Deployment):
            from helve.serve import _go

            self.deployments.append(_go.entry(name, d, app._args, app._kwargs, lambda used: (self._add(used), language_of(used)), self.app_name))
            return name
        if self._change is not None:
            d = self._change(name, d)
        self.given[name] = d._given
        target = d._target
        if d._options.get("user_config") is not None and hook(target, "reconfigure") is None:
            raise no_reconfigure(target, name)
        self.targets[name] = target
        uses: set[str] = set()
        code: tuple = (target, app._args, app._kwargs)
        if self._middlewares and len(self._names) == 1:  # the ingress comes first
            code += (self._middlewares,)
        self.code[name] = self._pickle(name, code, uses)
        options = _checks.for_node(name, d._options)
        scaling = d._options.get("autoscaling_config")
        if scaling is not None and not scaling.policy.is_default_policy_function():
            from helve.serve import _autoscaling

            _autoscaling.add_policy(self.code, options, self.app_name, name, scaling.policy, self._bound)
        self.deployments.append({
            "name": name, "class": f"{target.__module__}:{_qualified(target)}", "options": options, "uses": sorted(uses - {name}),
            "code_version": _code.version(target, d._source, app._args, app._kwargs, self._bound),
        })
        return name

    def docs_path(self) -> str:
        """The path of the documentation that the ingress has of its API, below the route prefix; "" for none."""
        definition = getattr(self.targets.get(self.ingress), DEFINITION, None)
        return "" if definition is None else definition.docs_path()

    def _bound(self, value: Any) -> Optional[str]:
        """The name of a bound application that is part of the graph; None for other values."""
        return self._names.get(id(value)) if type(value) is Application else None

    def _pickle(self, name: str, code: tuple, uses: set) -> bytes:
        """Pickles the code of a deployment. The bound applications that it uses are found meanwhile: among its
        arguments, in objects of any class, and in the globals of the program's functions.
        """
        from helve.serve.handle import DeploymentHandle

        mistakes: list = []

        def replace(value: Any) -> Any:
            if not issubclass(type(value), Application):
                return NotImplemented
            try:
                used = self._add(value)
            except Exception as e:
                mistakes.append(e)
                raise
            uses.add(used)
            return DeploymentHandle(used, self.app_name, language=language_of(value)).__reduce__()

        try:
            return dumps_replacing(code, replace)
        except Exception as e:
            if mistakes:  # mistakes of the deployments that it uses
                raise mistakes[0]
            from helve import _unpicklable

            def without_graph(value: Any) -> bytes:
                return dumps_replacing(value, lambda v: (str, ()) if issubclass(type(v), Application) else NotImplemented)

            where = _unpicklable.of_deployment(name, code[0], code[1], code[2], without_graph)
            raise TypeError(f"application {self.app_name!r} cannot be pickled: {where or f'deployment {name!r}: {e}'}") from None


def language_of(app: Application) -> str:
    """The language of a bound deployment."""
    return "python" if isinstance(app._bound, Deployment) else "go"


def http_kind(fn: Callable, bound: bool) -> str:
    """What a method gets when an HTTP ingress calls it. str and bytes: the body, which the node reads. none: nothing, of a generator whose
    items the node sends on. request: the exchange itself.
    """
    kinds = {str: "str", "str": "str", bytes: "bytes", "bytes": "bytes"}
    try:
        params = list(inspect.signature(fn).parameters.values())[1 if bound else 0 :]
        required = [p for p in params if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if not params:
            return "none" if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn) else "request"
        if len(required) <= 1 and params[0].kind in (params[0].POSITIONAL_ONLY, params[0].POSITIONAL_OR_KEYWORD):
            return kinds.get(params[0].annotation, "request")
    except (TypeError, ValueError):
        pass
    return "request"


def http_mistake(name: str, target: Any) -> str:
    """The mistake of a deployment as an ingress for HTTP; "" if there is none."""
    fn, what = target, name
    if inspect.isclass(target):
        if hasattr(target, DEFINITION):
            return ""
        if "__call__" not in _members(target):
            return f"deployment {name} has no __call__, which HTTP requests would call"
        what, fn = f"{name}.__call__", target.__call__
    try:
        params = list(inspect.signature(fn).parameters.values())[1 if inspect.isclass(target) else 0 :]
    except (TypeError, ValueError):
        return ""
    required = [p.name for p in params if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) > 1 or any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in params):
        return f"HTTP requests to {what} will fail: it is called with one argument, the request, and wants {', '.join(required)}"
    return ""


def methods_of(target: Any) -> list[dict]:
    """The methods of a class or function that handles can call, and the one that HTTP requests call."""
    if not inspect.isclass(target):
        return [_method("__call__", target, False)]
    out = []
    for name in dir(target):
        if name.startswith("_") and name != "__call__":
            continue
        fn = getattr(target, name, None)
        if callable(fn) and (name != "__call__" or "__call__" in _members(target)):
            out.append(_method(name, fn, not isinstance(inspect.getattr_static(target, name), (staticmethod, classmethod))))
    if hasattr(target, DEFINITION):
        out.append({"name": "__call__", "shape": "unary", "http": "request"})
    return out


def _method(name: str, fn: Callable, bound: bool) -> dict:
    http = http_kind(fn, bound)
    stream = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
    return {"name": name, "shape": "stream" if stream else "unary", "http": http}


def _members(cls: type) -> set:
    """The names of a class, without the names that every class has from its metaclass."""
    return {name for c in cls.__mro__ for name in vars(c)}


def deployment_to_schema(d: Deployment) -> Any:
    """The options of a deployment as the schema of configurations."""
    from helve.serve._views import to_schema

    return to_schema(d)


def schema_to_deployment(schema: Any) -> Deployment:
    """A deployment with the options of a schema, without a class."""
    from helve.serve._views import from_schema

    return from_schema(schema)


__all__ = ["Application", "Deployment", "deployment", "deployment_to_schema", "schema_to_deployment"]
