"""The exceptions of handle calls, with the reference's names."""

from helve._errors import (
    BackPressureError, DataLossError, DeploymentUnavailableError, RayServeException, ReplicaUnavailableError, RequestCancelledError, TooLargeError,
)

__all__ = [
    "RayServeException",
    "BackPressureError",
    "DataLossError",
    "DeploymentUnavailableError",
    "ReplicaUnavailableError",
    "RequestCancelledError",
    "TooLargeError",
]
