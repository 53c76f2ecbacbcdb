"""The module ``ray.runtime_env``."""

from __future__ import annotations

from typing import Any

from helve import _refused


class RuntimeEnv(dict):
    """A runtime environment. It is the dict of its arguments."""

    def __init__(self, **fields: Any):
        super().__init__({k: v for k, v in fields.items() if v is not None})


__all__ = ["RuntimeEnv"]
__getattr__ = _refused.attributes("ray.runtime_env", known=__all__)
