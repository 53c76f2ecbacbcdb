"""Where the calling code runs: ray.get_runtime_context() and the functions about nodes. There is one node."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from typing import Any, Optional

from helve import _refused, _runtime
from helve.raycompat import hosts, link
from helve.raycompat.session import current, session


def get_node_ip_address() -> str:
    return "127.0.0.1"


def node_id() -> str:
    """The id of the node: 56 hexadecimal digits, as Ray's."""
    return hashlib.sha256((os.environ.get("HELVE_NODE") or "node").encode()).hexdigest()[:56]


def address_info() -> dict:
    return {
        "node_ip_address": get_node_ip_address(), "raylet_ip_address": get_node_ip_address(), "redis_address": None, "object_store_address": None,
        "raylet_socket_name": None, "webui_url": "", "session_dir": os.environ.get("HELVE_NODE", ""), "metrics_export_port": None, "gcs_address": "",
        "address": "", "dashboard_agent_listen_port": None, "node_id": node_id(),
    }


def nodes() -> list:
    return [{
        "NodeID": node_id(), "Alive": True, "NodeManagerAddress": get_node_ip_address(), "NodeManagerHostname": socket.gethostname(),
        "NodeName": get_node_ip_address(), "Resources": cluster_resources(), "Labels": {}, "alive": True,
    }]


def cluster_resources() -> dict:
    found = dict(session().resources)
    try:
        found["memory"] = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        pass
    found[f"node:{get_node_ip_address()}"] = 1.0
    return found


def available_resources() -> dict:
    """The resources that no replica or actor holds. An amount that was not stated for the node is there as a whole: what replicas ask for of it is recorded, and takes nothing away."""
    found = cluster_resources()
    for name, of in (link.ask("status").result().get("resources") or {}).items():
        if of.get("free") is not None and name in found:
            found[name] = float(of["free"])
    return found


def get_gpu_ids() -> list:
    """The GPUs of the calling process."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [int(g) if g.isdigit() else g for g in seen.split(",") if g] if _runtime.node is not None else []


class RuntimeContext:
    """The context of the code that calls ray.get_runtime_context()."""

    gcs_address = ""

    def get_job_id(self) -> str:
        return "01000000"

    def get_node_id(self) -> str:
        return node_id()

    def get_worker_id(self) -> str:
        return hashlib.sha256(f"{os.getpid()} {node_id()}".encode()).hexdigest()[:56]

    def get_actor_id(self) -> Optional[str]:
        """The id of the actor, or of the replica, that calls this."""
        if hosts.about:
            return hosts.about["id"]
        if _runtime.replica is not None:
            return hashlib.sha256(str(_runtime.replica.replica_tag).encode()).hexdigest()[:32]
        return None

    def get_actor_name(self) -> Optional[str]:
        return (hosts.about.get("name") or "") if hosts.about else None

    def get_task_id(self) -> Optional[str]:
        return hashlib.sha256(f"{threading.get_ident()}".encode()).hexdigest()[:48] if _runtime.node is not None else None

    def get_task_name(self) -> Optional[str]:
        return hosts.task_name.get() or None

    get_task_function_name = get_task_name

    def get_assigned_resources(self) -> dict:
        return dict(hosts.about.get("resources") or {}) if hosts.about else {}

    def get_accelerator_ids(self) -> dict:
        return {"GPU": [str(g) for g in get_gpu_ids()]}

    def get_runtime_env_string(self) -> str:
        import json

        return json.dumps(self.runtime_env)

    def get_placement_group_id(self) -> None:
        return None

    def get_node_labels(self) -> dict:
        return {}

    def get_session_name(self) -> str:
        return os.path.basename(os.environ.get("HELVE_NODE", "") or "helve")

    def is_canceled(self) -> bool:
        return False

    @property
    def namespace(self) -> str:
        return hosts.about.get("namespace", "") if hosts.about else current().namespace if current() is not None else ""

    @property
    def runtime_env(self) -> dict:
        return dict(current().runtime_env) if current() is not None else {}

    @property
    def was_current_actor_reconstructed(self) -> bool:
        return False

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        return False

    @property
    def current_actor(self) -> Any:
        from helve.raycompat.actors import _restored

        if not hosts.about:
            raise RuntimeError("This method is only available in an actor.")
        return _restored(link.application_of(hosts.about), {**hosts.about, "shared": True})

    def get(self) -> dict:
        return {"job_id": self.get_job_id(), "node_id": self.get_node_id(), "namespace": self.namespace}


def get_runtime_context() -> RuntimeContext:
    return RuntimeContext()


__all__ = [
    "RuntimeContext", "address_info", "available_resources", "cluster_resources", "get_gpu_ids", "get_node_ip_address", "get_runtime_context", "node_id",
    "nodes",
]
__getattr__ = _refused.attributes("ray.runtime_context", known=__all__)
