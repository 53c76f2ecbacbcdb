"""Schemas of configurations and of statuses, with Ray Serve's names. The classes of statuses and details are loaded when one is first used."""

from __future__ import annotations

import logging
import re
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, StrictInt, field_validator, model_validator

from helve import _refused
from helve.serve._autoscaling import AutoscalingConfig, AutoscalingPolicy
from helve.serve._default import DEFAULT
from helve.serve._imports import split_path
from helve.serve._models import (
    DEFAULT_GRPC_PORT, BackpressureConfig, ControllerOptions, DeploymentActorConfig, GangSchedulingConfig, ProxyLocation, RequestRouterConfig,
)

if TYPE_CHECKING:
    from helve.serve._details import (
        ApplicationDetails, ControllerHealthMetrics, DeploymentAutoscalingDetail, DeploymentDetails, DeploymentNode, DeploymentTopology, DurationStats,
        ProxyDetails, ReplicaDetails, ReplicaRank, ScalingDecision, ServeActorDetails, ServeInstanceDetails, Target, TargetGroup,
    )
    from helve.serve._status import (
        ApplicationStatus, ApplicationStatusOverview, DeploymentStatus, DeploymentStatusOverview, DeploymentStatusTrigger, ProxyStatus, ReplicaState,
        ServeStatus,
    )

_DETAILS = (
    "ApplicationDetails", "ControllerHealthMetrics", "DeploymentAutoscalingDetail", "DeploymentDetails", "DeploymentNode", "DeploymentTopology",
    "DurationStats", "ProxyDetails", "ReplicaDetails", "ReplicaRank", "ScalingDecision", "ServeActorDetails", "ServeInstanceDetails", "Target",
    "TargetGroup",
)
_STATUSES = (
    "ApplicationStatus", "ApplicationStatusOverview", "DeploymentStatus", "DeploymentStatusOverview", "DeploymentStatusTrigger", "ProxyStatus",
    "ReplicaState", "ServeStatus",
)
SERVE_DEFAULT_APP_NAME = "default"
_STANDARD_ATTRIBUTES = frozenset((
    "args", "asctime", "created", "exc_info", "exc_text", "filename", "funcName", "levelname", "levelno", "lineno", "message", "module", "msecs", "msg",
    "name", "pathname", "process", "processName", "relativeCreated", "stack_info", "taskName", "thread", "threadName",
))


class EncodingType(str, Enum):
    """The form of lines in a log."""

    TEXT = "TEXT"
    JSON = "JSON"


class APIType(str, Enum):
    """The way in which an application was deployed: by a program, or from a configuration."""

    UNKNOWN = "unknown"
    IMPERATIVE = "imperative"
    DECLARATIVE = "declarative"

    @classmethod
    def get_valid_user_values(cls) -> List[str]:
        """The texts of the members that a user may give."""
        return [cls.IMPERATIVE.value, cls.DECLARATIVE.value]


class AutoscalingStatus(str, Enum):
    """The direction in which a deployment scales."""

    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"
    STABLE = "STABLE"


class AutoscalingMetricsHealth(str, Enum):
    """Whether an autoscaler has the numbers that it decides by."""

    HEALTHY = "healthy"
    DELAYED = "delayed"
    UNAVAILABLE = "unavailable"


class RequestProtocol(str, Enum):
    """The protocol by which a request comes."""

    UNDEFINED = "UNDEFINED"
    HTTP = "HTTP"
    GRPC = "gRPC"


