"""The exceptions of handle calls, with the reference's names."""

from helve._errors import (
    BackPressureError, DeploymentUnavailableError, RayServeException, ReplicaUnavailableError, RequestCancelledError, TooLargeError,
)

__all__ = [
    "RayServeException",
    "BackPressureError",
    "DeploymentUnavailableError",
    "ReplicaUnavailableError",
    "RequestCancelledError",
    "TooLargeError",
]
