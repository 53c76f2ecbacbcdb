"""The base of configuration classes that ignore fields that they do not have, as Ray Serve's do."""

from __future__ import annotations

import warnings
from typing import Any

from pydantic import BaseModel, model_validator

from helve._refused import close_names


class Fields(BaseModel):
    """A model that warns of fields that it ignores. For example, AutoscalingConfig(min_replica=2) is one that runs a single replica."""

    @model_validator(mode="before")
    @classmethod
    def _warn_of_unknown(cls, data: Any) -> Any:
        for name in data if isinstance(data, dict) else ():
            if name not in cls.model_fields and not str(name).startswith("_"):
                warnings.warn(f"{cls.__name__} has no field {name!r}, and ignores it{close_names(str(name), cls.model_fields)}", stacklevel=3)
        return data


__all__ = ["Fields"]
