"""Configuration classes, with Ray Serve's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from helve import _limits


@dataclass
class HTTPOptions:
    """The address at which the node serves HTTP. With port None it does not."""

    host: str = "127.0.0.1"
    port: Optional[int] = 8000

    def __post_init__(self) -> None:
        self.host = _limits.text("http_options: host", self.host)
        if self.port is not None:
            self.port = _limits.integer("http_options: port", self.port, 0, 65535)


__all__ = ["HTTPOptions"]
