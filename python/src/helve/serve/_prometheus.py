"""Questions to a Prometheus server, for policies of autoscaling."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.parse
import urllib.request
from typing import Any, Dict, List, Tuple

from helve.serve.autoscaling_policy import PrometheusQueryResult, PrometheusSample, PrometheusScalar, PrometheusVector

logger = logging.getLogger("helve.serve")


class Asker:
    """Asks queries in periods, on a thread of its own that begins with the first read."""

    def __init__(self, address: str, queries: List[str], period: float, timeout: float):
        self.url = address.rstrip("/") + "/api/v1/query?"
        self.queries, self.period, self.timeout = queries, period, timeout
        self.answers: Dict[str, Tuple[float, PrometheusQueryResult]] = {}  # with the times at which they came
        self.failed: set = set()  # queries whose last question has failed
        self.first = threading.Event()
        self.begin = threading.Lock()
        self.begun = False

    def results(self, good_for: float) -> Dict[str, PrometheusQueryResult]:
        """The answers that are not older than a time in seconds."""
        with self.begin:
            if not self.begun:
                self.begun = True
                threading.Thread(target=self._run, name="helve-prometheus", daemon=True).start()
        self.first.wait(self.timeout)
        now = time.monotonic()
        return {query: result for query, (at, result) in list(self.answers.items()) if now - at <= good_for}

    def _run(self) -> None:
        while True:
            for query in self.queries:
                try:
                    self.answers[query] = time.monotonic(), self._ask(query)
                    self.failed.discard(query)
                except Exception as e:  # of the network, or an answer that is none
                    if query not in self.failed:  # the first of several in a row
                        logger.warning("the query %r to Prometheus at %s has failed: %s", query, self.url.partition("/api/")[0], e)
                    self.failed.add(query)
            self.first.set()
            time.sleep(self.period)

    def _ask(self, query: str) -> PrometheusQueryResult:
        with urllib.request.urlopen(self.url + urllib.parse.urlencode({"query": query}), timeout=self.timeout) as answer:
            return parse(json.load(answer))


def parse(answer: Dict[str, Any]) -> PrometheusQueryResult:
    """The result in an answer of Prometheus. A scalar is [time, "number"], and a vector has one of these for each series."""
    if answer.get("status") != "success":
        raise ValueError(answer.get("error") or "the answer is none of Prometheus")
    kind, result = answer["data"]["resultType"], answer["data"]["result"]
    if kind == "scalar":
        return PrometheusScalar(float(result[1]), float(result[0]))
    if kind == "vector":
        return PrometheusVector(tuple(PrometheusSample(s["metric"], float(s["value"][1]), float(s["value"][0])) for s in result))
    raise ValueError(f"the answer is a {kind}, and must be a scalar or a vector")


__all__ = ["Asker", "parse"]
