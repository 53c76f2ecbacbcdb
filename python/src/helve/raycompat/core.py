"""The module ``ray``."""

from __future__ import annotations

from typing import Any

from helve import _refused
from helve.raycompat.session import init, is_initialized, shutdown

__path__: list = []  # `import ray.serve` wants a package
__version__ = "2.60.0"  # the version of Ray whose API this is

__all__ = ["__version__", "init", "is_initialized", "shutdown"]

_LAZY = ("actor", "exceptions", "runtime_context", "runtime_env", "serve", "util")


def _load(name: str) -> Any:
    import importlib

    if name not in _LAZY:
        raise KeyError(name)
    return importlib.import_module("ray." + name)


__getattr__ = _refused.attributes("ray", _load)
