"""Counters, gauges and histograms of programs. `GET /metrics` of the node shows them, with the prefix `ray_` of the reference's exporter: the counter
`hits` is `ray_hits_total{application, deployment, replica, ...}`.

    class Model:
        def __init__(self):
            self.hits = serve.metrics.Counter("hits", description="Of the cache.", tag_keys=("model",))

        def __call__(self, name):
            self.hits.inc(tags={"model": name})

Series of replicas have the tags `application`, `deployment` and `replica` beside their own. A tag `route` without a value is the route of the request
that runs.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Dict, List, Optional, Tuple, Union

from helve import _metrics

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class Metric:
    """A metric with a name and the keys of its tags: the base class of the others."""

    _kind = ""

    def __init__(self, name: str, description: str = "", tag_keys: Optional[Tuple[str, ...]] = None):
        if not isinstance(name, str):
            raise TypeError(f"the name of a metric must be str, got {type(name)}")
        if len(name) == 0:
            raise ValueError("Empty name is not allowed. Please provide a metric name.")
        if tag_keys is None:
            tag_keys = ()
        if not isinstance(tag_keys, tuple):
            raise TypeError(f"tag_keys should be a tuple type, got: {type(tag_keys)}")
        for key in tag_keys:
            if not isinstance(key, str):
                raise TypeError(f"Tag keys must be str, got {type(key)}.")
        if not isinstance(description, str):
            raise TypeError(f"the description of metric {name!r} must be str, got {type(description)}")
        self._name, self._description, self._keys = name, description, tag_keys
        self._defaults: Dict[str, str] = {}
        self._plain: Any = None  # the series of the default tags
        self._discarded = not _NAME.fullmatch(name)
        if self._discarded:
            warnings.warn(
                f"Invalid metric name: {name}. Metric will be discarded and data will not be collected or published. "
                "Metric names can only contain letters, numbers, _, and :. Metric names cannot start with numbers.", UserWarning, stacklevel=3,
            )
        self._family = _metrics.family(self._kind, name, description, tag_keys, self._bounds())

    def _bounds(self) -> tuple:
        return ()

    @property
    def info(self) -> Dict[str, Any]:
        """The name, the description, the keys of the tags and the default tags."""
        return {"name": self._name, "description": self._description, "tag_keys": self._keys, "default_tags": dict(self._defaults)}

    def set_default_tags(self, default_tags: Dict[str, str]) -> "Metric":
        """Sets the values of tags that a change does not give.

        Args:
            default_tags: Values by the keys of the tags.

        Returns:
            The metric itself.

        Raises:
            ValueError: A key that the metric does not have.
            TypeError: A value that is no str.
        """
        self._check(default_tags)
        self._defaults, self._plain = dict(default_tags), None
        return self

    def _check(self, tags: Dict[str, str]) -> None:
        if not isinstance(tags, dict):
            raise TypeError(f"tags must be a dict of str, got {type(tags)}.")
        for key, value in tags.items():
            if key not in self._keys and key not in ("application", "deployment", "replica"):
                raise ValueError(f"Unrecognized tag key {key}.")
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value)}.")

    def _series(self, tags: Optional[Dict[str, str]]) -> Any:
        if not tags:
            if self._plain is not None:
                return self._plain
            tags = {}
        else:
            if not isinstance(tags, dict):
                raise TypeError(f"tags must be a dict of str, got {type(tags)}.")
            for given in tags.values():
                if not isinstance(given, str):
                    raise TypeError(f"Tag values must be str, got {type(given)}.")
        values: list = []
        missing: list = []
        for key in self._keys:
            value = tags.get(key)
            if value is None:
                value = self._defaults.get(key)
            if value is None and key == "route":
                value = _route()
            if value is None:
                missing.append(key)
            values.append(value)
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        series = self._family.lost if self._discarded else self._family.at(tuple(values))
        if not tags and "route" not in self._keys:
            self._plain = series
        return series

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_plain": None, "_family": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._family = _metrics.family(self._kind, self._name, self._description, self._keys, self._bounds())


def _route() -> str:
    """The route of the request that runs; "" without one."""
    from helve.serve import context

    request = getattr(context, "_get_serve_request_context", None)
    return getattr(request(), "route", "") if request is not None else ""


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError(f"value must be int or float, got {type(value)}.")
    return value


class Counter(Metric):
    """A number that grows: `counter.inc()`.

    Args:
        name: Name of the metric, letters, digits, _ and :, not beginning with a digit. Another name is a warning, and discards the metric.
        description: Text for people.
        tag_keys: Keys of the tags. Each change gives a value for each of them, but for those with a default.

    Raises:
        TypeError: An argument of a wrong type.
        ValueError: An empty name.
    """

    _kind = "counter"

    def inc(self, value: Union[int, float] = 1.0, tags: Optional[Dict[str, str]] = None) -> None:
        """Adds to the number.

        Args:
            value: The addend, above zero. Default: 1.
            tags: Values of the tags, by their keys. Default: those of `set_default_tags`.

        Raises:
            ValueError: A value that is not above zero, or a tag without a value.
            TypeError: A value that is no number, or a tag that is no str.
        """
        if type(value) is not float:
            _number(value)
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        self._series(tags).add(value)


class Gauge(Metric):
    """A number that is set: `gauge.set(3)`.

    Args:
        name: Name of the metric, as of `Counter`.
        description: Text for people.
        tag_keys: Keys of the tags.

    Raises:
        TypeError: An argument of a wrong type.
        ValueError: An empty name.
    """

    _kind = "gauge"

    def set(self, value: Optional[Union[int, float]], tags: Optional[Dict[str, str]] = None) -> None:
        """Sets the number.

        Args:
            value: The number. None sets nothing.
            tags: Values of the tags, by their keys. Default: those of `set_default_tags`.

        Raises:
            ValueError: A tag without a value.
            TypeError: A value that is no number, or a tag that is no str.
        """
        if value is not None:
            self._series(tags).set(_number(value))


class Histogram(Metric):
    """Counts numbers in buckets: `histogram.observe(12.5)`.

    Args:
        name: Name of the metric, as of `Counter`.
        description: Text for people.
        boundaries: Upper ends of the buckets, above zero. They must be given.
        tag_keys: Keys of the tags.

    Raises:
        TypeError: An argument of a wrong type.
        ValueError: An empty name, or boundaries that are not there or not above zero.
    """

    _kind = "histogram"

    def __init__(self, name: str, description: str = "", boundaries: Optional[List[float]] = None, tag_keys: Optional[Tuple[str, ...]] = None):
        if not boundaries:
            raise ValueError('boundaries argument should be provided when using the Histogram class. e.g., Histogram("name", boundaries=[1.0, 2.0])')
        for i, b in enumerate(boundaries):
            if not isinstance(b, (int, float)):
                raise TypeError(f"boundaries must be int or float, got {type(b)}.")
            if not b > 0:
                raise ValueError(f"Invalid `boundaries` argument at index {i}, {boundaries}. Use positive values for the arguments.")
        self.boundaries = list(boundaries)
        super().__init__(name, description, tag_keys)

    def _bounds(self) -> tuple:
        return tuple(sorted({float(b) for b in self.boundaries}))

    def observe(self, value: Union[int, float], tags: Optional[Dict[str, str]] = None) -> None:
        """Counts a number in its bucket.

        Args:
            value: The number.
            tags: Values of the tags, by their keys. Default: those of `set_default_tags`.

        Raises:
            ValueError: A tag without a value.
            TypeError: A value that is no number, or a tag that is no str.
        """
        self._series(tags).observe(_number(value))

    @property
    def info(self) -> Dict[str, Any]:
        """The name, the description, the keys of the tags, the default tags and the boundaries."""
        return {**super().info, "boundaries": self.boundaries}


__all__ = ["Counter", "Gauge", "Histogram"]
