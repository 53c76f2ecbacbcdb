"""The state of a node as objects with Ray Serve's names, made of the node's own words: serve.status()."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Dict, Optional

from helve._names import HIDDEN


class ApplicationStatus(str, Enum):
    """The state of an application in one word."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"


class DeploymentStatus(str, Enum):
    """The state of a deployment in one word."""

    UPDATING = "UPDATING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"


class DeploymentStatusTrigger(str, Enum):
    """The cause of a deployment's state in one word."""

    UNSPECIFIED = "UNSPECIFIED"
    CONFIG_UPDATE_STARTED = "CONFIG_UPDATE_STARTED"
    CONFIG_UPDATE_COMPLETED = "CONFIG_UPDATE_COMPLETED"
    UPSCALE_COMPLETED = "UPSCALE_COMPLETED"
    DOWNSCALE_COMPLETED = "DOWNSCALE_COMPLETED"
    AUTOSCALING = "AUTOSCALING"
    REPLICA_STARTUP_FAILED = "REPLICA_STARTUP_FAILED"
    DEPLOYMENT_ACTOR_FAILED = "DEPLOYMENT_ACTOR_FAILED"
    HEALTH_CHECK_FAILED = "HEALTH_CHECK_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DELETING = "DELETING"


class ReplicaState(str, Enum):
    """The state of a replica in one word."""

    STARTING = "STARTING"
    UPDATING = "UPDATING"
    RECOVERING = "RECOVERING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    PENDING_MIGRATION = "PENDING_MIGRATION"


class ProxyStatus(str, Enum):
    """The state of the HTTP ingress of a node in one word."""

    STARTING = "STARTING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"


class TargetCapacityDirection(str, Enum):
    """The direction in which the target capacity has changed last. The target capacity is not there yet."""

    UP = "UP"
    DOWN = "DOWN"


@dataclass
class DeploymentStatusOverview:
    """The state of a deployment.

    Attributes:
        status: The state in one word.
        status_trigger: Cause of the state.
        replica_states: Number of replicas by their state, without the states that no replica is in.
        message: Error behind a status other than HEALTHY, with the user's traceback.
    """

    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    replica_states: Dict[str, int]
    message: str


@dataclass
class ApplicationStatusOverview:
    """The state of an application.

    Attributes:
        status: The state in one word.
        message: Error behind a status other than RUNNING, with the user's traceback.
        last_deployed_time_s: Time of the deploy of the revision that is the target now, in seconds since 1970. A rollback is a deploy too.
        deployments: States of its deployments by their names.
    """

    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployments: Dict[str, DeploymentStatusOverview]


@dataclass
class ServeStatus:
    """The state of a node with its applications: the result of `serve.status`.

    Attributes:
        proxies: State of the HTTP ingress by the id of its node.
        applications: States of the applications by their names.
        target_capacity: None: there is no target capacity yet.
    """

    proxies: Dict[str, ProxyStatus] = field(default_factory=dict)
    applications: Dict[str, ApplicationStatusOverview] = field(default_factory=dict)
    target_capacity: Optional[float] = None


def status_of(node: dict) -> ServeStatus:
    """The status that a node has answered, as objects."""
    return ServeStatus(
        proxies={id: _word(ProxyStatus, state) for id, state in (node.get("proxies") or {}).items()},
        applications={name: _application(a) for name, a in sorted(node["applications"].items()) if not name.startswith(HIDDEN)},
    )


def _application(a: dict) -> ApplicationStatusOverview:
    return ApplicationStatusOverview(
        status=_word(ApplicationStatus, a["status"]), message=a["message"], last_deployed_time_s=seconds(a["deployed_at"]),
        deployments={name: _deployment(d) for name, d in sorted(a["deployments"].items())},
    )


def _deployment(d: dict) -> DeploymentStatusOverview:
    states: Dict[str, int] = {}
    for replica in d["replicas"]:
        states[replica["state"]] = states.get(replica["state"], 0) + 1
    return DeploymentStatusOverview(
        status=_word(DeploymentStatus, d["status"]), status_trigger=_word(DeploymentStatusTrigger, d["status_trigger"]), replica_states=states,
        message=d["message"],
    )


def _word(of: Any, text: str) -> Any:
    """A member of an enumeration. A word of a newer node, which the enumeration does not have, stays text."""
    try:
        return of(text)
    except ValueError:
        return text


def seconds(time: str) -> float:
    """Seconds since 1970 of a time as Go writes it: 2026-11-29T16:41:42.204123456Z, with 0 to 9 digits of a second's fraction."""
    whole, fraction, zone = time, "", ""
    at = max(time.rfind("Z"), time.rfind("+"), time.rfind("-", 19))
    if at > 0:
        whole, zone = time[:at], time[at:]
    whole, _, fraction = whole.partition(".")
    return datetime.fromisoformat(whole + zone.replace("Z", "+00:00")).timestamp() + (float("0." + fraction) if fraction else 0.0)


__all__ = [
    "ApplicationStatus", "ApplicationStatusOverview", "DeploymentStatus", "DeploymentStatusOverview", "DeploymentStatusTrigger", "ProxyStatus",
    "ReplicaState", "ServeStatus", "TargetCapacityDirection",
]
