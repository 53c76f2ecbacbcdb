"""serve.run, serve.start and the other functions for whole applications."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Union

from helve import _guard, _limits, _logging, _refused, _runtime
from helve._errors import RayServeException
from helve._names import HIDDEN
from helve._wake import Wake
from helve.serve._checks import say
from helve.serve.context import get_multiplexed_model_id, get_replica_context  # noqa: F401
from helve.serve.deployment import Application, Deployment, Graph, deployment, http_mistake, language_of  # noqa: F401
from helve.serve._types import D
from helve.serve.handle import DeploymentHandle
from helve.serve.ingress import ingress  # noqa: F401
from helve.serve.lookup import get_app_handle, get_deployment_handle  # noqa: F401

if TYPE_CHECKING:
    from helve.serve._status import ServeStatus
    from helve.serve._targets import RunTarget
    from helve.serve.config import ControllerOptions, HTTPOptions, LoggingConfig, ProxyLocation, TracingConfig, gRPCOptions

logger = logging.getLogger("helve.serve")

LOCATIONS = ("Disabled", "HeadOnly", "EveryNode")


def start(
    proxy_location: Union[None, str, "ProxyLocation"] = None, http_options: Union[None, Dict[str, Any], "HTTPOptions"] = None,
    grpc_options: Union[None, Dict[str, Any], "gRPCOptions"] = None, logging_config: Union[None, Dict[str, Any], "LoggingConfig"] = None,
    tracing_config: Union[None, Dict[str, Any], "TracingConfig"] = None,
    controller_options: Union[None, Dict[str, Any], "ControllerOptions"] = None, address: "Union[None, str, os.PathLike[str]]" = None, **ignored: Any,
) -> None:
    """Starts the node of this program, if it does not run yet. `serve.run` does so by itself; call this to choose the options of HTTP, or the node:

        serve.start(http_options={"host": "0.0.0.0", "port": 80})
        serve.start(address="/var/lib/helve")

    A second call with other options warns, and changes nothing. If a durable node of this user runs, which `helve start` has started, the program attaches to
    it, and runs its applications there.

    Args:
        proxy_location: "Disabled" for no HTTP. "HeadOnly" and "EveryNode" are equal, because there is one node. Default: that of http_options.
        http_options: An `HTTPOptions`, or a dict of its fields. Default: HTTP on 127.0.0.1:8000.
        grpc_options: Taken if it asks for no gRPC service.
        logging_config: Logging of the replicas of all applications, a `LoggingConfig` or a dict of its fields. Options of serve.run and of
            deployments go over it.
        tracing_config: Without effect, which a warning says.
        controller_options: Without effect, which a warning says.
        address: Node to attach to until `serve.shutdown`: its state directory, its private directory, a socket in one of them, or "auto" for the one that a
            search finds. "local" is a node of this program's own. Default: the node that HELVE_NODE names, else the durable node of this user, else a node
            of the program's own.
        **ignored: `detached` and `dedicated_cpu` of old programs, without effect, which a warning says.

    Raises:
        RayServeException: grpc_options with services; gRPC is not there. Or no node runs at the address, or several run and none is named.
        TypeError: An option that is not there, or a value of a wrong type.
        ValueError: A value out of its bounds.
    """
    import dataclasses

    from helve import _driver
    from helve.serve._http_options import HTTPSettings, http_settings

    for name in ignored:
        if name not in ("detached", "dedicated_cpu"):
            raise TypeError(f"start() got an unexpected keyword argument {name!r}")
    _without_effect("serve.start", tracing_config=tracing_config, controller_options=controller_options, **ignored)

    if logging_config is not None:
        _logging.program = _logging.checked(logging_config)
    functions = grpc_options.get("grpc_servicer_functions") if isinstance(grpc_options, dict) else getattr(grpc_options, "grpc_servicer_functions", None)
    if functions:
        raise RayServeException("gRPC ingress is not there; use handles or HTTP")
    http = http_settings(http_options)
    if proxy_location is not None:
        location = _limits.choice("proxy_location", getattr(proxy_location, "value", proxy_location), list(LOCATIONS))
        if location == "Disabled":
            http = dataclasses.replace(http or HTTPSettings(), location=location)
    driver = _driver.ensure(http) if address is None else _driver.at(_limits.text("address", os.fspath(address) if isinstance(address, os.PathLike) else address), http)
    if driver.durable:
        from helve.serve import _deploying

        _deploying.where(driver)


def _without_effect(function: str, **options: Any) -> None:
    """Warns of options that a program sets although they have no effect, once for each: a notebook runs its cells again and again."""
    for name, value in options.items():
        if value is not None and value is not False:
            say(f"{function}: {name} has no effect here; leave it out")


def _local() -> Any:
    """The module of _local_testing_mode; None if this program has not used it."""
    return sys.modules.get("helve.serve._local_testing")


def run(
    target: Application[D], blocking: bool = False, name: str = "default", route_prefix: Optional[str] = "/",
    logging_config: Union[None, Dict[str, Any], "LoggingConfig"] = None, _local_testing_mode: bool = False, external_scaler_enabled: bool = False,
    controller_options: Union[None, Dict[str, Any], "ControllerOptions"] = None,
) -> DeploymentHandle[D]:
    """Runs an application and returns a handle to its ingress, once every replica is ready:

        handle = serve.run(Model.bind("weights.bin"))
        print(handle.remote("text").result())

    It starts the node if none runs. In a durable node, which `helve start` has started, the application goes on when this program has ended.

    An application of this name that runs changes to the new one: calls go on, and replicas whose code and process are the same go on too. If the new one
    does not start, the old one stays.

    A start that fails is made again, three times per replica in all, or `max_constructor_retry_count` times if that is fewer.

    Args:
        target: The application: the result of `Deployment.bind`.
        blocking: Whether to wait for SIGINT or SIGTERM, and then to end the node of this program.
        name: Name of the application.
        route_prefix: Path below which HTTP requests reach the ingress; None for no HTTP.
        logging_config: Logging of the application's replicas, a `LoggingConfig` or a dict of its fields. The option of a deployment goes over it.
        _local_testing_mode: Whether the deployments run in this process, without a node, for unit tests. Options that limit or place replicas
            have no effect then.
        external_scaler_enabled: Without effect, which a warning says.
        controller_options: Without effect, which a warning says.

    Returns:
        A handle to the ingress, the deployment that was bound last.

    Raises:
        RuntimeError: The application does not start, with the traceback of its constructor; `serve.status` shows it as DEPLOY_FAILED. Or the port of
            HTTP is in use; the text says how to choose another.
        TypeError: Another value than an application, or one that cannot be pickled; the text says which part.
        ValueError: A name or route_prefix that cannot be one.
        RayServeException: A route_prefix that another application has.
    """
    _without_effect("serve.run", external_scaler_enabled=external_scaler_enabled, controller_options=controller_options)
    [handle] = _run_many([_one(target, name, route_prefix, logging_config)], blocking, True, _local_testing_mode)
    return handle


def _run(
    target: Application[D], *, _blocking: bool = True, name: str = "default", route_prefix: Optional[str] = "/", logging_config: Any = None,
    _local_testing_mode: bool = False, external_scaler_enabled: bool = False, controller_options: Any = None,
) -> DeploymentHandle[D]:
    """serve.run, which with _blocking=False does not wait until the application is ready."""
    _without_effect("serve.run", external_scaler_enabled=external_scaler_enabled, controller_options=controller_options)
    [handle] = _run_many([_one(target, name, route_prefix, logging_config)], False, _blocking, _local_testing_mode)
    return handle


def run_many(
    targets: Sequence["RunTarget"], blocking: bool = False, wait_for_ingress_deployment_creation: bool = True, wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False, controller_options: Union[None, Dict[str, Any], "ControllerOptions"] = None,
) -> List[DeploymentHandle[Any]]:
    """Runs several applications at once, as `serve.run` does each of them. If some fail, the others run all the same.

    Args:
        targets: The applications, at least one, with names and route prefixes of their own.
        blocking: Whether to wait for SIGINT or SIGTERM, and then to end the node.
        wait_for_ingress_deployment_creation: Without effect: False is a warning.
        wait_for_applications_running: Whether to wait until every replica is ready. With False it returns as soon as the node has taken all of them;
            `serve.status` has their later states.
        _local_testing_mode: Whether the deployments run in this process, without a node.
        controller_options: Without effect, which a warning says.

    Returns:
        A handle for each target, in the same order.

    Raises:
        RuntimeError: Applications that do not start; the text names each of them.
        TypeError: A target that is no `RunTarget`.
        ValueError: No targets, or two with one name.
        RayServeException: Two targets with one route prefix.
    """
    _without_effect(
        "serve.run_many", controller_options=controller_options, wait_for_ingress_deployment_creation=wait_for_ingress_deployment_creation is False,
        external_scaler_enabled=any(getattr(t, "external_scaler_enabled", False) for t in targets),
    )
    from helve.serve._targets import RunTarget

    for t in targets:
        if not isinstance(t, RunTarget):
            raise TypeError(f"run_many: each target must be a serve.RunTarget, is {_limits.shown(t)}")
    return _run_many(targets, blocking, wait_for_applications_running, _local_testing_mode)


def _one(target: Any, name: str, route_prefix: Optional[str], logging_config: Any) -> Any:
    """The application of serve.run, with the attributes of a RunTarget, whose module it need not load."""
    return SimpleNamespace(target=target, name=name, route_prefix=route_prefix, logging_config=logging_config)


def _run_many(targets: Sequence[Any], blocking: bool, wait: bool, local: bool) -> List[DeploymentHandle[Any]]:
    from helve import _driver

    _guard.install_hooks()
    if not targets:
        raise ValueError("No applications provided.")
    if local or os.environ.get("RAY_SERVE_FORCE_LOCAL_TESTING_MODE") == "1":
        from helve.serve import _local_testing

        return [_local_testing.run(t.target, name=t.name, route_prefix=t.route_prefix, logging_config=t.logging_config) for t in targets]
    blocking = _limits.boolean("blocking", blocking)
    for key in ("name", "route_prefix"):
        values = [getattr(t, key) for t in targets if getattr(t, key) is not None]
        twice = [v for v in values if values.count(v) > 1]
        if twice:
            raise (ValueError if key == "name" else RayServeException)(f"two applications have the {key} {_limits.shown(twice[0])}: give each its own")
    deploys = [_Deploy(t, wait, _driver.options().middlewares) for t in targets]
    if any("go" in d for run in deploys for d in run.graph.deployments):
        from helve.serve import _go

        _go.compile_all([run.graph for run in deploys])
    driver = _driver.ensure(None)
    if driver.durable:
        from helve.serve import _deploying

        _deploying.where(driver)
    if len(deploys) == 1:
        deploys[0].run(driver)
    else:
        driver.open_http()  # once for all of them
        threads = [threading.Thread(target=d.attempt, args=(driver,), name=f"helve-run-{d.name}", daemon=True) for d in deploys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failed = [(d.name, d.error) for d in deploys if d.error is not None]
        if len(failed) == 1:
            raise failed[0][1]
        if failed:
            raise RuntimeError("\n\n".join(f"application {name!r}: {error}" for name, error in failed)) from failed[0][1]
    if blocking:
        if driver.loads:
            from helve import _loader

            _loader.tell(done=True)
        _wait_for_signal(driver.ended)
        while driver.conn.over is not None and not driver.closing:
            if not driver.durable:
                raise driver.conn.over.exception()
            driver = _driver.running()
            _wait_for_signal(driver.ended)
        shutdown()
    return [d.handle for d in deploys]


class _Deploy:
    """One application that is deployed."""

    def __init__(self, t: Any, wait: bool, middlewares: list):
        if t.name == "":
            raise RayServeException("Application name must a non-empty string: give it a name.")
        self.name, self.route_prefix, self.wait = _limits.name("name", t.name), _prefix(t.route_prefix), wait
        if self.name.startswith(HIDDEN):
            raise ValueError(f"name: {_limits.shown(self.name)} begins with {HIDDEN!r}, which is for tasks and actors: serve.status() would not show it; choose another name")
        self.graph = Graph(t.target, self.name, middlewares, getattr(t, "change", None))
        self.runtime_env = getattr(t, "runtime_env", None)  # of a file of applications
        _logging.defaults(self.graph.deployments, t.logging_config, _logging.program)
        self.error: Optional[BaseException] = None
        self.handle = DeploymentHandle(self.graph.ingress, self.name, language=language_of(t.target))

    def attempt(self, driver: Any) -> None:
        try:
            self.run(driver)
        except BaseException as e:
            self.error = e

    def run(self, driver: Any) -> None:
        from helve.serve import _deploying  # the driver has loaded both
        from helve.serve._http_options import reachable

        graph = self.graph
        served = self.route_prefix is not None and driver.http.port is not None
        target = graph.targets.get(graph.ingress)  # None for a deployment in Go
        warning = http_mistake(graph.ingress, target) if served and target is not None else ""
        if warning:
            logger.warning("%s; pass route_prefix=None if no requests are meant to come", warning)
        url = driver.deploy(graph, self.route_prefix, self.wait, self.runtime_env)
        driver.ingress[self.name] = graph.ingress  # before the line: an interrupt after it drains the application (see _run.run)
        if self.wait and not warning:
            _deploying.ready(self.name, f"{reachable(url)}{self.route_prefix}" if url and served else "", driver)
        if driver.loads:
            from helve import _loader

            _loader.deployed(self.name, f"{reachable(url)}{self.route_prefix}" if url and served else "")


def _prefix(value: Any) -> Optional[str]:
    if value is None:
        return None
    value = _limits.text("route_prefix", value)
    shown = _limits.shown(value)
    if value[:1] != "/":
        raise ValueError(f"Invalid route_prefix {shown}, must start with a forward slash ('/')")
    if value != "/" and value[-1] == "/":
        raise ValueError(f"Invalid route_prefix {shown}, may not end with a trailing '/'")
    if "{" in value or "}" in value:
        raise ValueError(f"Invalid route_prefix {shown}, may not contain wildcards: it is a plain path, without parameters in braces")
    return value


def _wait_for_signal(stop: Wake) -> None:
    """Waits for a signal, or for stop, which is set when the node ends."""
    previous = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not stop.wait(3600):
            pass
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)


def delete(name: str, _blocking: bool = True) -> None:
    """Drains an application and stops its replicas. An application that is not there is logged, and is no error.

    Args:
        name: Name of the application.
        _blocking: Whether to wait for the end of the replicas.

    Raises:
        RayServeException: No node, or only one of another program that is not durable and that HELVE_NODE does not name.
    """
    from helve import _driver

    if _local() is not None and _local().delete(name):
        return
    driver, name = _driver.acting("serve.delete"), _limits.text("name", name)
    if name not in driver.control("status").get("applications", {name: None}):
        logger.warning("serve.delete: no application %r runs here", name)
    elif _limits.boolean("_blocking", _blocking):
        driver.control("delete", name=name)
        driver.ingress.pop(name, None)
    else:
        driver.request("delete", name=name)
        driver.ingress.pop(name, None)


def status() -> "ServeStatus":
    """The state of the applications, deployments and replicas of the node, also inside of a replica:

        assert serve.status().applications["default"].status == "RUNNING"

    Returns:
        The state. It is empty if nothing runs.
    """
    from helve.serve._status import ServeStatus, status_of

    node = _node_status()
    return ServeStatus() if node is None else status_of(node)


def _node_status() -> Optional[dict]:
    """The status in the node's own words; None if there is no node."""
    from helve import _driver

    if _runtime.replica is not None and _runtime.node is not None:
        return _runtime.node.ask("status")
    try:
        return _driver.running().control("status")
    except RayServeException as e:
        if str(e) == _runtime.NONE:
            return None
        raise


def shutdown() -> None:
    """Ends the node of this program with all its applications, after a drain.

    A program that is attached to a durable node, or to the node of another program, ends its connection alone: that node and its applications go on, also
    those of this program, and `serve.delete` ends one. It does nothing if there is no node.
    """
    from helve import _driver

    if _local() is not None:
        _local().shutdown()
    stay = _driver.staying()
    _driver.shutdown()
    if stay:
        sys.stderr.write(f"The durable node goes on with {', '.join(map(repr, stay))}; serve.delete(name) ends an application.\n")


async def shutdown_async() -> None:
    """`serve.shutdown` for code on an event loop, which goes on meanwhile."""
    await asyncio.get_running_loop().run_in_executor(None, shutdown)


def _load(name: str) -> Any:
    """A name of this module in Ray Serve that most programs do not need."""
    from importlib import import_module

    return getattr(import_module({"RunTarget": "helve.serve._targets", "multiplexed": "helve.serve.multiplex"}[name]), name)


if not TYPE_CHECKING:
    __getattr__ = _refused.attributes(__name__, _load)
