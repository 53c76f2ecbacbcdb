"""The module ``ray.util``."""

from __future__ import annotations

import importlib
from typing import Any

from helve import _refused
from helve.raycompat.context import get_node_ip_address

__path__: list = []

__all__ = ["get_node_ip_address"]


def _load(name: str) -> Any:
    if name != "metrics":
        raise KeyError(name)
    return importlib.import_module("ray.util.metrics")


__getattr__ = _refused.attributes("ray.util", _load)
