"""The exceptions of handle calls, with Ray Serve's names."""

from helve._errors import (
    BackPressureError, DataLossError, DeploymentUnavailableError, RayServeException, ReplicaUnavailableError, RequestCancelledError, TooLargeError,
    UnknownDeploymentError,
)

__all__ = [
    "RayServeException",
    "BackPressureError",
    "DataLossError",
    "DeploymentUnavailableError",
    "ReplicaUnavailableError",
    "RequestCancelledError",
    "TooLargeError",
    "UnknownDeploymentError",
]
