"""`from helve import serve`."""

from typing import TYPE_CHECKING, Any, List

from helve import _guard, _refused, _starlette
from helve.serve.api import delete, get_app_handle, get_deployment_handle, run, run_many, shutdown, shutdown_async, start, status
from helve.serve.api import _run as _run
from helve.serve.context import draining, get_multiplexed_model_id, get_replica_context, get_trace_context, span, wait_for_drain
from helve.serve.deployment import Application, Deployment, deployment
from helve.serve.ingress import ingress

if TYPE_CHECKING:  # the names below, which __getattr__ loads, for type checkers and editors
    from helve.serve import (
        autoscaling_policy as autoscaling_policy, batching as batching, config as config, context as context, exceptions as exceptions,
        experimental as experimental, grpc_util as grpc_util, handle as handle, metrics as metrics, multiplex as multiplex,
        request_router as request_router, schema as schema,
    )
    from helve.serve._go import go_deployment
    from helve.serve._targets import RunTarget
    from helve.serve.batching import batch
    from helve.serve.config import ControllerOptions, HTTPOptions
    from helve.serve.multiplex import multiplexed
    from helve.serve.schema import TracingConfig

__all__ = [
    "Application", "ControllerOptions", "Deployment", "HTTPOptions", "RunTarget", "TracingConfig", "batch", "delete", "deployment", "draining",
    "get_app_handle", "get_deployment_handle", "get_multiplexed_model_id", "get_replica_context", "get_trace_context", "go_deployment", "ingress",
    "multiplexed", "run", "run_many", "shutdown", "shutdown_async", "span", "start", "status", "wait_for_drain",
]

# Names that are imported when they are first used, with their modules: every start of a worker would pay for them, and pydantic takes longer to
# import than many a script runs.
_LAZY = {
    "ControllerOptions": "config", "HTTPOptions": "config", "RunTarget": "_targets", "TracingConfig": "config", "batch": "batching",
    "go_deployment": "_go", "multiplexed": "multiplex",
}

# Submodules that are attributes without an import of their own, as after an import of Ray Serve.
_MODULES = frozenset((
    "autoscaling_policy", "batching", "config", "context", "exceptions", "experimental", "grpc_util", "handle", "metrics", "multiplex", "request_router",
    "schema",
))


def _load(name: str) -> Any:
    import importlib

    if name in _MODULES:
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as e:
            if e.name != f"{__name__}.{name}":
                raise
            raise KeyError(name) from None
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    return value


def __dir__() -> List[str]:
    return sorted({*__all__, *_MODULES})


if not TYPE_CHECKING:  # for a type checker it would be an attribute of any name
    __getattr__ = _refused.attributes(__name__, _load, (*__all__, *_MODULES))

_guard.install_hooks()
_starlette.complete()
_refused.install()
