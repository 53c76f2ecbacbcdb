"""Policies for autoscaling, with Ray Serve's names. The node calls the policy of a deployment in a process beside the replicas."""

from __future__ import annotations

import math
import os
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
    """The number of replicas at which each has `target_ongoing_requests` requests, and an empty state.

    For example, 12 requests with a target of 2 need 6 replicas, and 3 requests need 1.5. Factors, delays and bounds are applied to the answer of a policy
    by the node: a policy of your own may call this function and change its number.

    Args:
        ctx: The view of the deployment.

    Returns:
        The number of replicas, and the state.
    """
    config, total = ctx.config, ctx.total_num_requests
    if config is None:
        return ctx.target_num_replicas, {}
    wanted = total / (config.get_target_ongoing_requests() or 1)
    if ctx.current_num_replicas == 0:
        return (max(1, ctx.target_num_replicas, math.ceil(wanted)) if total > 0 else ctx.target_num_replicas), {}
    return wanted, {}


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
    """A base class of policies that ask a Prometheus server.

    A thread of the process of the policy asks the queries, from the first read on: that read waits for the first answers, and later ones do not wait. An
    answer that is older than `cache_ttl_s` is not there. For example, a server that is restarted for 10 s is not noticed; after 15 s without an answer
    `prometheus_metrics` is empty.

    Args:
        prometheus_address: URL of the server. Default: the variable RAY_PROMETHEUS_HOST, else http://localhost:9090.
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
        self.prometheus_address = prometheus_address or os.environ.get("RAY_PROMETHEUS_HOST") or "http://localhost:9090"
        self.prometheus_queries = list(prometheus_queries or [])
        self.fetch_interval_s, self.cache_ttl_s = fetch_interval_s, cache_ttl_s

    @property
    def prometheus_results(self) -> Dict[str, PrometheusQueryResult]:
        """The answers by query. A query without an answer that is good is not among them."""
        if not self.prometheus_queries:
            return {}
        from helve.serve import _prometheus

        asker = self.__dict__.get("_prometheus_asker")
        if asker is None:
            asker = self.__dict__["_prometheus_asker"] = _prometheus.Asker(
                self.prometheus_address, self.prometheus_queries, self.fetch_interval_s, DEFAULT_PROMETHEUS_QUERY_TIMEOUT_S,
            )
        return asker.results(self.cache_ttl_s)

    @property
    def prometheus_metrics(self) -> Dict[str, float]:
        """The answers that are one number, by query: a scalar, or the one sample of a vector."""
        numbers = {}
        for query, result in self.prometheus_results.items():
            if isinstance(result, PrometheusScalar):
                numbers[query] = result.value
            elif len(result.samples) == 1:
                numbers[query] = result.samples[0].value
        return numbers


__all__ = [
    "PrometheusQueryMixin", "PrometheusQueryResult", "PrometheusSample", "PrometheusScalar", "PrometheusVector", "default_autoscaling_policy",
    "replica_queue_length_autoscaling_policy",
]
