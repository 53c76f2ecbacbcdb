"""The connection to the node for tasks and actors. In a driver it is the driver's own. In a worker it is another one, with a loop in a
thread: ray.get may be called on the worker's event loop, which it blocks, and the answer must come all the same.
"""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import os
import re
import sys
from typing import Any, Dict, Optional

from helve import _limits, _runtime
from helve._names import HIDDEN
from helve._pickling import dumps


def application_of(actor: dict) -> str:
    """The application of an actor: by its namespace and name, else by its id."""
    name = actor["name"]
    if not name:
        return f"{HIDDEN}actor.{actor['id']}"
    digest = hashlib.sha256(f"{actor['namespace']}\0{name}".encode()).hexdigest()[:12]
    return f"{HIDDEN}actor.{re.sub('[^A-Za-z0-9_-]', '_', name)[:40]}.{digest}"


def driver() -> Any:
    """The driver whose connection is used. Tasks and actors belong to the program, so they have a node of its own unless one is named."""
    from helve import _driver

    return _driver.ensure(None, search=False) if _runtime.replica is None and _runtime.node is None else _driver.running()


def connection() -> Any:
    return driver().conn


def join(address: Optional[str], stated: Dict[str, float]) -> None:
    """Starts the node of this process, or attaches to one that runs. A node that runs already must give out the amounts that are stated."""
    from helve import _driver

    if address is None or address in ("", "local"):
        before = _driver.present()
        now = driver()
        if stated and (now is before or now.process is None):
            _compare(now, stated)
        return

    try:
        found = _driver.running()
        if found.process is None:  # another program's: serve.run goes there too
            _driver.use(found.dir)
    except Exception as e:
        raise ConnectionError(f"Could not find any running Ray instance: ray.init(address={address!r}) attaches to a node of Helve that runs here. {e}") from None


def _compare(node: Any, stated: Dict[str, float]) -> None:
    gives = ask("status").result().get("resources") or {}
    have = {name: gives.get(name, {}).get("total") for name in stated}
    have.update({name: 0.0 for name, n in have.items() if n is None and name == "GPU"})
    other = [f"{name} {value:g} (the node: {'not stated' if have[name] is None else format(have[name], 'g')})" for name, value in stated.items() if have[name] != value]
    if other:
        where = "the node of this program" if node.process is not None else f"the node at {node.dir}"
        raise RuntimeError(
            f"ray.init states {', '.join(other)}, and {where} runs already with other amounts. next: call ray.init() before serve.start(), serve.run() and the first task, or ray.shutdown() before it, "
            "or leave the amounts out"
        )


def ask(op: str, **fields: Any) -> "concurrent.futures.Future":
    """The reply to a control request, to come. It may be {"error": ...}."""
    conn = connection()
    future: concurrent.futures.Future = concurrent.futures.Future()
    conn.post(conn.ask, future, op, _limits.request(op, fields))
    return future


def deploy(app: str, name: str, target: type, args: tuple, options: dict, detached: bool = False) -> "concurrent.futures.Future":
    """Deploys an application of one deployment, whose class is one of helve.raycompat.hosts. The reply comes when its replica is ready. It ends
    with the connection unless it is detached.
    """
    from helve.raycompat import ENV
    from helve.serve import _environment

    code = {name: dumps((target, args, {}))}
    return ask("deploy", app={
        "name": app, "route_prefix": None, "ingress": name, "python": sys.executable, "sys_path": [p or os.getcwd() for p in sys.path],
        "cwd": os.getcwd(), "env": {ENV: "1"}, "runtime_env": _environment.program(), "blob": base64.b64encode(dumps(code)).decode(),
        "ends_with_driver": not detached, "deployments": [{
            "name": name, "class": f"{target.__module__}:{target.__qualname__}", "options": options, "uses": [], "code_version": app,
        }],
    })


def applications() -> dict:
    """The applications of the node, with their status."""
    return ask("status").result().get("applications") or {}


__all__ = ["HIDDEN", "application_of", "applications", "ask", "connection", "deploy", "driver", "join"]
