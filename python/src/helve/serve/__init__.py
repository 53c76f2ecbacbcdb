"""``from helve import serve``."""

from helve import _starlette
from helve.serve.api import delete, get_app_handle, get_deployment_handle, run, shutdown, start, status
from helve.serve.batching import batch
from helve.serve.context import draining, get_multiplexed_model_id, get_replica_context, get_trace_context, wait_for_drain
from helve.serve.deployment import Application, Deployment, deployment
from helve.serve.ingress import ingress
from helve.serve.multiplex import multiplexed

__all__ = [
    "Application", "Deployment", "HTTPOptions", "batch", "delete", "deployment", "draining", "get_app_handle", "get_deployment_handle",
    "get_multiplexed_model_id", "get_replica_context", "get_trace_context", "ingress", "multiplexed", "run", "shutdown", "start", "status", "wait_for_drain",
]

_starlette.complete()


def __getattr__(name: str):
    if name in ("HTTPOptions", "ControllerOptions", "TracingConfig"):  # pydantic models, loaded when they are used
        from helve.serve import config

        return getattr(config, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
