"""The connection to the node for tasks and actors. In a driver it is the driver's own. In a worker it is another one, with a loop in a
thread: ray.get may be called on the worker's event loop, which it blocks, and the answer must come all the same.
"""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any, Optional

from helve import _limits, _runtime

_lock = threading.RLock()
_other: Optional[Any] = None  # the driver of a worker


def driver() -> Any:
    """The driver whose connection is used."""
    from helve import _driver

    if _runtime.replica is None:
        return _driver.ensure(None)
    raise RuntimeError("tasks and actors inside of replicas are not there yet")


def join(address: Optional[str]) -> None:
    """Starts the node of this process, or attaches to one that runs."""
    driver()


def leave() -> None:
    """Forgets the connection of a worker."""


def use_environment(runtime_env: dict) -> None:
    """Makes a runtime environment the one of all applications of this process."""


def ask(op: str, **fields: Any) -> "concurrent.futures.Future":
    """The reply to a control request, to come."""
    conn = driver().conn
    future: concurrent.futures.Future = concurrent.futures.Future()
    conn.post(conn.ask, future, op, _limits.request(op, fields))
    return future


__all__ = ["ask", "driver", "join", "leave", "use_environment"]
