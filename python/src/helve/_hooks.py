"""The methods for the life of a replica that a class may have: reconfigure(user_config), check_health() and check_ready()."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from typing import Any, Optional

from helve._errors import RayServeException

CHECKS = {"check_health": "health check", "check_ready": "readiness check"}  # for messages
NUMBERS = "record_autoscaling_stats"  # the method that gives numbers to autoscaling policies
DEFINITION = "__helve_ingress__"  # the attribute of a class that serve.ingress has made

_BLANK = re.compile(r"[\s,:]*")


def raw_field(text: str, name: str) -> Optional[str]:
    """The text of a field of a JSON object, unchanged. The object was parsed before."""
    decoder, p = json.JSONDecoder(), text.index("{") + 1
    while text[p:].lstrip()[:1] not in ("}", ""):
        key, p = decoder.raw_decode(text, _BLANK.match(text, p).end())
        start = _BLANK.match(text, p).end()
        _, p = decoder.raw_decode(text, start)
        if key == name:
            return text[start:p]
        p = _BLANK.match(text, p).end()
    return None


def compact(text: str) -> str:
    """JSON without the white space between its values. It looks at quotes only: a config may be one string of many
    megabytes.
    """
    out, p = [], 0
    while (begin := text.find('"', p)) >= 0:
        end = begin
        while True:
            end = slash = text.index('"', end + 1)
            while text[slash - 1] == "\\":
                slash -= 1
            if (end - slash) % 2 == 0:
                break
        out += ("".join(text[p:begin].split()), text[begin : end + 1])
        p = end + 1
    return "".join(out) + "".join(text[p:].split())


def digest(config: Optional[str]) -> str:
    """SHA-256 over a user config without its white space; "" for none. Nodes compute the same (docs/wire.md)."""
    if config is None:
        return ""
    return hashlib.sha256(compact(config).encode()).hexdigest()


def hook(target: Any, name: str):
    """The function of a class, or None."""
    return getattr(target, name, None) if inspect.isclass(target) else None


def no_reconfigure(target: Any, deployment: str) -> RayServeException:
    if not inspect.isclass(target):
        return RayServeException(f"user_config is set, but deployment {deployment} is a function")
    return RayServeException(f"user_config is set, but {target.__qualname__} has no method reconfigure(user_config)")


__all__ = ["CHECKS", "DEFINITION", "NUMBERS", "digest", "hook", "no_reconfigure", "raw_field"]
