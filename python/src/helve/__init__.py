"""Helve serves models and any other code as deployments with replicas, composed through handles.

`from helve import serve` is source-compatible with Ray Serve's API for applications and handles.
"""

from typing import TYPE_CHECKING, Any

from helve._event import Event

__all__ = ["Event"]
__version__ = "0.1.0.dev0"


if TYPE_CHECKING:
    from helve import serve as serve
else:

    def __getattr__(name: str) -> Any:
        """`helve.serve` after `import helve` alone, and the names of Ray that have no counterpart."""
        if name == "serve":
            import importlib

            return importlib.import_module("helve.serve")
        text = f"module 'helve' has no attribute {name!r}"
        if name in ("init", "shutdown", "get", "put", "remote"):
            text += ": serve.run starts the node by itself; `helve run --ray-compat` runs programs that import ray"
        raise AttributeError(text)