class LoggingConfig(BaseModel):
    """How replicas log: `logging_config` of `serve.start`, `serve.run` and deployments.

    Attributes:
        encoding: Form of the lines, "TEXT" or "JSON". Default: "TEXT".
        log_level: Lowest level that is logged, a name or a number of the module logging. Default: "INFO".
        logs_dir: Directory for a file of each replica, beside the node's log. Default: None, no files.
        enable_access_log: Whether each request is a line. Default: True.
        additional_log_standard_attrs: Names of attributes of `logging.LogRecord` that lines have, too. Default: none.

    Raises:
        ValueError: A value that is not one of these, or a field that is not there.
    """

    model_config = ConfigDict(extra="forbid")

    encoding: Union[str, EncodingType] = Field(default_factory=lambda: EncodingType.TEXT.value)
    log_level: Union[int, str] = "INFO"
    logs_dir: Optional[str] = None
    enable_access_log: bool = True
    additional_log_standard_attrs: List[str] = Field(default_factory=list)

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: Any) -> Any:
        if value not in list(EncodingType):
            raise ValueError(f"Got {value!r} for encoding. Encoding must be one of {', '.join(e.value for e in EncodingType)}.")
        return value

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: Union[int, str]) -> str:
        levels = {name: getattr(logging, name) for name in ("CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET")}
        if isinstance(value, int):
            value = logging.getLevelName(value)
        if value not in levels:
            raise ValueError(f'Got "{value}" for log_level. log_level must be one of {list(levels)}.')
        return str(value)

    @field_validator("additional_log_standard_attrs")
    @classmethod
    def _attributes(cls, value: List[str]) -> List[str]:
        for attribute in value:
            if attribute not in _STANDARD_ATTRIBUTES:
                raise ValueError(f"Unknown attribute '{attribute}'. Additional log standard attributes must be one of {sorted(_STANDARD_ATTRIBUTES)}.")
        return list(dict.fromkeys(value))

    def _compute_hash(self) -> int:
        return hash(self.model_dump_json())


class TracingConfig(BaseModel):
    """Which requests a node keeps with all their calls, and where their spans go. A node takes it from the files that are applied to it.

    Attributes:
        enabled: Whether requests are sampled. Default: False.
        exporter_import_path: Import path of a function that makes the exporter. Without effect.
        sampling_ratio: Share of the requests that are traced, 0 to 1. Default: 0.01.
        slow_request_s: Seconds from which on a request is slow and kept, 0 for none. Default: 1. Ray Serve does not have it, nor the next two.
        otlp_endpoint: URL of a receiver of OpenTelemetry over HTTP, such as http://127.0.0.1:4318, for the spans of sampled requests.
        otlp_headers: Headers of the requests to it. Their values may be placeholders such as ${env:NAME}.
    """

    model_config = ConfigDict(extra="forbid")

    enabled: bool = False
    exporter_import_path: str = ""
    sampling_ratio: float = 0.01
    slow_request_s: Optional[float] = Field(default=None, ge=0)
    otlp_endpoint: Optional[str] = None
    otlp_headers: Optional[Dict[str, str]] = None

    @field_validator("sampling_ratio")
    @classmethod
    def _ratio(cls, value: float) -> float:
        if not 0 <= value <= 1:
            raise ValueError(f"sampling_ratio must be between 0.0 and 1.0, got {value}.")
        return value


_LABEL = re.compile(r"[a-z0-9A-Z]([a-z0-9A-Z_.-]{0,61}[a-z0-9A-Z])?")
_URI = re.compile(r"[a-z][a-z0-9+.-]*://.+")


def _remote(environment: Optional[dict]) -> Optional[dict]:
    """Checks that the files of a runtime_env are URIs: a configuration is read on another machine than it was written on."""
    if not environment:
        return environment
    modules = environment.get("py_modules") or []
    if not isinstance(modules, (list, tuple)):
        raise ValueError(f"py_modules must be a list, got {modules!r}")
    for uri in (environment.get("working_dir"), *modules):
        if uri is not None and not (isinstance(uri, str) and _URI.fullmatch(uri)):
            raise ValueError(
                "runtime_envs in the Serve config support only remote URIs in working_dir and py_modules, or \"local://\" URIs for directories that "
                f"already exist on every node. Got error when parsing URI: Expected URI but received path {uri}"
            )
    return environment


