"""The parts of a handle beside its calls: its identity, its options as users see them, and its counter."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

from helve import _limits, _runtime


@dataclass(frozen=True)
class DeploymentID:
    """A deployment by its names.

    Attributes:
        name: Name of the deployment.
        app_name: Name of its application.
    """

    name: str
    app_name: str = "default"

    def __str__(self) -> str:
        return f"Deployment(name='{self.name}', app='{self.app_name}')"

    __repr__ = __str__


class DeploymentHandleSource(str, Enum):
    """The kind of program in which a handle is used."""

    UNKNOWN = "UNKNOWN"
    PROXY = "PROXY"
    REPLICA = "REPLICA"


@dataclass(frozen=True)
class InitHandleOptions:
    """The options that a handle gets once. Only _prefer_local_routing has an effect."""

    _prefer_local_routing: bool = False
    _source: DeploymentHandleSource = DeploymentHandleSource.UNKNOWN
    _run_router_in_separate_loop: bool = True


@dataclass(frozen=True)
class HandleOptions:
    """The options of handle.options(), with their present values."""

    method_name: str = "__call__"
    multiplexed_model_id: str = ""
    session_id: str = ""
    stream: bool = False
    _by_reference: bool = True
    request_serialization: str = "cloudpickle"
    response_serialization: str = "cloudpickle"


class State:
    """The part that a handle shares with all that are derived from it."""

    __slots__ = ("calls", "init_options", "_id", "_populated")

    def __init__(self) -> None:
        self.calls = 0  # two threads may count one call for two: it is for people
        self.init_options: Optional[InitHandleOptions] = None
        self._id = ""
        self._populated = False

    @property
    def handle_id(self) -> str:
        if not self._id:
            self._id = os.urandom(6).hex()
        return self._id

    def begin(self, options: dict) -> None:
        """Sets the options of the beginning, once."""
        if self.init_options is not None:
            raise RuntimeError(
                "Handle has already been initialized. Note that a handle is implicitly initialized when it is used: call `_init()` once, before "
                f"`.options()`, `.remote()` and attributes of the handle. This one has {self.init_options}."
            )
        options = {k: v for k, v in options.items() if repr(v) != "DEFAULT.VALUE"}
        names = InitHandleOptions.__dataclass_fields__
        for name in options:
            if name not in names:
                raise TypeError(f"_init() got an unexpected keyword argument {name!r}; there are {', '.join(names)}")
        for name in ("_prefer_local_routing", "_run_router_in_separate_loop"):
            if name in options:
                options[name] = _limits.boolean(name, options[name])
        if _runtime.replica is not None:
            options.setdefault("_source", DeploymentHandleSource.REPLICA)
        self.init_options = InitHandleOptions(**options)

    def use(self) -> None:
        """Notes a use of the handle."""
        if self.init_options is None:
            self.init_options = InitHandleOptions() if _runtime.replica is None else InitHandleOptions(_source=DeploymentHandleSource.REPLICA)

    def populated(self, app: str, deployment: str) -> bool:
        if self.init_options is None or self._populated:
            return self._populated
        if _runtime.replica is not None and _runtime.node is not None:
            status = _runtime.node.ask("status")
        else:
            from helve import _driver

            status = _driver.running().control("status")
        found = ((status.get("applications") or {}).get(app) or {}).get("deployments", {}).get(deployment) or {}
        self._populated = any(r["state"] == "RUNNING" for r in found.get("replicas") or ())
        return self._populated


class RequestCounter:
    """The number of calls of a handle, in the form of a metric. The calls of deployments are on /metrics of the node, which counts them."""

    __slots__ = ("_state", "_app", "_deployment")

    def __init__(self, state: State, app: str, deployment: str):
        self._state, self._app, self._deployment = state, app, deployment

    def __eq__(self, other: Any) -> bool:
        return type(other) is RequestCounter and other._state is self._state

    def __hash__(self) -> int:
        return id(self._state)

    @property
    def value(self) -> int:
        return self._state.calls

    @property
    def info(self) -> dict:
        return {
            "name": "serve_handle_request_counter",
            "description": "The number of calls that were made with the handle.",
            "tag_keys": ("handle", "deployment", "route", "application"),
            "default_tags": {
                "handle": f"{self._app}#{self._deployment}#{self._state.handle_id}", "deployment": self._deployment, "application": self._app,
            },
        }

    def __repr__(self) -> str:
        return f"RequestCounter({self.value})"


__all__ = ["DeploymentHandleSource", "DeploymentID", "HandleOptions", "InitHandleOptions", "RequestCounter", "State"]
