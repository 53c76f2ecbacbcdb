"""The details of a cluster's status, as pydantic models. helve.serve.schema gives their names."""

from __future__ import annotations

import statistics
from typing import Any, Dict, List, Optional, Sequence

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator

from helve.serve._models import ProxyLocation
from helve.serve._status import ApplicationStatus, DeploymentStatus, DeploymentStatusTrigger, ProxyStatus, ReplicaState
from helve.serve.schema import (
    APIType, AutoscalingMetricsHealth, AutoscalingStatus, DeploymentSchema, HTTPOptionsSchema, RequestProtocol, ServeApplicationSchema, gRPCOptionsSchema,
)


class ServeActorDetails(BaseModel):
    """A process of the system.

    Attributes:
        node_id: Id of its node.
        node_ip: Address of its node.
        node_instance_id: Id of its machine.
        actor_id: Id of the process.
        actor_name: Name of the process.
        worker_id: Id of the worker.
        log_file_path: File with its log.
    """

    model_config = ConfigDict(frozen=True)

    node_id: Optional[str] = None
    node_ip: Optional[str] = None
    node_instance_id: Optional[str] = None
    actor_id: Optional[str] = None
    actor_name: Optional[str] = None
    worker_id: Optional[str] = None
    log_file_path: Optional[str] = None


class ReplicaDetails(ServeActorDetails):
    """A replica.

    Attributes:
        replica_id: Its id.
        state: Its state.
        pid: Number of its process.
        start_time_s: Time of its start, in seconds since 1970.
    """

    replica_id: str
    state: ReplicaState
    pid: Optional[int] = None
    start_time_s: float


class ProxyDetails(ServeActorDetails):
    """A proxy.

    Attributes:
        status: Its state.
    """

    status: ProxyStatus


class ReplicaRank(BaseModel):
    """The place of a replica. Ranks begin at 0.

    Attributes:
        rank: Its rank among all replicas of its deployment.
        node_rank: Rank of its node among nodes.
        local_rank: Its rank among those of its node.
    """

    rank: int
    node_rank: int
    local_rank: int


class ScalingDecision(BaseModel):
    """A change of a deployment's number of replicas by an autoscaler.

    Attributes:
        timestamp_s: Its time, in seconds since 1970.
        reason: Its cause.
        prev_num_replicas: Number before it.
        curr_num_replicas: Number after it.
        policy: Policy that has decided.
    """

    timestamp_s: float
    reason: str
    prev_num_replicas: NonNegativeInt
    curr_num_replicas: NonNegativeInt
    policy: Optional[str] = None


class DeploymentAutoscalingDetail(BaseModel):
    """The state of a deployment's autoscaler.

    Attributes:
        scaling_status: Direction of the change.
        decisions: The last changes.
        metrics: Numbers that it decides by.
        metrics_health: Whether it has these numbers.
        errors: Errors of the policy.
    """

    scaling_status: AutoscalingStatus
    decisions: List[ScalingDecision] = Field(default_factory=list)
    metrics: Optional[Dict[str, Any]] = None
    metrics_health: AutoscalingMetricsHealth = AutoscalingMetricsHealth.HEALTHY
    errors: List[str] = Field(default_factory=list)


class DeploymentDetails(BaseModel):
    """A deployment with its replicas.

    Attributes:
        name: Its name.
        status: Its state.
        status_trigger: Cause of its state.
        message: Error behind its state.
        deployment_config: Its options.
        target_num_replicas: Number of replicas that it should have.
        required_resources: Resources that a replica asks for.
        replicas: Its replicas.
        recent_dead_replicas: Replicas that have ended.
        autoscaling_detail: State of its autoscaler.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    message: str
    deployment_config: DeploymentSchema
    target_num_replicas: NonNegativeInt
    required_resources: Dict
    replicas: List[ReplicaDetails]
    recent_dead_replicas: List[ReplicaDetails] = Field(default_factory=list)
    autoscaling_detail: Optional[DeploymentAutoscalingDetail] = None


class DeploymentNode(BaseModel):
    """A deployment in the graph of its application.

    Attributes:
        name: Its name.
        app_name: Name of the application.
        outbound_deployments: Deployments that it calls.
        is_ingress: Whether requests come to it.
    """

    name: str
    app_name: str
    outbound_deployments: List[dict] = Field(default_factory=list)
    is_ingress: bool = False


class DeploymentTopology(BaseModel):
    """The graph of an application.

    Attributes:
        app_name: Name of the application.
        nodes: Deployments by their names.
        ingress_deployment: Deployment that requests come to.
    """

    app_name: str
    nodes: Dict[str, DeploymentNode]
    ingress_deployment: Optional[str] = None


class ApplicationDetails(BaseModel):
    """An application with its deployments.

    Attributes:
        name: Its name.
        route_prefix: Path below which HTTP requests reach it.
        docs_path: Path of its API's documentation.
        status: Its state.
        message: Error behind its state.
        last_deployed_time_s: Time of the last deploy, in seconds since 1970.
        deployed_app_config: Configuration that it was deployed from.
        source: Whether a program or a configuration has deployed it.
        deployments: Its deployments by their names.
        external_scaler_enabled: Whether another program sets the numbers of replicas.
        deployment_topology: Its graph.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    route_prefix: Optional[str]
    docs_path: Optional[str]
    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployed_app_config: Optional[ServeApplicationSchema] = None
    source: APIType
    deployments: Dict[str, DeploymentDetails]
    external_scaler_enabled: bool
    deployment_topology: Optional[DeploymentTopology] = None

    @field_validator("route_prefix")
    @classmethod
    def _prefix(cls, value: Optional[str]) -> Optional[str]:
        if value is None or value == "/":
            return value
        for wrong, rule in (
            (not value.startswith("/"), 'must start with "/"'), (value.endswith("/"), 'must not end with "/"'),
            ("{" in value or "}" in value, "must not have wildcards in braces"),
        ):
            if wrong:
                raise ValueError(f'Got "{value}" for route_prefix. Route prefix {rule}.')
        return value


