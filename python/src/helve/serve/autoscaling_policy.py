"""Policies for autoscaling, with Ray Serve's names. A deployment keeps its policy; the node does not call it yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple, Union

if TYPE_CHECKING:
    from helve.serve._autoscaling import AutoscalingContext

SERVE_AUTOSCALING_DECISION_COUNTERS_KEY = "__decision_counters"
SERVE_AUTOSCALING_DECISION_TIMESTAMP_KEY = "__decision_timestamp"
DEFAULT_PROMETHEUS_CACHE_TTL_S = 15.0
DEFAULT_PROMETHEUS_FETCH_INTERVAL_S = 5.0
DEFAULT_PROMETHEUS_QUERY_TIMEOUT_S = 5.0


def replica_queue_length_autoscaling_policy(ctx: "AutoscalingContext") -> Tuple[Union[int, float], Dict[str, Any]]:
    """The number of replicas at which each has `target_ongoing_requests` requests, and the policy's state for its next call.

    A step up or down is stretched or shortened by the factor of its direction. For example, 2 replicas with 12 requests and a target of 2 are
    to be 6; with an upscaling factor of 0.5 they are to be 4. A step up is taken when it has been due for `upscale_delay_s`, a step down for
    `downscale_delay_s`, and the last one to zero for `downscale_to_zero_delay_s`.

    Args:
        ctx: The view of the deployment.

    Returns:
        The number of replicas, and the state.
    """
    config, now = ctx.config, ctx.current_time or 0.0
    have, state = ctx.target_num_replicas, dict(ctx.policy_state)
    if config is None:
        return have, state
    least, most = ctx.capacity_adjusted_min_replicas, ctx.capacity_adjusted_max_replicas
    total, target = ctx.total_num_requests, config.get_target_ongoing_requests() or 1
    if have == 0:
        wanted = math.ceil(max(1, total / target)) if total > 0 else 0
    else:
        share = total / (target * have)
        factor = config.get_upscaling_factor() if share > 1 else config.get_downscaling_factor()
        wanted = math.ceil(have * (1 + (share - 1) * factor))
    wanted = max(least, min(most, wanted))
    if wanted == have:
        state.pop(SERVE_AUTOSCALING_DECISION_TIMESTAMP_KEY, None)
        return have, state
    up = wanted > have
    delay = config.upscale_delay_s
    if not up:
        delay = config.downscale_delay_s
        if wanted == 0:
            if have > 1:
                wanted = 1  # the last replica waits for its own delay
            elif config.downscale_to_zero_delay_s is not None:
                delay = config.downscale_to_zero_delay_s
    since = state.get(SERVE_AUTOSCALING_DECISION_TIMESTAMP_KEY)
    if since is None or since[0] != up:
        since = state[SERVE_AUTOSCALING_DECISION_TIMESTAMP_KEY] = [up, now]
    if have and now - since[1] < delay:
        return have, state
    state.pop(SERVE_AUTOSCALING_DECISION_TIMESTAMP_KEY)
    return wanted, state


default_autoscaling_policy = replica_queue_length_autoscaling_policy


@dataclass(frozen=True)
class PrometheusSample:
    """One sample of a query's answer.

    Attributes:
        labels: Labels of the series.
        value: Value of the sample.
        timestamp: Time of the sample, in seconds since 1970.
    """

    labels: Mapping[str, str]
    value: float
    timestamp: float


@dataclass(frozen=True)
class PrometheusScalar:
    """The answer to a query that is one number.

    Attributes:
        value: The number.
        timestamp: Its time, in seconds since 1970.
    """

    value: float
    timestamp: float


@dataclass(frozen=True)
class PrometheusVector:
    """The answer to a query that is several samples.

    Attributes:
        samples: The samples, one for each series.
    """

    samples: Tuple[PrometheusSample, ...]


PrometheusQueryResult = Union[PrometheusScalar, PrometheusVector]


class PrometheusQueryMixin:
    """A base class of policies that ask a Prometheus server. Its queries are kept, and asked when nodes call policies.

    Args:
        prometheus_address: URL of the server.
        prometheus_queries: Queries in PromQL.
        fetch_interval_s: Seconds between two questions. Default: 5.
        cache_ttl_s: Seconds for which an answer is good. Default: 15.
        **kwargs: Arguments of the other base classes.
    """

    def __init__(
        self, *, prometheus_address: Optional[str] = None, prometheus_queries: Optional[List[str]] = None,
        fetch_interval_s: float = DEFAULT_PROMETHEUS_FETCH_INTERVAL_S, cache_ttl_s: float = DEFAULT_PROMETHEUS_CACHE_TTL_S, **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.prometheus_address, self.prometheus_queries = prometheus_address, list(prometheus_queries or [])
        self.fetch_interval_s, self.cache_ttl_s = fetch_interval_s, cache_ttl_s

    @property
    def prometheus_results(self) -> Dict[str, PrometheusQueryResult]:
        """The answers by query: none, until nodes call policies."""
        return {}

    @property
    def prometheus_metrics(self) -> Dict[str, float]:
        """The answers that are one number, by query: none, until nodes call policies."""
        return {}


__all__ = [
    "PrometheusQueryMixin", "PrometheusQueryResult", "PrometheusSample", "PrometheusScalar", "PrometheusVector", "default_autoscaling_policy",
    "replica_queue_length_autoscaling_policy",
]
