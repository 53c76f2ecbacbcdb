"""ray.init, ray.shutdown, and the connection over which actors, tasks and their results go."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any, Dict, Iterator, Optional

from helve import _runtime

logger = logging.getLogger("ray")
logging.getLogger("ray.serve")  # it exists, as after an import of Ray Serve

# The arguments of ray.init for Ray's own processes, beside AMOUNTS. They are accepted, and have no effect here.
WITHOUT_EFFECT = frozenset((
    "labels", "object_store_memory", "local_mode", "include_dashboard", "dashboard_host", "dashboard_port",
    "job_config", "configure_logging", "logging_level", "logging_format", "logging_config", "log_to_driver", "enable_resource_isolation", "cgroup_path",
    "system_reserved_cpu", "system_reserved_memory", "proxy_server_url",
))


class Session:
    """What ray.init has set up in this process."""

    def __init__(self, namespace: str, runtime_env: dict, resources: dict):
        self.namespace, self.runtime_env, self.resources = namespace, runtime_env, resources


_lock = threading.RLock()
_session: Optional[Session] = None
# The arguments of ray.init that state the amounts which the node gives out, each with the variable of the node that it sets.
AMOUNTS = {"num_cpus": "HELVE_NUM_CPUS", "num_gpus": "HELVE_GPUS", "resources": "HELVE_RESOURCES"}
_before: Dict[str, Optional[str]] = {}  # the variables that ray.init has set, with the values of before, until ray.shutdown


class RayContext(Mapping):
    """The result of ray.init."""

    def __init__(self, info: dict):
        self.address_info, self.dashboard_url, self.python_version, self.ray_version = info, "", _python(), "2.60.0"

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __enter__(self) -> "RayContext":
        return self

    def __exit__(self, *_: Any) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        shutdown()


def _python() -> str:
    import platform

    return platform.python_version()


def init(address: Optional[str] = None, *, namespace: Optional[str] = None, runtime_env: Optional[dict] = None, ignore_reinit_error: bool = False, **options: Any) -> RayContext:
    """Starts the node of this program, or joins the one that is there. It must not be called twice before ray.shutdown()."""
    global _session
    for name in options:
        if name not in WITHOUT_EFFECT and name not in AMOUNTS and not name.startswith("_"):
            raise RuntimeError(f"Unknown keyword argument(s): {name}")
    stated = _amounts(options)
    if address not in (None, "", "local"):
        _refuse(stated, address)
    with _lock:
        if _session is not None or _runtime.node is not None:
            if not ignore_reinit_error:
                raise RuntimeError(
                    "Maybe you called ray.init twice by accident? Pass ignore_reinit_error=True to go on with the first, or call ray.shutdown() before"
                )
            logger.info("Calling ray.init() again after it has already been called.")
        else:
            from helve.raycompat import link
            from helve.serve import _environment

            _environment.use(runtime_env)
            _state(stated)
            try:
                link.join(address, stated)
            except BaseException:
                _take_back()
                raise
            gpus = stated.get("GPU", found_gpus())
            resources = {"CPU": float(os.cpu_count() or 1), **({"GPU": float(gpus)} if gpus else {}), **{k: v for k, v in stated.items() if v or k == "CPU"}}
            _environment.use(runtime_env)
            _session = Session(namespace or "", dict(runtime_env or {}), resources)
    from helve.raycompat.context import address_info

    return RayContext(address_info())


def _amounts(options: dict) -> Dict[str, float]:
    """The amounts that the arguments of ray.init state, by the names of ray.cluster_resources()."""
    stated = {}
    for name, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        if options.get(name) is not None:
            stated[resource] = _amount(name, options[name])
    resources = options.get("resources")
    if resources is not None and not isinstance(resources, dict):
        raise TypeError(f"ray.init: resources must be a dict from names to numbers, is {resources!r:.100}")
    for name, value in (resources or {}).items():
        if name in ("CPU", "GPU"):
            raise ValueError("Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU' in 'resources' keyword")
        if not isinstance(name, str) or not name or name == "memory":
            raise ValueError(f"ray.init: resources has {name!r}, which is no name of a custom resource")
        stated[name] = _amount(f"resources[{name!r}]", value)
    return stated


def _amount(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1 << 20 or name == "num_gpus" and value != int(value):
        raise ValueError(f"ray.init: {name} must be a number of at least 0{' without a fraction' if name == 'num_gpus' else ''}, is {value!r}")
    return float(value)


def _refuse(stated: Dict[str, float], address: str) -> None:
    """The amounts of a node that runs already are those of its start."""
    given = [", ".join(n for n, r in (("num_cpus", "CPU"), ("num_gpus", "GPU")) if r in stated), "resources" if stated.keys() - {"CPU", "GPU"} else ""]
    if any(given):
        raise ValueError(
            f"When connecting to an existing cluster, num_cpus, num_gpus and resources must not be provided: ray.init(address={address!r}) has {', '.join(filter(None, given))}. "
            "next: leave them out, and state them where the node is started (helve start --num-cpus, --resources, HELVE_GPUS)"
        )


def _state(stated: Dict[str, float]) -> None:
    """Sets the variables by which the node that this program starts knows its amounts. They come before those of the program's environment."""
    custom = {k: v for k, v in stated.items() if k not in ("CPU", "GPU")}
    values = {"num_cpus": f"{stated['CPU']:g}" if "CPU" in stated else "", "num_gpus": f"{stated['GPU']:g}" if "GPU" in stated else "", "resources": json.dumps(custom) if custom else ""}
    for name, value in values.items():
        if value:
            _before[AMOUNTS[name]] = os.environ.get(AMOUNTS[name])
            os.environ[AMOUNTS[name]] = value


def _take_back() -> None:
    for name, value in _before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _before.clear()


def found_gpus() -> int:
    """The number of GPUs that the node finds: HELVE_GPUS, else the device files of the machine, restricted by CUDA_VISIBLE_DEVICES."""
    stated = os.environ.get("HELVE_GPUS", "")
    number = int(stated) if stated.isdigit() else len([n for n in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", n)])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return number if visible is None else min(number, len([n for n in visible.split(",") if n.strip()]))


def current() -> Optional[Session]:
    """The session of this process, if there is one."""
    return _session


def is_initialized() -> bool:
    """Whether ray.init was called, by the program or by the first use of a task or an actor."""
    return _session is not None or _runtime.node is not None


def session() -> Session:
    """The session of this process. It is made now if there is none: a program may use tasks without ray.init()."""
    global _session
    if _session is None:
        if _runtime.node is None:
            init()
        else:
            _session = Session(hosts_namespace(), {}, {"CPU": float(os.cpu_count() or 1)})
    assert _session is not None
    return _session


def hosts_namespace() -> str:
    """The namespace of the actor in this process; "" in others."""
    hosts = sys.modules.get("helve.raycompat.hosts")
    return hosts.about.get("namespace", "") if hosts is not None else ""


def shutdown(*, wait_for_processes: bool = False, _exiting_interpreter: bool = False) -> None:
    """Ends the node with all applications, actors and tasks. Inside of replicas it does nothing."""
    global _session
    from helve.serve import _environment

    with _lock:
        _session = None
        _environment.use(None)
        _take_back()
    if _runtime.node is not None:
        return
    from helve import serve

    serve.shutdown()


__all__ = ["RayContext", "Session", "current", "init", "is_initialized", "session", "shutdown"]
