"""Configuration classes that are pydantic models. helve.serve.config gives their names, and loads this module when one is used."""

from __future__ import annotations

from enum import Enum
from typing import Any, Callable, Dict, List, Literal, Optional, Tuple, Union

import cloudpickle
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PrivateAttr, field_validator, model_validator

from helve.serve import _imports
from helve.serve._autoscaling import json_serializable
from helve.serve._fields import Fields
from helve.serve._http_options import HTTPSettings, http_settings

DEFAULT_REQUEST_ROUTER_PATH = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"
DEFAULT_GRPC_PORT = 9000


class ProxyLocation(str, Enum):
    """The nodes that serve HTTP. There is one node, so EveryNode and HeadOnly are equal."""

    Disabled = "Disabled"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"

    @classmethod
    def _normalize(cls, value: Any) -> Optional["ProxyLocation"]:
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise TypeError(f"Must be a `ProxyLocation` or str, got: {type(value)}.")
        return cls(value)


class DeploymentMode(str, Enum):
    """The old name of [ProxyLocation], with one more member."""

    NoServer = "NoServer"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"


class HTTPOptions(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    __doc__ = HTTPSettings.__doc__

    host: Optional[str] = "127.0.0.1"
    port: Optional[int] = 8000
    middlewares: List[Any] = Field(default_factory=list)
    location: Optional[ProxyLocation] = ProxyLocation.HeadOnly
    num_cpus: Union[int, float] = 0
    root_url: str = ""
    root_path: str = ""
    request_timeout_s: Optional[float] = None
    keep_alive_timeout_s: Optional[float] = None
    ssl_keyfile: Optional[str] = None
    ssl_certfile: Optional[str] = None
    ssl_keyfile_password: Optional[str] = Field(default=None, repr=False)
    ssl_ca_certs: Optional[str] = None

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        checked = http_settings(data)
        return {name: getattr(checked, name) for name in {*data, "host", "port", "location"}}

    def for_node(self) -> dict:
        """The options that the node carries out."""
        return HTTPSettings(**{name: getattr(self, name) for name in type(self).model_fields}).for_node()


class gRPCOptions(BaseModel):
    """How a cluster serves gRPC. It is checked and kept, and serves nothing: gRPC is not there yet."""

    port: int = DEFAULT_GRPC_PORT
    grpc_servicer_functions: List[str] = Field(default_factory=list)
    request_timeout_s: Optional[float] = None
    enable_reflection: bool = True

    @property
    def grpc_servicer_func_callable(self) -> List[Callable]:
        found = []
        for path in self.grpc_servicer_functions:
            try:
                found.append(_imports.find(path))
            except ModuleNotFoundError:
                raise ModuleNotFoundError(f"{path} can't be imported! Please make sure there are no typo in those functions.") from None
        return found


class BackpressureConfig(BaseModel):
    """The HTTP answer to a request that is over `max_queued_requests`."""

    model_config = ConfigDict(extra="forbid")

    status_code: Literal[503, 429] = 503
    retry_after_s: Optional[NonNegativeFloat] = Field(default=None, allow_inf_nan=False)


class ControllerOptions(BaseModel):
    """Options of a process that does not exist here: the node does the work of Ray Serve's controller, and has the environment of the program that
    starts it. They are checked, and without effect.
    """

    model_config = ConfigDict(extra="forbid")

    runtime_env: Optional[Dict[str, Any]] = None

    @field_validator("runtime_env")
    @classmethod
    def _variables_only(cls, value: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
        other = sorted(set(value or {}) - {"env_vars"})
        if other:
            raise ValueError(f"ControllerOptions.runtime_env only supports ['env_vars'] in this version; got disallowed keys {other}.")
        return value


class RequestRouterConfig(Fields):
    """How the router of a deployment picks replicas.

    - request_router_class: the class of a shipped policy, or its import path: power of two choices, round robin or consistent hash. A policy
      in Python of your own is refused at the deployment; in Go it is `CustomRouting`.
    - request_router_kwargs: of consistent hash, num_virtual_nodes and num_fallback_replicas.
    - initial_backoff_s, backoff_multiplier and max_backoff_s have no effect: a call that waits is woken when a slot is free.
    """

    request_router_class: Union[str, Callable] = DEFAULT_REQUEST_ROUTER_PATH
    request_router_kwargs: Dict[str, Any] = Field(default_factory=dict)
    request_routing_stats_period_s: PositiveFloat = 10
    request_routing_stats_timeout_s: PositiveFloat = 30
    initial_backoff_s: PositiveFloat = 0.025
    backoff_multiplier: PositiveFloat = 2
    max_backoff_s: PositiveFloat = 0.5

    _class: Any = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _resolved(cls, data: Any, handler: Any) -> Any:
        made = handler(data)
        if not isinstance(data, dict):
            return made
        if not isinstance(made.request_router_class, str):
            made._class, made.request_router_class = made.request_router_class, _imports.path_of(made.request_router_class)
        elif made.request_router_class != DEFAULT_REQUEST_ROUTER_PATH:
            made._class = _imports.find(made.request_router_class)
        return made

    @field_validator("request_router_kwargs")
    @classmethod
    def _is_json(cls, value: Dict[str, Any]) -> Dict[str, Any]:
        return json_serializable("request_router_kwargs", value)

    def is_default_request_router(self) -> bool:
        return self.request_router_class == DEFAULT_REQUEST_ROUTER_PATH

    def get_request_router_class(self) -> Callable:
        return self._class if self._class is not None else _imports.find(str(self.request_router_class))

    def get_serialized_request_router_cls(self) -> bytes:
        return cloudpickle.dumps(self.get_request_router_class())


class GangPlacementStrategy(str, Enum):
    """Where the replicas of a gang are placed."""

    PACK = "PACK"
    SPREAD = "SPREAD"


class GangRuntimeFailurePolicy(str, Enum):
    """The replicas that are started anew when one of a gang fails."""

    RESTART_GANG = "RESTART_GANG"
    RESTART_REPLICA = "RESTART_REPLICA"


class GangSchedulingConfig(BaseModel):
    """Replicas that start together or not at all. A deployment with it is refused: one node starts all of its replicas together."""

    gang_size: int = Field(ge=1)
    gang_placement_strategy: GangPlacementStrategy = GangPlacementStrategy.PACK
    runtime_failure_policy: GangRuntimeFailurePolicy = GangRuntimeFailurePolicy.RESTART_GANG

    @field_validator("runtime_failure_policy")
    @classmethod
    def _policy(cls, value: GangRuntimeFailurePolicy) -> GangRuntimeFailurePolicy:
        if value == GangRuntimeFailurePolicy.RESTART_REPLICA:
            raise ValueError("runtime_failure_policy RESTART_REPLICA is not supported; use RESTART_GANG")
        return value


class DeploymentActorConfig(BaseModel):
    """An object that all replicas of a deployment share. A deployment with it is refused: bind another deployment instead, and call it by its handle."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    actor_class: Union[type, str, Any]
    init_args: Tuple[Any, ...] = Field(default_factory=tuple)
    init_kwargs: Dict[str, Any] = Field(default_factory=dict)
    actor_options: Dict[str, Any] = Field(default_factory=dict)

    def get_actor_class(self) -> Any:
        return _imports.find(self.actor_class) if isinstance(self.actor_class, str) else self.actor_class


