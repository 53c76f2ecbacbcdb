"""The exceptions of handle calls. Users import them from helve.serve.exceptions; they live here because all modules
below that package need them.
"""

from __future__ import annotations


class RayServeException(Exception):
    """Base of every error that is Helve's own and not a user's."""


class BackPressureError(RayServeException):
    """The queue of the caller is full (max_queued_requests)."""


class DeploymentUnavailableError(RayServeException):
    """The deployment does not exist, failed to deploy, or was deleted."""


class ReplicaUnavailableError(RayServeException):
    """The chosen replica cannot be reached."""


class RequestCancelledError(RayServeException):
    """The request was cancelled."""


class UnknownDeploymentError(KeyError, RayServeException):
    """There is no deployment of the name. It is a KeyError, as in Ray Serve."""

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()  # a KeyError shows its key in quotes


class TooLargeError(RayServeException):
    """A value is larger than the limit of the other side."""

    def __init__(self, text: str):
        super().__init__(text)


class DataLossError(RayServeException):
    """A result that was kept for its caller is lost."""


def too_large(what: str, size: int, limit: int) -> TooLargeError:
    is_ = "are" if what.endswith("s") else "is"
    return TooLargeError(f"{what} {is_} a value of {size} bytes, the other side takes at most {limit} (max_body)")


_TABLE = {
    "too_large": TooLargeError,
    "data_loss": DataLossError,
    "backpressure": BackPressureError,
    "deployment_unavailable": DeploymentUnavailableError,
    "replica_unavailable": ReplicaUnavailableError,
    "deadline": TimeoutError,
    "cancelled": RequestCancelledError,
    "bad_input": TypeError,
    "unsupported_media": TypeError,
    "method_not_allowed": TypeError,
}


def for_reason(reason: str) -> type:
    """The class for a reason of the error table (docs/errors.md)."""
    return _TABLE.get(reason, RayServeException)


def reason_of(exc: BaseException) -> str:
    """The reason under which an exception of a user's method is sent."""
    cls = type(exc)  # isinstance would also ask the exception, whose __class__ may be anything
    if issubclass(cls, RequestCancelledError):
        return "cancelled"
    if issubclass(cls, BackPressureError):
        return "backpressure"
    if issubclass(cls, TooLargeError):
        return "too_large"
    if issubclass(cls, DataLossError):
        return "data_loss"
    return "user"


for _class in (RayServeException, BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError, RequestCancelledError, TooLargeError, DataLossError, UnknownDeploymentError):
    _class.__module__ = "helve.serve.exceptions"  # the name under which they are pickled and printed
