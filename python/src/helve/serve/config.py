"""Configuration classes, with the reference's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass
class HTTPOptions:
    """Where the node serves HTTP. port None: nowhere."""

    host: str = "127.0.0.1"
    port: Optional[int] = 8000


__all__ = ["HTTPOptions"]
