"""Tasks, and the module ``ray.remote_function``. All tasks of a runtime environment run in threads of one hidden deployment."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import threading
from typing import Any

from helve import _refused
from helve._call import Call, new_request
from helve._pickling import dumps
from helve._stream import StreamCall
from helve.raycompat import hosts, link, options as option_rules
from helve.raycompat.actors import ActorClass
from helve.raycompat.exceptions import RaySystemError
from helve.raycompat.refs import Gate, results, send
from helve.raycompat.session import session
from helve.serve import _environment

DEPLOYMENT = "tasks"  # name of the one deployment of an application of tasks

_gates: dict = {}  # the gates of applications of tasks, by their names
_lock = threading.Lock()


class RemoteFunction:
    """A function that runs as a task: `@ray.remote` on a function."""

    def __init__(self, fn: Any, options: dict):
        self._fn, self._options, self._pickle = fn, option_rules.checked(options, False), b""
        functools.update_wrapper(self, fn)
        self.__dict__.pop("__wrapped__", None)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        n = self._options.get("num_returns")
        stream = n in ("streaming", "dynamic") or n is None and (inspect.isgeneratorfunction(self._fn) or inspect.isasyncgenfunction(self._fn))
        gate, app = _gate(self._options)
        if not self._pickle:
            retries = self._options.get("max_retries", 3) if self._options.get("retry_exceptions") else 0
            self._pickle = dumps((self._fn, self._options.get("name") or self._fn.__qualname__, retries, self._options.get("retry_exceptions")))
        call: Any = (StreamCall if stream else Call)(gate.conn, new_request())
        send(gate, call, (app, DEPLOYMENT, "stream" if stream else "call"), (self._pickle, *args), kwargs)
        return results(call, n)

    def options(self, **options: Any) -> "RemoteFunction":
        return RemoteFunction(self._fn, {**self._options, **options})

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{self.__name__}.bind is not in Helve: graphs are made of deployments (@serve.deployment); a task is started by {self.__name__}.remote(...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"Remote functions cannot be called directly. Instead of running '{self.__name__}()', try '{self.__name__}.remote()'.")

    def __reduce__(self):
        return RemoteFunction, (self._fn, self._options)


def _gate(options: dict) -> tuple:
    """The gate of the tasks of a runtime environment, and the name of their application. It is deployed if it is not there."""
    session()
    made = option_rules.of_deployment({"runtime_env": options.get("runtime_env")})
    env = json.dumps([_environment.program(), made.get("runtime_env") or {}], sort_keys=True, default=repr)
    app = link.HIDDEN + "tasks" + ("." + hashlib.sha256(env.encode()).hexdigest()[:12] if env != "[{}, {}]" else "")
    conn = link.connection()
    with _lock:
        gate = _gates.get(app)
        if gate is not None and gate.conn is conn and gate.failure is None:
            return gate, app
        gate = _gates[app] = Gate(conn)

    def ready(reply: Any) -> None:
        try:
            error = reply.result().get("error")
        except Exception as e:
            error = {"message": str(e)}
        if error:
            gate.close(RaySystemError(f"the process for tasks did not start: {error['message']}"))
        else:
            gate.open()

    link.deploy(app, DEPLOYMENT, hosts.TaskHost, (), made).add_done_callback(ready)
    return gate, app


def remote(*args: Any, **options: Any) -> Any:
    """@ray.remote, or @ray.remote(num_cpus=1, ...), on a function or a class."""
    if len(args) == 1 and not options and callable(args[0]):
        return _decorated(args[0], {})
    if args or not options:
        raise AssertionError(
            "The @ray.remote decorator must be applied either with no arguments and no parentheses, for example '@ray.remote', or it must be applied "
            "using some of the arguments in the list of options, for example '@ray.remote(num_returns=2)'."
        )
    return lambda target: _decorated(target, options)


def _decorated(target: Any, options: dict) -> Any:
    if inspect.isclass(target):
        return ActorClass(target, options)
    if not callable(target) or not hasattr(target, "__qualname__"):
        raise TypeError("The @ray.remote decorator must be applied to either a function or a class.")
    if inspect.iscoroutinefunction(target):
        raise ValueError("'async def' should not be used for remote tasks. You can wrap the async function with `asyncio.run` in a function, or use an async actor.")
    return RemoteFunction(target, options)


__all__ = ["RemoteFunction", "remote"]
__getattr__ = _refused.attributes("ray.remote_function", known=__all__)