class Target(BaseModel):
    """An address that requests can be sent to.

    Attributes:
        ip: Address.
        port: Port.
        instance_id: Id of the machine.
        name: Name of the process.
    """

    model_config = ConfigDict(frozen=True)

    ip: str
    port: int
    instance_id: str
    name: str


class TargetGroup(BaseModel):
    """The addresses of one route.

    Attributes:
        targets: Addresses.
        route_prefix: Path of the route.
        protocol: Protocol of the requests.
        app_name: Application of the route.
        ingress_request_router_targets: Addresses of the router in front.
        ingress_deployment_name: Deployment that requests come to.
    """

    model_config = ConfigDict(frozen=True)

    targets: List[Target]
    route_prefix: str
    protocol: RequestProtocol
    app_name: str = ""
    ingress_request_router_targets: List[Target] = Field(default_factory=list)
    ingress_deployment_name: str = ""


class DurationStats(BaseModel):
    """Numbers of several times.

    Attributes:
        mean: Mean of the times.
        std: Standard deviation.
        min: Shortest time.
        max: Longest time.
    """

    mean: float = 0.0
    std: float = 0.0
    min: float = 0.0
    max: float = 0.0

    @classmethod
    def from_values(cls, values: Sequence[float]) -> "DurationStats":
        """The numbers of some times.

        Args:
            values: The times.
        """
        if not values:
            return cls()
        return cls(mean=statistics.fmean(values), std=statistics.pstdev(values), min=min(values), max=max(values))


class ControllerHealthMetrics(BaseModel):
    """How fast the loop of a controller runs. There is no controller here, and nothing fills the fields."""

    timestamp: float = 0.0
    controller_start_time: float = 0.0
    uptime_s: float = 0.0
    last_control_loop_time: float = 0.0
    num_control_loops: int = 0
    loop_duration_s: Optional[DurationStats] = None
    loops_per_second: float = 0.0
    last_sleep_duration_s: float = 0.0
    expected_sleep_duration_s: float = 0.0
    event_loop_delay_s: float = 0.0
    num_asyncio_tasks: int = 0
    handle_ingest_duration_ms: Optional[DurationStats] = None
    replica_ingest_duration_ms: Optional[DurationStats] = None
    metrics_decompress_duration_ms: Optional[DurationStats] = None
    columnar_decode_duration_ms: Optional[DurationStats] = None
    handle_reports_received: int = 0
    replica_reports_received: int = 0
    ingest_reports_received: int = 0
    ingest_cpu_fraction: float = 0.0
    deployment_state_update_duration_s: Optional[DurationStats] = None
    application_state_update_duration_s: Optional[DurationStats] = None
    proxy_state_update_duration_s: Optional[DurationStats] = None
    node_update_duration_s: Optional[DurationStats] = None
    handle_metrics_delay_ms: Optional[DurationStats] = None
    replica_metrics_delay_ms: Optional[DurationStats] = None
    process_memory_mb: float = 0.0


class ServeInstanceDetails(BaseModel):
    """All that the controller of a cluster knows.

    Attributes:
        controller_info: Process of the controller.
        proxy_location: Nodes that serve HTTP.
        http_options: How they serve HTTP.
        grpc_options: How they serve gRPC.
        proxies: Proxies by the ids of their nodes.
        applications: Applications by their names.
        target_capacity: Percent of the replicas that are to run.
        target_groups: Addresses by routes.
        controller_health_metrics: How fast the controller's loop runs.
        restores_unset_config_options: Whether options that a configuration leaves out go back to their defaults.
    """

    model_config = ConfigDict(extra="forbid")

    controller_info: ServeActorDetails = Field(default_factory=ServeActorDetails)
    proxy_location: Optional[ProxyLocation] = None
    http_options: Optional[HTTPOptionsSchema] = None
    grpc_options: Optional[gRPCOptionsSchema] = None
    proxies: Dict[str, ProxyDetails]
    applications: Dict[str, ApplicationDetails]
    target_capacity: Optional[float] = Field(default=None, ge=0, le=100)
    target_groups: List[TargetGroup] = Field(default_factory=list)
    controller_health_metrics: ControllerHealthMetrics = Field(default_factory=ControllerHealthMetrics)
    restores_unset_config_options: bool = False

    @staticmethod
    def get_empty_schema_dict() -> Dict:
        """A state without applications, as a dict."""
        return {"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": None}
