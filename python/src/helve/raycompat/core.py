"""The module ``ray``."""

from typing import Any

from helve import _refused
from helve.raycompat.actors import ActorID, get_actor, kill, method
from helve.raycompat.context import available_resources, cluster_resources, get_gpu_ids, get_runtime_context, nodes
from helve.raycompat.refs import cancel, get, put, wait
from helve.raycompat.session import init, is_initialized, shutdown
from helve.raycompat.tasks import remote
from helve.serve.responses import ObjectRef, ObjectRefGenerator

__path__: list = []  # `import ray.serve` wants a package
__version__ = "2.60.0"  # the version of Ray whose API this is

__all__ = [
    "ActorID", "ObjectRef", "ObjectRefGenerator", "__version__", "available_resources", "cancel", "cluster_resources", "get", "get_actor", "get_gpu_ids",
    "get_runtime_context", "init", "is_initialized", "kill", "method", "nodes", "put", "remote", "shutdown", "wait",
]

_LAZY = ("actor", "cloudpickle", "exceptions", "runtime_context", "runtime_env", "serve", "util")


def _load(name: str) -> Any:
    import importlib

    if name not in _LAZY:
        raise KeyError(name)
    return importlib.import_module("ray." + name)


__getattr__ = _refused.attributes("ray", _load)
