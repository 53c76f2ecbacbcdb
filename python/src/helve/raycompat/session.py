"""ray.init, ray.shutdown, and the connection over which actors, tasks and their results go."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any, Iterator, Optional

from helve import _runtime

logger = logging.getLogger("ray")
logging.getLogger("ray.serve")  # it exists, as after an import of Ray Serve

# The arguments of ray.init for Ray's own processes. They are accepted, and have no effect here.
WITHOUT_EFFECT = frozenset((
    "num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "local_mode", "include_dashboard", "dashboard_host", "dashboard_port",
    "job_config", "configure_logging", "logging_level", "logging_format", "logging_config", "log_to_driver", "enable_resource_isolation", "cgroup_path",
    "system_reserved_cpu", "system_reserved_memory", "proxy_server_url",
))


class Session:
    """What ray.init has set up in this process."""

    def __init__(self, namespace: str, runtime_env: dict, resources: dict):
        self.namespace, self.runtime_env, self.resources = namespace, runtime_env, resources


_lock = threading.RLock()
_session: Optional[Session] = None
GPUS = "HELVE_GPUS"
_stated_gpus = ""  # the value of HELVE_GPUS that ray.init has set, until ray.shutdown


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
    global _session, _stated_gpus
    for name in options:
        if name not in WITHOUT_EFFECT and not name.startswith("_"):
            raise RuntimeError(f"Unknown keyword argument(s): {name}")
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
            if options.get("num_gpus") is not None:
                if GPUS not in os.environ:
                    _stated_gpus = os.environ[GPUS] = str(int(options["num_gpus"]))  # for the node, if it is started now
            resources = {"CPU": float(options.get("num_cpus") or os.cpu_count() or 1), **{k: float(v) for k, v in (options.get("resources") or {}).items()}}
            gpus = found_gpus() if options.get("num_gpus") is None else options["num_gpus"]
            if gpus:
                resources["GPU"] = float(gpus)
            link.join(address)
            _environment.use(runtime_env)
            _session = Session(namespace or "", dict(runtime_env or {}), resources)
    from helve.raycompat.context import address_info

    return RayContext(address_info())


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
    global _session, _stated_gpus
    from helve.serve import _environment

    with _lock:
        _session = None
        _environment.use(None)
        if _stated_gpus and os.environ.get(GPUS) == _stated_gpus:
            del os.environ[GPUS]
        _stated_gpus = ""
    if _runtime.node is not None:
        return
    from helve import serve

    serve.shutdown()


__all__ = ["RayContext", "Session", "current", "init", "is_initialized", "session", "shutdown"]
