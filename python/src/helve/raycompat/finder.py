"""The import of ``ray`` and of its submodules. Each is another name of a module of Helve: ``ray.serve.handle`` is the module
``helve.serve.handle``, so that its classes are the same under both names.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Optional

from helve import _refused

# The modules under `ray` that are there. The modules of ray.serve are those of helve.serve.
MODULES = {
    "ray": "helve.raycompat.core",
    "ray.serve": "helve.serve",
    "ray.cloudpickle": "cloudpickle",
    "ray.actor": "helve.raycompat.actors",
    "ray.exceptions": "helve.raycompat.exceptions",
    "ray.remote_function": "helve.raycompat.tasks",
    "ray.runtime_context": "helve.raycompat.context",
    "ray.runtime_env": "helve.raycompat.environment",
    "ray.util": "helve.raycompat.util",
    "ray.util.metrics": "helve.serve.metrics",
    # Private to Ray, but test-suites of its users import these helpers.
    "ray._common": "helve.raycompat.private",
    "ray._common.test_utils": "helve.raycompat.testing",
    "ray._private": "helve.raycompat.private",
    "ray._private.test_utils": "helve.raycompat.testing",
}


def target_of(name: str) -> Optional[str]:
    """The module of Helve behind a module of Ray; None if there is none."""
    if name in MODULES:
        return MODULES[name]
    if not name.startswith("ray.serve."):
        return None
    target = "helve.serve." + name[len("ray.serve."):]
    if any(part.startswith("_") for part in name.split(".")):
        return None  # private modules are not part of the API
    try:
        return target if target in sys.modules or importlib.util.find_spec(target) is not None else None
    except ModuleNotFoundError:
        return None


class Alias:
    """A loader that puts a module of Helve in place of the module that is asked for."""

    def __init__(self, target: str):
        self.target = target

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(self.target)


class Finder:
    """Finds ``ray`` and everything below it. A module that Helve does not have is an ImportError that says what to use instead, also
    when Ray itself is installed: half of a program in one system and half in the other would fail in ways that are hard to see through.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> Optional[ModuleSpec]:
        if name != "ray" and not name.startswith("ray."):
            return None
        found = target_of(name)
        if found is None:
            raise ImportError(_refused.module(name), name=name)
        return ModuleSpec(name, Alias(found), is_package=True)


__all__ = ["Alias", "Finder", "MODULES", "target_of"]