class RayActorOptionsSchema(BaseModel):
    """Resources and environment of a replica.

    Attributes:
        runtime_env: Environment of its process.
        num_cpus: Cores that it asks for.
        num_gpus: GPUs that it asks for.
        memory: Bytes of memory that it asks for.
        resources: Numbers of other things that it asks for, by their names.
        accelerator_type: Kind of GPU that it asks for.
        label_selector: Labels that the node must have.
        fallback_strategy: Other selectors, for when no node with these labels has room.
    """

    runtime_env: dict = Field(default={})
    num_cpus: Optional[float] = Field(default=None, ge=0)
    num_gpus: Optional[float] = Field(default=None, ge=0)
    memory: Optional[float] = Field(default=None, ge=0)
    resources: Dict = Field(default={})
    accelerator_type: Optional[str] = None
    label_selector: Optional[Dict[str, str]] = None
    fallback_strategy: Optional[List[Dict[str, Any]]] = None

    @field_validator("runtime_env")
    @classmethod
    def _environment(cls, value: dict) -> dict:
        return _remote(value) or {}

    @field_validator("label_selector")
    @classmethod
    def _labels(cls, value: Optional[Dict[str, str]]) -> Optional[Dict[str, str]]:
        for key in value or {}:
            if not _LABEL.fullmatch(key.rsplit("/", 1)[-1]):
                raise ValueError(
                    f"Invalid label key name `{key}`. Name must be 63 chars or less beginning and ending with a letter or digit, with dashes, underscores, "
                    "dots, letters and digits between."
                )
        return value


_MARK: Any = DEFAULT.VALUE


def _given(value: Any) -> bool:
    """Whether a field of a configuration has a value of its own."""
    return value is not None and value is not DEFAULT.VALUE


class DeploymentSchema(BaseModel):
    """The options of one deployment in a configuration: the fields are those of `serve.deployment`. A field that is not given is as the deployment's
    code has it.
    """

    model_config = ConfigDict(populate_by_name=True)

    name: str
    num_replicas: Optional[Union[PositiveInt, str]] = _MARK
    max_ongoing_requests: int = Field(default=_MARK, gt=0)
    max_queued_requests: StrictInt = _MARK
    backpressure_config: BackpressureConfig = _MARK
    user_config: Optional[Dict] = _MARK
    autoscaling_config: Optional[Union[Dict, AutoscalingConfig]] = _MARK
    graceful_shutdown_wait_loop_s: float = Field(default=_MARK, ge=0)
    graceful_shutdown_timeout_s: float = Field(default=_MARK, ge=0)
    health_check_period_s: float = Field(default=_MARK, gt=0)
    health_check_timeout_s: float = Field(default=_MARK, gt=0)
    ray_actor_options: RayActorOptionsSchema = _MARK
    placement_group_bundles: List[Dict[str, float]] = _MARK
    placement_group_strategy: str = _MARK
    placement_group_bundle_label_selector: List[Dict[str, str]] = _MARK
    max_replicas_per_node: int = _MARK
    logging_config: LoggingConfig = _MARK
    request_router_config: Union[Dict, RequestRouterConfig] = _MARK
    gang_scheduling_config: Optional[Union[Dict, GangSchedulingConfig]] = _MARK
    deployment_actors: Optional[List[Union[Dict, DeploymentActorConfig]]] = _MARK
    rolling_update_percentage: float = Field(default=_MARK, gt=0, le=1)
    max_surge_percent: int = Field(default=_MARK, ge=0, le=100)

    @model_validator(mode="after")
    def _together(self) -> "DeploymentSchema":
        replicas, scaling, labels = self.num_replicas, _given(self.autoscaling_config), _given(self.placement_group_bundle_label_selector)
        if isinstance(replicas, str) and replicas != "auto":
            raise ValueError(f'`num_replicas` must be an int or "auto", but got: {replicas}')
        if isinstance(replicas, int) and scaling:
            raise ValueError("Manually setting num_replicas is not allowed when autoscaling_config is provided.")
        has_bundles = _given(self.placement_group_bundles)
        if _given(self.max_replicas_per_node) and has_bundles:
            raise ValueError("Setting max_replicas_per_node is not allowed when placement_group_bundles is provided.")
        if labels and not has_bundles:
            raise ValueError("Setting bundle_label_selector is not allowed when placement_group_bundles is not provided.")
        queued: Any = self.max_queued_requests
        if queued is not DEFAULT.VALUE and queued != -1 and queued < 1:
            raise ValueError("max_queued_requests must be -1 (no limit) or a positive integer.")
        return self

    @model_validator(mode="after")
    def _gangs(self) -> "DeploymentSchema":
        gang: Any = self.gang_scheduling_config
        if not _given(gang):
            return self
        if isinstance(gang, dict):
            gang = GangSchedulingConfig(**gang)
        if isinstance(self.num_replicas, int) and self.num_replicas % gang.gang_size:
            raise ValueError(f"num_replicas ({self.num_replicas}) must be a multiple of gang_size ({gang.gang_size}).")
        return self

    def is_autoscaling_configured(self) -> bool:
        """Whether the number of replicas is the autoscaler's."""
        return self.num_replicas == "auto" or _given(self.autoscaling_config)


