"""The module ``ray.exceptions``."""

from __future__ import annotations

import sys
from typing import Any, Optional

from helve import _refused
from helve._errors import RayServeException, RequestCancelledError
from helve.raycompat import installed


class RayError(Exception):
    """Base of the errors of Ray's own."""


class RayTaskError(RayError):
    """An exception of a task or of an actor's method. The raised exception is also of the type of its cause: `except ValueError` and
    `except RayTaskError` both catch a ValueError of a task.
    """

    def __init__(self, function_name: str, traceback_str: str, cause: BaseException, *ignored: Any, **also_ignored: Any):
        super().__init__(function_name, traceback_str, cause)
        self.function_name, self.traceback_str, self.cause = function_name, traceback_str, cause

    def __str__(self) -> str:
        return f"{_text(self.cause)}\n\nTraceback of {self.function_name}, in another process:\n{self.traceback_str.rstrip()}"

    def __reduce__(self):
        return task_error, (self.function_name, self.traceback_str, self.cause)

    def as_instanceof_cause(self) -> "RayTaskError":
        return task_error(self.function_name, self.traceback_str, self.cause)

    def make_dual_exception_type(self) -> type:
        return type(self.as_instanceof_cause())


def _text(cause: BaseException) -> str:
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


def task_error(function_name: str, traceback_str: str, cause: BaseException) -> RayTaskError:
    """The RayTaskError for an exception, of both types. A class that cannot be subclassed, or whose objects cannot be made without its
    __init__, gives a plain RayTaskError.
    """
    cls = type(cause)
    if isinstance(cause, RayError) or not isinstance(cause, Exception):
        return RayTaskError(function_name, traceback_str, cause)

    def __init__(self, *_: Any) -> None:
        self.function_name, self.traceback_str, self.cause = function_name, traceback_str, cause

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "cause" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.cause, name)

    name = f"RayTaskError({cls.__name__})"
    try:
        both = type(name, (RayTaskError, cls), {"__init__": __init__, "__getattr__": __getattr__, "__module__": "ray.exceptions", "__qualname__": name})
        made = both.__new__(both)
        made.__init__()
        for key, value in vars(cause).items():
            if key not in made.__dict__ and not key.startswith("__"):
                made.__dict__[key] = value
        made.args = cause.args
    except Exception:
        return RayTaskError(function_name, traceback_str, cause)
    return made


class RayActorError(RayError):
    """An actor cannot be called: it is dead, or its constructor failed."""

    def __init__(self, actor_id: Optional[str] = None, error_msg: str = "The actor died unexpectedly before finishing this task.", actor_init_failed: bool = False, preempted: bool = False):
        super().__init__(actor_id, error_msg, actor_init_failed, preempted)
        self.actor_id, self.error_msg, self.actor_init_failed, self.preempted = actor_id, error_msg, actor_init_failed, preempted

    def __str__(self) -> str:
        return self.error_msg


class ActorDiedError(RayActorError):
    """The actor is dead."""


class ReplicaDiedError(ActorDiedError, RayServeException):
    """The replica died while it ran the call. Ray's replicas are actors."""

    def __init__(self, text: str = ""):
        super().__init__(None, text)


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached now."""

    def __init__(self, error_message: str, actor_id: Any = None):
        super().__init__(actor_id, error_message)


class GetTimeoutError(RayError, TimeoutError):
    """ray.get has waited for its timeout."""


class ActorAlreadyExistsError(ValueError, RayError):
    """An actor of this name is there already."""


class ActorHandleNotFoundError(ValueError, RayError):
    """There is no actor of this name."""


class RuntimeEnvSetupError(RayError):
    """A runtime environment cannot be made."""


class RaySystemError(RayError):
    """The system failed."""


class WorkerCrashedError(RayError):
    """The process of a task ended while the task ran."""


class NodeDiedError(RayError):
    """A node is gone."""


class ObjectLostError(RayError):
    """A value is lost."""


class ObjectFreedError(ObjectLostError):
    """A value was freed."""


class OwnerDiedError(ObjectLostError):
    """The process that owned a value has ended."""


class ObjectStoreFullError(RayError):
    """There is no memory for a value."""


class OutOfMemoryError(RayError):
    """A process had no memory."""


class UserCodeException(RayError):
    """The user's code failed."""


class UnserializableException(RayError):
    """An exception cannot be pickled."""


class PendingCallsLimitExceeded(RayError):
    """Too many calls wait for an actor."""


class AsyncioActorExit(RayError):
    """An actor ends itself."""


class CrossLanguageError(RayError):
    """Code in another language failed."""


class TaskUnschedulableError(RayError):
    """A task cannot run here."""


class ActorUnschedulableError(RayError):
    """An actor cannot run here."""


TaskCancelledError = RequestCancelledError  # of tasks, of actors and of requests alike

for _value in list(globals().values()):
    if isinstance(_value, type) and issubclass(_value, RayError):
        _value.__module__ = "ray.exceptions"  # the name under which they are pickled and printed

if installed():  # else cloudpickle, which looks there, would pickle the classes themselves
    sys.modules.setdefault("ray.exceptions", sys.modules[__name__])

__all__ = [name for name, value in list(globals().items()) if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")]
__getattr__ = _refused.attributes("ray.exceptions", known=__all__)
