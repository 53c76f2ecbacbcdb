"""The targets of serve.run_many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

if TYPE_CHECKING:
    from helve.serve.config import LoggingConfig
    from helve.serve.deployment import Application


@dataclass
class RunTarget:
    """An application for `serve.run_many`, with the arguments that `serve.run` has for it.

    Attributes:
        target: The application.
        name: Its name, which no other application of the node has.
        route_prefix: Path below which HTTP requests reach it; None for no HTTP.
        logging_config: Logging of its replicas, a `LoggingConfig` or a dict of its fields.
        external_scaler_enabled: Without effect, which a warning says.
    """

    target: Application[Any]
    name: str = "default"
    route_prefix: Optional[str] = "/"
    logging_config: Union[None, Dict[str, Any], "LoggingConfig"] = None
    external_scaler_enabled: bool = False


__all__ = ["RunTarget"]