class ServeApplicationSchema(BaseModel):
    """One application of a configuration.

    Attributes:
        name: Name of the application. Default: "default".
        route_prefix: Path below which HTTP requests reach it; None for no HTTP. Default: "/".
        import_path: Application in a module, or a function that returns one: "module:name".
        runtime_env: Environment of its replicas. Its files are URIs.
        host: Refused here: it belongs to the whole configuration.
        port: Refused here: it belongs to the whole configuration.
        deployments: Options that go over those in the code.
        autoscaling_policy: Policy that decides for all deployments of the application.
        args: Arguments of the function of import_path.
        logging_config: Logging of its replicas.
        external_scaler_enabled: Whether another program sets the numbers of replicas.
    """

    name: str = SERVE_DEFAULT_APP_NAME
    route_prefix: Optional[str] = "/"
    import_path: str
    runtime_env: dict = Field(default={})
    host: str = "0.0.0.0"
    port: int = 8000
    deployments: List[DeploymentSchema] = Field(default=[])
    autoscaling_policy: Optional[dict] = None
    args: Dict = Field(default={})
    logging_config: Optional[LoggingConfig] = None
    external_scaler_enabled: bool = False

    @property
    def deployment_names(self) -> List[str]:
        """The names of the deployments in the configuration."""
        return [d.name for d in self.deployments]

    @field_validator("autoscaling_policy", mode="before")
    @classmethod
    def _policy(cls, value: Any) -> Any:
        return value.model_dump() if isinstance(value, AutoscalingPolicy) else value

    @field_validator("runtime_env")
    @classmethod
    def _environment(cls, value: dict) -> dict:
        return _remote(value) or {}

    @field_validator("import_path")
    @classmethod
    def _path(cls, value: str) -> str:
        if ":" not in value and "." not in value:
            raise ValueError(f'Got invalid import path "{value}". An import path must contain at least one dot or colon, as in "module:application".')
        if value.count(":") > 1:
            raise ValueError(f'Got invalid import path "{value}". An import path may have at most one colon.')
        sign, word = (":", "colon") if ":" in value else (".", "dot")
        if value.startswith(sign) or value.endswith(sign):
            raise ValueError(f'Got invalid import path "{value}". An import path may not start or end with a {word}.')
        split_path(value)
        return value

    @model_validator(mode="after")
    def _scalers(self) -> "ServeApplicationSchema":
        scaled = [d.name for d in self.deployments if d.is_autoscaling_configured()]
        if self.external_scaler_enabled and scaled:
            names = ", ".join(f'"{name}"' for name in scaled)
            raise ValueError(f"external_scaler_enabled is set to True, but the following deployment(s) have autoscaling configured: {names}. Remove one of the two.")
        return self

    @staticmethod
    def get_empty_schema_dict() -> Dict:
        """A configuration without values, as a dict."""
        return {"import_path": "", "runtime_env": {}, "deployments": []}


