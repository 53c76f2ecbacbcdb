"""Handles by names: get_app_handle and get_deployment_handle."""

from __future__ import annotations

import sys
from typing import Any, Optional

from helve import _limits, _runtime
from helve._errors import DeploymentUnavailableError, RayServeException, UnknownDeploymentError, for_reason
from helve.serve.handle import DeploymentHandle, DeploymentID

CACHED = 100  # handles of one process

_handles: dict = {}  # (app, deployment) -> handle
_of = None  # the connection for which they were found


def _local(*names: str) -> Optional[DeploymentHandle]:
    """The handle of an application or deployment that runs in this process, by _local_testing_mode."""
    local = sys.modules.get("helve.serve._local_testing")
    return None if local is None else local.find(*names)


def _ask(**fields: Any) -> dict:
    """The node's answer to where a name leads."""
    if _runtime.replica is not None and _runtime.node is not None:
        return _runtime.node.ask("ingress", **fields)
    from helve import _driver

    reply = _driver.running().ask("ingress", **fields)
    if "error" in reply:
        raise for_reason(reply["error"].get("reason", ""))(reply["error"]["message"])
    return reply


def _cached(key: tuple) -> Optional[DeploymentHandle]:
    global _of
    if _runtime.connection is not _of:  # another node, or none
        _handles.clear()
        _of = _runtime.connection
    return _handles.get(key)


def _keep(key: tuple, found: dict) -> DeploymentHandle:
    handle = DeploymentHandle(found["deployment"], key[0], language=found["language"])
    if found["method"]:
        handle = handle.options(method_name=found["method"])
    _cached(key)
    if len(_handles) >= CACHED:
        _handles.pop(next(iter(_handles)), None)
    return _handles.setdefault(key, handle)


def get_app_handle(name: str) -> DeploymentHandle[Any]:
    """A handle to the ingress of an application of the node, in a replica or in a program.

    Args:
        name: Name of the application. It may be another program's on this machine.

    Returns:
        The handle. A type checker does not know its deployment: annotate it, `handle: DeploymentHandle[Model] = serve.get_app_handle("m")`.

    Raises:
        RayServeException: No such application, or no node.
    """
    name = _limits.text("name", name)
    local = _local(name)
    if local is not None:
        return local
    try:
        found = _ask(app=name)
    except DeploymentUnavailableError as e:
        raise RayServeException(str(e)) from None
    handle = _cached((name, None))
    if handle is not None and handle._deployment == found["deployment"]:
        return handle
    _handles.pop((name, None), None)
    return _keep((name, None), found)


def get_deployment_handle(
    deployment_name: str, app_name: Optional[str] = None, _check_exists: bool = True, _record_telemetry: bool = True,
) -> DeploymentHandle[Any]:
    """A handle to a deployment by its name, in a replica or in a program.

    Args:
        deployment_name: Name of the deployment.
        app_name: Name of its application. Default: inside of a replica its own application; elsewhere it must be given.
        _check_exists: Whether a deployment that is not there is an error here. With False the first call fails.
        _record_telemetry: Without effect.

    Returns:
        The handle.

    Raises:
        UnknownDeploymentError: No such deployment. It is a KeyError.
        RayServeException: app_name is missing, or there is no node.
    """
    if app_name is None:
        if _runtime.replica is None:
            raise RayServeException("Please specify an application name when getting a deployment handle outside of a Serve application: app_name is missing")
        app_name = _runtime.replica.app_name
    key = _limits.text("app_name", app_name, _limits.MAX_NAME), _limits.text("deployment_name", deployment_name, _limits.MAX_NAME)
    handle = _local(*key) or _cached(key)
    if handle is not None:
        return handle
    if not _check_exists:
        return DeploymentHandle(deployment_name, app_name)
    try:
        found = _ask(app=app_name, deployment=deployment_name)
    except DeploymentUnavailableError as e:
        raise UnknownDeploymentError(str(e)) from None
    handle = _keep(key, found)
    if _runtime.in_worker() and _runtime.replica is not None and app_name == _runtime.replica.app_name:
        _note_use(deployment_name, _runtime.replica.deployment)
    return handle


def _note_use(name: str, by: str) -> None:
    """Tells the node of an edge that the graph of the application does not show."""
    conn: Any = _runtime.connection

    def tell() -> None:
        conn.control("uses", deployment=by, name=name).add_done_callback(lambda f: f.exception())

    if conn is not None and conn.lost is None:
        conn.post(tell)


__all__ = ["DeploymentID", "get_app_handle", "get_deployment_handle"]
