"""The exceptions of handle calls, with Ray Serve's names."""

from typing import TYPE_CHECKING

from helve import _refused
from helve._errors import (
    BackPressureError, DataLossError, DeploymentUnavailableError, RayServeException, ReplicaUnavailableError, RequestCancelledError, TooLargeError,
    UnknownDeploymentError, gRPCStatusError,
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
    "gRPCStatusError",
]
if not TYPE_CHECKING:
    __getattr__ = _refused.attributes(__name__, known=__all__)