class gRPCOptionsSchema(BaseModel):
    """How a cluster serves gRPC, in a configuration.

    Attributes:
        port: Port to listen on. Default: 9000.
        grpc_servicer_functions: Import paths of functions that add services.
        request_timeout_s: Seconds that a request may take. Default: None, no limit.
        enable_reflection: Whether clients can ask for the services.
    """

    port: int = DEFAULT_GRPC_PORT
    grpc_servicer_functions: List[str] = Field(default=[])
    request_timeout_s: Optional[float] = None
    enable_reflection: bool = True


class HTTPOptionsSchema(BaseModel):
    """How a cluster serves HTTP, in a configuration.

    Attributes:
        host: Address to listen on. Default: "0.0.0.0", all.
        port: Port to listen on. Default: 8000.
        root_path: Path that a proxy in front of the node adds to every path.
        request_timeout_s: Seconds that a request may take. Default: None, no limit.
        keep_alive_timeout_s: Seconds that a connection may be without a request. Default: 90.
        ssl_keyfile: File with the key for TLS. It needs ssl_certfile.
        ssl_certfile: File with the certificate for TLS. It needs ssl_keyfile.
        ssl_keyfile_password: Password of the key.
        ssl_ca_certs: File with the authorities whose certificates clients must have.
    """

    host: str = "0.0.0.0"
    port: int = 8000
    root_path: str = ""
    request_timeout_s: Optional[float] = None
    keep_alive_timeout_s: int = 90
    ssl_keyfile: Optional[str] = None
    ssl_certfile: Optional[str] = None
    ssl_keyfile_password: Optional[str] = None
    ssl_ca_certs: Optional[str] = None

    @model_validator(mode="after")
    def _pair(self) -> "HTTPOptionsSchema":
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ValueError("Both ssl_keyfile and ssl_certfile must be provided together to enable HTTPS.")
        return self


class ServeDeploySchema(BaseModel):
    """A configuration with several applications.

    Attributes:
        proxy_location: Nodes that serve HTTP.
        http_options: How they serve HTTP.
        grpc_options: How they serve gRPC.
        controller_options: Without effect.
        logging_config: Logging of all replicas.
        tracing_config: Which requests are sampled.
        applications: The applications, with names and route prefixes of their own.
        target_capacity: Percent of the replicas that are to run, 0 to 100. Default: None, all.

    Raises:
        ValueError: Two applications with one name or route prefix, or a value out of its bounds.
    """

    proxy_location: ProxyLocation = ProxyLocation.EveryNode
    http_options: HTTPOptionsSchema = HTTPOptionsSchema()
    grpc_options: gRPCOptionsSchema = gRPCOptionsSchema()
    controller_options: Optional[ControllerOptions] = None
    logging_config: Optional[LoggingConfig] = None
    tracing_config: Optional[TracingConfig] = None
    applications: List[ServeApplicationSchema]
    target_capacity: Optional[float] = Field(default=None, ge=0, le=100)

    @field_validator("applications")
    @classmethod
    def _applications(cls, value: List[ServeApplicationSchema]) -> List[ServeApplicationSchema]:
        names = _twice(app.name for app in value)
        if names:
            which = "application" if len(names) == 1 else "applications"
            raise ValueError(f"Found multiple configs for {which} {_listed(names)}. Please remove all duplicates.")
        routes = _twice(app.route_prefix for app in value if app.route_prefix is not None)
        if routes:
            which = "prefix" if len(routes) == 1 else "prefixes"
            raise ValueError(f"Found duplicate applications for route {which} {_listed(routes)}. Please ensure each application's route_prefix is unique.")
        if any(not app.name for app in value):
            raise ValueError("Application names must be nonempty.")
        return value

    @model_validator(mode="after")
    def _addresses(self) -> "ServeDeploySchema":
        for app in self.applications:
            for field in ("host", "port"):
                if field in app.model_fields_set:
                    raise ValueError(
                        f'{field.capitalize()} "{getattr(app, field)}" is set in the config for application `{app.name}`. Please remove it and set {field} '
                        "in the top level deploy config only."
                    )
        return self

    @staticmethod
    def get_empty_schema_dict() -> Dict:
        """A configuration without applications, as a dict."""
        return {"applications": []}


