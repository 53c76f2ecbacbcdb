"""Objects of modules by the texts that name them, for example "module.sub:name" or "module.sub.name"."""

from __future__ import annotations

import importlib
from typing import Any

# Programs for Ray Serve name its own classes and functions by these texts, also where its package is not installed.
_ALIASES = (("ray.serve._private.request_router", "helve.serve.request_router"), ("ray.serve", "helve.serve"))


def split_path(path: str) -> tuple[str, str]:
    """The module and the name in it."""
    if ":" in path:
        if path.count(":") > 1:
            raise ValueError(f"Got invalid import path {path!r}. An import path may have at most one colon.")
        module, name = path.split(":")
    else:
        module, _, name = path.rpartition(".")
    if not module or not name:
        raise ValueError(f'Got invalid import path {path!r}: it must be "module:name" or "module.name"')
    return module, name


def find(path: str) -> Any:
    """The object that a text names."""
    module, name = split_path(path)
    for theirs, ours in _ALIASES:
        if module == theirs or module.startswith(theirs + "."):
            module = ours + module[len(theirs):]
            if ours == "helve.serve.request_router":
                module = ours
            break
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def path_of(target: Any) -> str:
    """The text that names a class or function."""
    return f"{target.__module__}.{getattr(target, '__qualname__', type(target).__name__)}"


__all__ = ["find", "path_of", "split_path"]
