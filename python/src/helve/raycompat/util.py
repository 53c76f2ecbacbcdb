"""The module ``ray.util``."""

import importlib
from typing import Any

from helve import _refused
from helve.raycompat.context import get_node_ip_address

__path__: list = []

__all__ = ["get_node_ip_address", "list_named_actors"]


def list_named_actors(all_namespaces: bool = False) -> list:
    """The names of the named actors that run: of this namespace, or dicts of all with their namespaces."""
    from helve.raycompat.actors import named

    return named(all_namespaces)


def _load(name: str) -> Any:
    if name != "metrics":
        raise KeyError(name)
    return importlib.import_module("ray.util.metrics")


__getattr__ = _refused.attributes("ray.util", _load)
