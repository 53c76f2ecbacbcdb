"""The exceptions of handle calls. Users import them from helve.serve.exceptions; they live here because all modules
below that package need them.
"""

from __future__ import annotations

import math
import re
from typing import Any, Callable, Optional


class RayServeException(Exception):
    """Base of every error that is Helve's own and not a user's."""


class gRPCStatusError(RayServeException):
    """An exception of a method that has set a status for gRPC before.

    Args:
        original_exception: The exception.
        code: The status, a `grpc.StatusCode`.
        details: The text of the status.
    """

    def __init__(self, original_exception: BaseException, code: Any = None, details: Optional[str] = None):
        super().__init__(original_exception, code, details)

    @property
    def original_exception(self) -> BaseException:
        """The exception of the method."""
        return self.args[0]

    @property
    def grpc_code(self) -> Any:
        """The status for gRPC."""
        return self.args[1]

    @property
    def grpc_details(self) -> Optional[str]:
        """The text of the status for gRPC."""
        return self.args[2]

    def __str__(self) -> str:
        return str(self.args[0])


class BackPressureError(RayServeException):
    """The queue of the caller is full (`max_queued_requests`). Over HTTP it is the status of `backpressure_config`, 503 or 429.

    Args:
        num_queued_requests: Number of calls that wait, or the whole text, which may have the numbers.
        max_queued_requests: Limit of that number.
        status_code: Status of the HTTP answer, 503 or 429.
        retry_after_s: Seconds in the header Retry-After of the HTTP answer; None for no such header.
    """

    def __init__(self, num_queued_requests: Any, max_queued_requests: int = 0, status_code: int = 503, retry_after_s: Optional[float] = None):
        text = ""
        if isinstance(num_queued_requests, str):
            text = num_queued_requests
            found = _NUMBERS.search(text)
            num_queued_requests, max_queued_requests = map(int, found.groups()) if found else (0, 0)
        super().__init__(num_queued_requests, max_queued_requests, status_code, retry_after_s)
        self.num_queued_requests, self.max_queued_requests = num_queued_requests, max_queued_requests
        self._message = text or (
            f"Request dropped due to backpressure (num_queued_requests={num_queued_requests}, max_queued_requests={max_queued_requests})."
        )

    def __str__(self) -> str:
        return self._message

    @property
    def message(self) -> str:
        """The text of the error."""
        return self._message

    @property
    def status_code(self) -> int:
        """The status of the HTTP answer."""
        return self.args[2]

    @property
    def retry_after_s(self) -> Optional[float]:
        """The seconds of the header Retry-After of the HTTP answer; None for no such header."""
        return self.args[3]


_NUMBERS = re.compile(r"num_queued_requests=(-?\d+), max_queued_requests=(-?\d+)")


class DeploymentUnavailableError(RayServeException):
    """The deployment does not exist, failed to deploy, or was deleted. It is made of a `DeploymentID` or of a text."""

    @property
    def message(self) -> str:
        """The text of the error."""
        what = self.args[0] if self.args else ""
        return what if isinstance(what, str) else f"{what} is unavailable because it failed to deploy."

    def __str__(self) -> str:
        return self.message


class ReplicaUnavailableError(RayServeException):
    """The chosen replica cannot be reached. It is made of the id of a replica, which is one word, or of a text."""

    @property
    def message(self) -> str:
        """The text of the error."""
        what = str(self.args[0]) if self.args else ""
        return what if " " in what else f"Replica {what} is no longer available."

    def __str__(self) -> str:
        return self.message


class RequestCancelledError(RayServeException):
    """The request was cancelled: its caller has cancelled it, or is gone.

    Args:
        request_id: Id of the request, which is one word, or a whole text.
    """

    def __init__(self, request_id: Optional[str] = None):
        super().__init__(request_id)

    def __str__(self) -> str:
        what = self.args[0]
        if not what:
            return "Request was cancelled."
        return what if " " in what else f"Request {what} was cancelled."


class UnknownDeploymentError(KeyError, RayServeException):
    """There is no deployment of the name. It is a KeyError, as in Ray Serve."""

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()  # a KeyError shows its key in quotes


class TooLargeError(RayServeException):
    """A value is larger than the limit of the other side.

    Args:
        text: The text of the error, with the size and the limit.
    """

    def __init__(self, text: str):
        super().__init__(text)


class DataLossError(RayServeException):
    """A result that was kept for its caller is lost."""


def too_large(what: str, size: int, limit: int) -> TooLargeError:
    is_ = "are" if what.endswith("s") else "is"
    return TooLargeError(f"{what} {is_} a value of {size} bytes, the other side takes at most {limit} (max_body)")


_TABLE: dict[str, Callable[[str], Exception]] = {
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


def refused(text: str, fields: dict) -> BackPressureError:
    """A BackPressureError as the envelope of an error has it (docs/wire.md)."""
    status, retry = (int(v) if v.isdecimal() else 0 for v in (fields.get("http", ""), fields.get("retry", "")))
    return BackPressureError(text, 0, 429 if status == 429 else 503, float(retry) if retry else None)


def answer_of(exc: BackPressureError) -> dict:
    """The fields of the envelope for the HTTP answer of a BackPressureError that a method has raised with one of its own."""
    status, retry = exc.status_code, exc.retry_after_s
    if status not in (503, 429) or (status == 503 and retry is None):
        return {}
    return {"http": str(status), "retry": str(max(0, math.ceil(retry or 0)))}


def use(reason: str, make: Callable[[str], Exception]) -> None:
    """Sets the function that makes the exception of a reason in this process. For example, with --ray-compat the error of a replica that has
    died is one that `except ray.exceptions.RayActorError` catches.
    """
    _TABLE[reason] = make


def for_reason(reason: str) -> Callable[[str], Exception]:
    """The class, or another function that makes the exception, for a reason of the error table (docs/errors.md)."""
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


for _class in (RayServeException, gRPCStatusError, BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError, RequestCancelledError, TooLargeError, DataLossError, UnknownDeploymentError):
    _class.__module__ = "helve.serve.exceptions"  # the name under which they are pickled and printed
