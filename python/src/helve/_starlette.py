"""Makes `import starlette; starlette.requests.Request` work, as it does in programs for Ray Serve, which imports
Starlette's modules itself. Here no module of Starlette is imported until a program asks for it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def _complete(module: ModuleType) -> None:
    """Makes a module import its submodules when they are asked for as attributes."""

    def missing(name: str):
        if not name.startswith("_"):
            try:
                return importlib.import_module(f"{module.__name__}.{name}")
            except ModuleNotFoundError as e:
                if e.name != f"{module.__name__}.{name}":
                    raise
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    if "__getattr__" not in vars(module):
        module.__getattr__ = missing  # type: ignore[method-assign]


class _Finder:
    """Finds starlette in the places where it would be found anyway, and completes it after its import."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "starlette":
            return None
        spec = None
        for finder in sys.meta_path:
            if finder is not cls and spec is None:
                spec = finder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _complete(module)
                if cls in sys.meta_path:
                    sys.meta_path.remove(cls)

            try:
                spec.loader.exec_module = exec_module
            except AttributeError:  # a loader without attributes of its own
                pass
        return spec


def complete() -> None:
    if "starlette" in sys.modules:
        _complete(sys.modules["starlette"])
    elif _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


__all__ = ["complete"]
