"""The metrics that the program of this process has defined (helve.serve.metrics), and their reports to the node (docs/control.md, ``metrics``).

A change sets a number in memory. Once a second at most, the series that have changed since the last report go to the node in one request, with their
present values; so does the rest when the process ends. For example, 10,000 calls of ``inc()`` within a second are one number of one request.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import math
import os
import threading
from bisect import bisect_left
from typing import Any, Optional

from helve import _runtime

PERIOD = 1.0  # seconds between reports
MOST = 2000  # number of series of a process: the node keeps no more
END = 1.0  # seconds that the end of a driver waits for its last report

logger = logging.getLogger("helve.serve")
_lock = threading.RLock()  # a __del__ or a signal handler may count in the middle of another change of its thread
_families: dict[tuple, "Family"] = {}  # by kind, name, keys of tags, boundaries
_count = 0  # of series
_changed: set = set()  # series
_number = 0  # of the last report
_scheduled: Optional[Any] = None  # the connection whose loop has a report to make
_warned = False


class Series:
    """The numbers of one series. buckets and sum are a histogram's."""

    __slots__ = ("family", "values", "value", "buckets", "sum")

    def __init__(self, family: "Family", values: tuple):
        self.family, self.values = family, values
        self.reset()

    def reset(self) -> None:
        self.value = self.sum = 0.0
        self.buckets = [0] * (len(self.family.bounds) + 1) if self.family.bounds else None

    def add(self, value: float) -> None:
        with _lock:
            self.value += value
            _changed.add(self)
        _schedule()

    def set(self, value: float) -> None:
        with _lock:
            self.value = value
            _changed.add(self)
        _schedule()

    def observe(self, value: float) -> None:
        with _lock:
            self.buckets[bisect_left(self.family.bounds, value)] += 1
            self.sum += value
            _changed.add(self)
        _schedule()

    def observe_all(self, values: list) -> None:
        bounds = self.family.bounds
        with _lock:
            for value in values:
                self.buckets[bisect_left(bounds, value)] += 1
                self.sum += value
            _changed.add(self)
        _schedule()

    def shown(self, more: tuple) -> dict:
        if self.buckets is not None:
            return {"values": [*self.values, *more], "buckets": self.buckets, "sum": _number_of(self.sum)}
        return {"values": [*self.values, *more], "value": _number_of(self.value)}


def _in_child() -> None:
    """Runs after a fork. The numbers so far are the parent's, which reports them: the child would double them. Its lock may be held by a thread
    that does not exist in the child.
    """
    global _lock, _scheduled
    _lock, _scheduled = threading.RLock(), None
    _changed.clear()
    for f in _families.values():
        for s in f.series.values():
            s.reset()


os.register_at_fork(after_in_child=_in_child)


def _number_of(value: float) -> Any:
    """The value as JSON, which has no NaN and no infinities."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


class Family:
    """The series of one name. Two metrics of one name and kind in a process share them."""

    def __init__(self, kind: str, name: str, help: str, keys: tuple, bounds: tuple):
        self.kind, self.name, self.help, self.keys, self.bounds = kind, name, help, keys, bounds
        self.series: dict[tuple, Series] = {}
        self.lost = Series(self, ())  # takes the changes of series above MOST

    def at(self, values: tuple) -> Series:
        series = self.series.get(values)
        return series if series is not None else self._make(values)

    def _make(self, values: tuple) -> Series:
        global _count, _warned
        with _lock:
            if values in self.series:
                return self.series[values]
            if _count < MOST:
                _count += 1
                made = self.series[values] = Series(self, values)
                return made
            warn, _warned = not _warned, True
        if warn:
            logger.warning("metric %r: the program has more than %d series of metrics, and the others are not reported: use tags that have fewer values", self.name, MOST)
        return self.lost


def family(kind: str, name: str, help: str, keys: tuple, bounds: tuple) -> Family:
    key = (kind, name, keys, bounds)
    with _lock:
        found = _families.get(key)
        if found is None:
            found = _families[key] = Family(kind, name, help, keys, bounds)
        return found


def _schedule() -> None:
    """Has a report made on the loop of the connection, unless that is to happen already."""
    global _scheduled
    conn = _runtime.connection
    if conn is None or _scheduled is conn or conn.lost is not None:
        return
    _scheduled = conn
    conn.post(conn.loop.call_later, PERIOD, _report, conn)


def _report(conn: Any) -> None:
    """Sends the report that was scheduled. It runs on the connection's loop."""
    global _scheduled
    _scheduled = None
    if conn.over is None and conn is _runtime.connection:
        send(conn)


def again() -> None:
    """The connection is to another node, which knows nothing: all series go to it."""
    with _lock:
        for f in _families.values():
            _changed.update(f.series.values())
    if _changed:
        _schedule()


def send(conn: Any) -> Optional[Any]:
    """Sends the changes now, and returns the future of the answer; None if there is nothing to send. It runs on the connection's loop."""
    request = _taken()
    if request is None:
        return None
    answer = conn.control("metrics", **request)
    answer.add_done_callback(_answered)
    return answer


def _answered(answer: Any) -> None:
    if answer.cancelled() or answer.exception() is not None:
        return
    error = (answer.result() or {}).get("error")
    if error:
        logger.warning("the node does not keep the metrics of this program: %s", error.get("message"))


def _taken() -> Optional[dict]:
    """A report of the changes, which then are none."""
    global _changed, _number
    replica = _runtime.replica
    own = {} if replica is None else {"application": replica.app_name, "deployment": replica.deployment, "replica": replica.replica_tag}
    with _lock:
        changed, _changed = _changed, set()
        families: dict = {}
        for series in changed:
            f = series.family
            if series is f.lost:
                continue
            tags = {k: v for k, v in own.items() if k not in f.keys}
            entry = families.get(id(f))
            if entry is None:
                entry = families[id(f)] = {
                    "name": f.name, "kind": f.kind, "help": f.help, "keys": [*f.keys, *tags], "bounds": list(f.bounds), "series": [],
                }
            entry["series"].append(series.shown(tuple(tags.values())))
        if not families:
            return None
        _number += 1
        report = {"number": _number, "metrics": list(families.values())}
        return json.loads(json.dumps(report))  # under the lock: the lists of buckets change


def finish() -> None:
    """Sends the last changes of a driver, and waits for the answer for a moment."""
    conn = _runtime.connection
    if _changed and conn is not None and conn.lost is None and threading.current_thread() is not conn.thread:
        done: concurrent.futures.Future = concurrent.futures.Future()

        def last() -> None:
            answer = send(conn) if conn.over is None else None
            if answer is None:
                done.set_result(None)
            else:
                answer.add_done_callback(lambda _: done.set_result(None))

        conn.post(last)
        try:
            done.result(END)
        except concurrent.futures.TimeoutError:
            pass


__all__ = ["Family", "Series", "again", "family", "finish", "send"]
