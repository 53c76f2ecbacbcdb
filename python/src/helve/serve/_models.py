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
    """How the node serves HTTP. With port None it does not.

    serve.start(http_options=HTTPOptions(host="0.0.0.0", port=80)) passes them; a dict of the fields does, too.

    Attributes:
        host: Address to listen on; "0.0.0.0" for all. Default: "127.0.0.1", this machine alone.
        port: Port to listen on, 0 for any that is free, None for no HTTP. Default: 8000.
        middlewares: `starlette.middleware.Middleware` objects, which each replica of an ingress puts around its application. Default: none.
        location: "Disabled" or "NoServer" for no HTTP; the other locations of Ray Serve are equal, because there is one node.
        num_cpus: Without effect.
        root_url: Without effect.
        root_path: Path that a proxy in front of the node adds to every path, for example "/models". Default: "".
        request_timeout_s: Seconds that a request may take, with its time in the queue. None, 0 and negative numbers stand for no limit, the default.
        keep_alive_timeout_s: Seconds that a connection may be without a request. Default: None, the node's own limit.
        ssl_keyfile: File with the key for TLS. It needs ssl_certfile.
        ssl_certfile: File with the certificate for TLS. It needs ssl_keyfile.
        ssl_keyfile_password: Password of the key.
        ssl_ca_certs: File with the authorities whose certificates clients must have.

    Raises:
        ValueError: A value out of its bounds, or a key without a certificate.
        TypeError: A field that is not there.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

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
    """How a cluster serves gRPC. It is checked and kept, and serves nothing: gRPC is not there yet.

    Attributes:
        port: Port to listen on. Default: 9000.
        grpc_servicer_functions: Import paths of functions that add services. `serve.start` refuses any.
        request_timeout_s: Seconds that a request may take. Default: None, no limit.
        enable_reflection: Whether clients can ask for the services.
    """

    port: int = DEFAULT_GRPC_PORT
    grpc_servicer_functions: List[str] = Field(default_factory=list)
    request_timeout_s: Optional[float] = None
    enable_reflection: bool = True

    @property
    def grpc_servicer_func_callable(self) -> List[Callable]:
        """The functions that `grpc_servicer_functions` names, imported."""
        found = []
        for path in self.grpc_servicer_functions:
            try:
                found.append(_imports.find(path))
            except ModuleNotFoundError:
                raise ModuleNotFoundError(f"{path} can't be imported! Please make sure there are no typo in those functions.") from None
        return found


class BackpressureConfig(BaseModel):
    """The HTTP answer to a request that is over `max_queued_requests`.

    Attributes:
        status_code: Status of the answer, 503 or 429. Default: 503.
        retry_after_s: Seconds in the header Retry-After of the answer. Default: None, which is 1 s; 0 stands for no header.
    """

    model_config = ConfigDict(extra="forbid")

    status_code: Literal[503, 429] = 503
    retry_after_s: Optional[NonNegativeFloat] = Field(default=None, allow_inf_nan=False)


class ControllerOptions(BaseModel):
    """Options of a process that does not exist here: the node does the work of Ray Serve's controller, and has the environment of the program that
    starts it. They are checked, and without effect.

    Attributes:
        runtime_env: Environment of the process, with `env_vars` alone.
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
    """How the router of a deployment picks replicas: the option `request_router_config`.

    Attributes:
        request_router_class: Class of a shipped policy, or its import path: power of two choices, which is the default, round robin or consistent
            hash. A policy in Python of your own is refused at the deployment; in Go it is `CustomRouting`.
        request_router_kwargs: Arguments of the policy. Consistent hash has num_virtual_nodes and num_fallback_replicas.
        request_routing_stats_period_s: Seconds between two questions for routing stats. Default: 10.
        request_routing_stats_timeout_s: Seconds that the answer with routing stats may take. Default: 30.
        initial_backoff_s: Without effect: a call that waits is woken when a slot is free.
        backoff_multiplier: Without effect.
        max_backoff_s: Without effect.
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
        """Whether the policy is the default one."""
        return self.request_router_class == DEFAULT_REQUEST_ROUTER_PATH

    def get_request_router_class(self) -> Callable:
        """The class of the policy, imported."""
        return self._class if self._class is not None else _imports.find(str(self.request_router_class))

    def get_serialized_request_router_cls(self) -> bytes:
        """The class of the policy as a pickle."""
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
    """Replicas that start together or not at all. A deployment with it is refused: one node starts all of its replicas together.

    Attributes:
        gang_size: Number of replicas of a gang, at least 1.
        gang_placement_strategy: Where they are placed.
        runtime_failure_policy: Replicas that are started anew when one fails.
    """

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
    """An object that all replicas of a deployment share. A deployment with it is refused: bind another deployment instead, and call it by its handle.

    Attributes:
        name: Name of the object.
        actor_class: Its class, or the import path of the class.
        init_args: Positional arguments of its constructor.
        init_kwargs: Keyword arguments of its constructor.
        actor_options: Resources of its process.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    actor_class: Union[type, str, Any]
    init_args: Tuple[Any, ...] = Field(default_factory=tuple)
    init_kwargs: Dict[str, Any] = Field(default_factory=dict)
    actor_options: Dict[str, Any] = Field(default_factory=dict)

    def get_actor_class(self) -> Any:
        """The class of the object, imported."""
        return _imports.find(self.actor_class) if isinstance(self.actor_class, str) else self.actor_class