def _twice(values: Any) -> List[str]:
    return [value for value, n in Counter(values).items() if n > 1]


def _listed(values: List[str]) -> str:
    return ", ".join(f'"{value}"' for value in values)


class ScaleDeploymentRequest(BaseModel):
    """The body of a request that sets the number of a deployment's replicas.

    Attributes:
        target_num_replicas: The number.
    """

    target_num_replicas: NonNegativeInt


class CeleryAdapterConfig(BaseModel):
    """Settings of a task queue. Task consumers are refused: call a queue's client in a deployment.

    Attributes:
        app_custom_config: Settings of the queue's client.
        task_custom_config: Settings of tasks.
        broker_url: URL of the broker.
        backend_url: URL of the results.
        broker_transport_options: Settings of the connection to the broker.
    """

    app_custom_config: Optional[Dict[str, Any]] = None
    task_custom_config: Optional[Dict[str, Any]] = None
    broker_url: str
    backend_url: str
    broker_transport_options: Optional[Dict[str, Any]] = None


class TaskProcessorConfig(BaseModel):
    """Settings of a task consumer. Task consumers are refused: call a queue's client in a deployment.

    Attributes:
        queue_name: Name of the queue.
        adapter: Import path of the adapter.
        adapter_config: Settings of the adapter.
        max_retries: Number of further tries of a task that fails.
        failed_task_queue_name: Queue for tasks that have failed.
        unprocessable_task_queue_name: Queue for tasks that cannot be read.
    """

    queue_name: str
    adapter: Any = "ray.serve.task_processor.CeleryTaskProcessorAdapter"
    adapter_config: Any
    max_retries: Optional[int] = 3
    failed_task_queue_name: Optional[str] = None
    unprocessable_task_queue_name: Optional[str] = None


class TaskResult(BaseModel):
    """The state of a task in a queue.

    Attributes:
        id: Id of the task.
        status: Its state.
        created_at: Time at which it was made, in seconds since 1970.
        result: Its result.
    """

    id: str
    status: str
    created_at: Optional[float] = None
    result: Any


class TaskProcessorAdapter:
    """The base class of adapters for task queues. It cannot be made.

    Args:
        *args: Any.
        **kwargs: Any.

    Raises:
        NotImplementedError: Always.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError("task consumers are not there: call a queue's client in a deployment")


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _DETAILS:
            from helve.serve import _details as module
        elif name in _STATUSES:
            from helve.serve import _status as module
        else:
            _refused.fail(__name__, name, __all__)
        value = globals()[name] = getattr(module, name)
        return value


__all__ = [
    "APIType", "ApplicationDetails", "ApplicationStatus", "ApplicationStatusOverview", "AutoscalingMetricsHealth", "AutoscalingStatus", "CeleryAdapterConfig",
    "ControllerHealthMetrics", "DeploymentAutoscalingDetail", "DeploymentDetails", "DeploymentNode", "DeploymentSchema", "DeploymentStatus",
    "DeploymentStatusOverview", "DeploymentStatusTrigger", "DeploymentTopology", "DurationStats", "EncodingType", "HTTPOptionsSchema", "LoggingConfig",
    "ProxyDetails", "ProxyStatus", "RayActorOptionsSchema", "ReplicaDetails", "ReplicaRank", "ReplicaState", "RequestProtocol", "ScaleDeploymentRequest",
    "ScalingDecision", "ServeActorDetails", "ServeApplicationSchema", "ServeDeploySchema", "ServeInstanceDetails", "ServeStatus", "Target", "TargetGroup",
    "TaskProcessorAdapter", "TaskProcessorConfig", "TaskResult", "TracingConfig", "gRPCOptionsSchema",
]
