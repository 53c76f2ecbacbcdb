"""serve.run, serve.start and the other functions for whole applications."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Optional, Union

from helve import _limits, _logging, _runtime
from helve.serve._http_options import http_settings
from helve.serve.deployment import Application, Graph, http_mistake
from helve.serve.handle import DeploymentHandle
from helve.serve.lookup import get_app_handle, get_deployment_handle  # noqa: F401

if TYPE_CHECKING:
    from helve.serve.config import HTTPOptions

logger = logging.getLogger("helve.serve")


def start(*, http_options: Union[None, dict, "HTTPOptions"] = None, **ignored: Any) -> None:
    """Starts the node of this program, if it does not run yet. The other arguments of Ray Serve have no effect."""
    from helve import _driver

    for name in ignored:
        if name not in ("proxy_location", "grpc_options", "logging_config", "detached"):
            raise TypeError(f"start() got an unexpected keyword argument {name!r}")
    if ignored.get("logging_config") is not None:
        _logging.program = _logging.checked(ignored["logging_config"])
    _driver.ensure(http_settings(http_options))


def _local() -> Any:
    """The module of _local_testing_mode; None if this program has not used it."""
    return sys.modules.get("helve.serve._local_testing")


def run(
    target: Application, *, blocking: bool = False, name: str = "default", route_prefix: Optional[str] = "/",
    logging_config: Any = None, _local_testing_mode: bool = False,
) -> DeploymentHandle:
    """Runs an application and returns a handle to its ingress, once every replica is ready. An application of this name that runs
    changes to the new one: calls go on, and replicas whose code and process are the same go on too. If the new one does not start, the
    old one stays.

    The first constructor or import that fails ends it with a RuntimeError that carries the user's traceback. A
    deployment with max_constructor_retry_count is tried again that many times, or three times per replica if that
    is fewer.
    """
    from helve import _driver

    if _local_testing_mode:
        from helve.serve import _local_testing

        return _local_testing.run(target, name=name, route_prefix=route_prefix, logging_config=logging_config)
    name, blocking = _limits.name("name", name), _limits.boolean("blocking", blocking)
    route_prefix = _prefix(route_prefix)
    graph = Graph(target, name, _driver.options().middlewares)
    _logging.defaults(graph.deployments, logging_config, _logging.program)
    driver = _driver.ensure(None)
    served = route_prefix is not None and driver.http.port is not None
    warning = http_mistake(graph.ingress, graph.targets[graph.ingress]) if served else ""
    if warning:
        logger.warning("%s; pass route_prefix=None if no requests are meant to come", warning)
    url = driver.deploy(graph, route_prefix)
    if url and served and not warning:
        print(f"Application {name!r} is ready at {url}{route_prefix}.", file=sys.stderr, flush=True)
    handle = DeploymentHandle(graph.ingress, name)
    driver.ingress[name] = graph.ingress
    if blocking:
        _wait_for_signal(driver.ended)
        if driver.conn.over is not None and not driver.closing:
            raise driver.conn.over.exception()
        shutdown()
    return handle


def _prefix(value: Any) -> Optional[str]:
    if value is None:
        return None
    value = _limits.text("route_prefix", value)
    if value[:1] != "/" or value != "/" and value[-1] == "/":
        raise ValueError(f"route_prefix: must begin with / and not end with it, is {_limits.shown(value)}")
    if "{" in value or "}" in value:
        raise ValueError(f"route_prefix: must be a plain path, without parameters in braces, is {_limits.shown(value)}")
    return value


def _wait_for_signal(stop: threading.Event) -> None:
    """Waits for a signal, or for stop, which is set when the node ends."""
    previous = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not stop.wait(3600):
            pass
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)


def delete(name: str) -> None:
    """Drains an application and stops its replicas. An application that is not there is logged, and is no error, as in Ray Serve."""
    from helve import _driver

    if _local() is not None and _local().delete(name):
        return
    driver, name = _driver.running(), _limits.text("name", name)
    if name not in driver.control("status").get("applications", {name: None}):
        logger.warning("serve.delete: no application %r runs here", name)
        return
    driver.control("delete", name=name)


def status() -> dict:
    """The state of applications, deployments and replicas."""
    from helve import _driver

    if _runtime.replica is not None and _runtime.node is not None:
        return _runtime.node.ask("status")
    return _driver.running().control("status")


def shutdown() -> None:
    """Ends the node of this program, after a drain. A program that is attached to the node of another one ends its connection, and that node
    lives on. It does nothing if there is neither.
    """
    from helve import _driver

    if _local() is not None:
        _local().shutdown()
    _driver.shutdown()
