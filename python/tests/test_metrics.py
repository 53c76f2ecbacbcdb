"""serve.metrics: the classes, and their numbers on /metrics of a node."""

import gc
import http.client
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from eventually import eventually

from helve import _metrics, _runtime, serve
from helve.serve.metrics import Counter, Gauge, Histogram


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(_metrics, "_families", {})
    monkeypatch.setattr(_metrics, "_changed", set())
    monkeypatch.setattr(_metrics, "_count", 0)
    monkeypatch.setattr(_metrics, "_warned", False)


def reported():
    """The changes since the last report: (name, tags) to the numbers."""
    out = {}
    for m in (_metrics._taken() or {"metrics": []})["metrics"]:
        for s in m["series"]:
            tags = ",".join(f"{k}={v}" for k, v in zip(m["keys"], s["values"]))
            out[f"{m['kind']} {m['name']}{{{tags}}}"] = s.get("value", (s.get("buckets"), s.get("sum")))
    return out


@pytest.mark.parametrize("make, error, text", [
    (lambda: Counter(""), ValueError, "Empty name is not allowed"),
    (lambda: Counter(3), TypeError, "name of a metric must be str"),
    (lambda: Counter("a", tag_keys="x"), TypeError, "tag_keys should be a tuple type, got: <class 'str'>"),
    (lambda: Counter("a", tag_keys=["x"]), TypeError, "tag_keys should be a tuple type, got: <class 'list'>"),
    (lambda: Counter("a", tag_keys=(1,)), TypeError, "Tag keys must be str, got <class 'int'>."),
    (lambda: Counter("a", description=3), TypeError, "description"),
    (lambda: Histogram("a"), ValueError, "boundaries argument should be provided when using the Histogram class"),
    (lambda: Histogram("a", boundaries=[]), ValueError, "boundaries argument should be provided"),
    (lambda: Histogram("a", boundaries=[0, 1]), ValueError, "Invalid `boundaries` argument at index 0, [0, 1]. Use positive values"),
    (lambda: Histogram("a", boundaries=[1, -1]), ValueError, "at index 1"),
    (lambda: Histogram("a", boundaries=["x"]), TypeError, "boundaries"),
    (lambda: Counter("a").inc(0), ValueError, "value must be >0, got 0"),
    (lambda: Counter("a").inc(-1), ValueError, "value must be >0, got -1"),
    (lambda: Counter("a").inc("q"), TypeError, "value must be int or float, got <class 'str'>."),
    (lambda: Gauge("a").set("q"), TypeError, "value must be int or float, got <class 'str'>."),
    (lambda: Histogram("a", boundaries=[1]).observe(None), TypeError, "value must be int or float, got <class 'NoneType'>."),
    (lambda: Counter("a", tag_keys=("x", "y")).inc(), ValueError, "Missing value for tag key(s): x,y."),
    (lambda: Counter("a", tag_keys=("x", "y")).inc(tags={"x": "1"}), ValueError, "Missing value for tag key(s): y."),
    (lambda: Counter("a", tag_keys=("x",)).inc(tags={"x": 1}), TypeError, "Tag values must be str, got <class 'int'>."),
    (lambda: Counter("a", tag_keys=("x",)).inc(tags="x"), TypeError, "tags must be a dict"),
    (lambda: Counter("a").set_default_tags({"q": "1"}), ValueError, "Unrecognized tag key q."),
    (lambda: Counter("a", tag_keys=("q",)).set_default_tags({"q": 1}), TypeError, "Tag values must be str"),
    (lambda: Counter("a", tag_keys=("q",)).set_default_tags(3), TypeError, "tags must be a dict"),
])
def test_mistakes(make, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make()


@pytest.mark.parametrize("name", ["a b", "1a", "a-b"])
def test_a_wrong_name_is_a_warning(name):
    with pytest.warns(UserWarning, match="Invalid metric name"):
        c = Counter(name)
    c.inc()
    assert reported() == {}


def test_numbers():
    c, g, h = Counter("c", tag_keys=("x", "y")), Gauge("g"), Histogram("h", boundaries=[10, 1], tag_keys=("x",))
    c.set_default_tags({"x": "1", "y": "2"})
    c.inc()
    c.inc(2)
    c.inc(2.5, tags={"y": "3", "unknown": "is left out"})
    g.set(4)
    g.set(None)
    for value in (1, 0.5, 2, 11):
        h.observe(value, tags={"x": "a"})
    assert reported() == {"counter c{x=1,y=2}": 3, "counter c{x=1,y=3}": 2.5, "gauge g{}": 4, "histogram h{x=a}": ([2, 1, 1], 14.5)}
    assert reported() == {}
    c.inc()
    assert reported() == {"counter c{x=1,y=2}": 4}


def test_numbers_that_json_does_not_have():
    Gauge("a").set(float("nan"))
    Gauge("b").set(float("-inf"))
    assert reported() == {"gauge a{}": "NaN", "gauge b{}": "-Infinity"}


def test_two_objects_of_one_name_share_their_series():
    Counter("c").inc()
    pickle.loads(pickle.dumps(Counter("c", "text"))).inc()
    gc.collect()
    assert reported() == {"counter c{}": 2}


def test_default_tags_that_change():
    c = Counter("c", tag_keys=("x",)).set_default_tags({"x": "1"})
    c.inc()
    c.set_default_tags({"x": "2"})
    c.inc()
    assert reported() == {"counter c{x=1}": 1, "counter c{x=2}": 1}


def test_info():
    assert Counter("c", "text", ("x",)).set_default_tags({"x": "1"}).info == {
        "name": "c", "description": "text", "tag_keys": ("x",), "default_tags": {"x": "1"},
    }
    assert Histogram("h", boundaries=[1, 2]).info == {"name": "h", "description": "", "tag_keys": (), "default_tags": {}, "boundaries": [1, 2]}


def test_the_number_of_series_is_bounded(caplog):
    c = Counter("c", tag_keys=("client",))
    for i in range(_metrics.MOST + 10):
        c.inc(tags={"client": str(i)})
    assert len(reported()) == _metrics.MOST
    assert [r.message for r in caplog.records if "use tags that have fewer values" in r.message] != []
    assert len(caplog.records) == 1


def test_threads():
    c = Counter("c")
    threads = [threading.Thread(target=lambda: [c.inc() for _ in range(1000)]) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert reported() == {"counter c{}": 4000}


class Connection:
    """A connection whose loop runs scheduled functions when the test wants it."""

    def __init__(self):
        self.lost = self.over = None
        self.loop, self.thread = self, None
        self.delayed, self.sent = [], []

    def post(self, fn, *args):
        fn(*args)

    def call_later(self, delay, fn, *args):
        self.delayed.append((delay, fn, args))

    def control(self, op, **fields):
        self.sent.append((op, fields))
        return self

    def add_done_callback(self, fn):
        pass


def test_many_changes_are_one_report(monkeypatch):
    conn = Connection()
    monkeypatch.setattr(_runtime, "connection", conn)
    monkeypatch.setattr(_metrics, "_scheduled", None)
    c = Counter("c")
    for _ in range(1000):
        c.inc()
    [(delay, fn, args)] = conn.delayed
    assert (delay, conn.sent) == (_metrics.PERIOD, [])
    fn(*args)
    c.inc()
    assert [(op, f["metrics"][0]["series"]) for op, f in conn.sent] == [("metrics", [{"values": [], "value": 1000}])]
    assert len(conn.delayed) == 2
    conn.delayed[1][1](*conn.delayed[1][2])
    assert conn.sent[1][1]["number"] > conn.sent[0][1]["number"]
    other = Connection()
    monkeypatch.setattr(_runtime, "connection", other)
    _metrics.again()
    other.delayed[0][1](*other.delayed[0][2])
    assert other.sent[0][1]["metrics"][0]["series"] == [{"values": [], "value": 1001}]


@serve.deployment(num_replicas=2, graceful_shutdown_timeout_s=5)
class Model:
    def __init__(self):
        self.calls = Counter("test_calls", description="Of the test.", tag_keys=("kind",))
        self.size = Gauge("test_size")
        self.took = Histogram("test_took_ms", boundaries=[1, 10])

    def __call__(self, kind="a"):
        self.calls.inc(tags={"kind": kind})
        self.size.set(3)
        self.took.observe(5)
        return kind


ATTACHED = """
from helve import serve
from helve.serve.metrics import Counter
serve.status()
Counter("test_driver").inc(7)
"""


def scrape(directory):
    """The lines of the node's metrics that programs of this file have defined."""
    return [line for line in scrape_all(directory) if "ray_test_" in line]


def scrape_all(directory):
    """The lines of the node's metrics."""
    [path] = [p for p in directory.glob("*/admin.sock")] or [None]

    class Local(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(path))

    conn = Local("localhost")
    conn.request("GET", "/metrics")
    text = conn.getresponse().read().decode()
    conn.close()
    return text.splitlines()


def total(lines, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def reported_by_all(lines):
    """Whether all numbers of the test are there, and those of its replicas without the names of the replicas, which have gone."""
    of_replicas = [line for line in lines if line.startswith(("ray_test_calls", "ray_test_took", "ray_test_size"))]
    return total(lines, "ray_test_calls_total{") == 11 and total(lines, "ray_test_driver_total") == 12 and all('replica=""' in line for line in of_replicas)


def test_a_node_shows_them(tmp_path, monkeypatch):
    """The last changes of a replica that ends normally are there, and its counters stay when it has gone."""
    monkeypatch.setenv("HELVE_RUNTIME_DIR", str(tmp_path))
    serve.start(http_options={"port": None})
    try:
        handle = serve.run(Model.bind(), name="app", route_prefix=None)
        for i in range(10):
            handle.remote("ab"[i % 2]).result()
        Counter("test_driver").inc(5)
        serve.run(Model.options(num_replicas=1, user_config=None, version="2").bind(), name="other", route_prefix=None).remote("c").result()
        serve.delete("app")
        serve.delete("other")
        _metrics.finish()
        subprocess.run([sys.executable, "-c", ATTACHED], check=True, timeout=60)
        # A report of a process that has ended is on its way to the node for a moment.
        lines = eventually(lambda: (found := scrape(tmp_path)) and reported_by_all(found) and found)
        serve.shutdown()
        serve.start(http_options={"port": None})
        _metrics.finish()
        eventually(lambda: "ray_test_driver_total 5" in scrape(tmp_path))  # the next node knows nothing of the first program
    finally:
        serve.shutdown()
    assert "# TYPE ray_test_calls_total counter" in lines
    assert "# HELP ray_test_calls_total Of the test." in lines
    calls = [line for line in lines if line.startswith("ray_test_calls_total{")]
    assert sorted(calls) == [
        'ray_test_calls_total{application="app",deployment="Model",kind="a",replica=""} 5',
        'ray_test_calls_total{application="app",deployment="Model",kind="b",replica=""} 5',
        'ray_test_calls_total{application="other",deployment="Model",kind="c",replica=""} 1',
    ]
    assert total(lines, 'ray_test_took_ms_count{application="app"') == 10
    assert total(lines, 'ray_test_took_ms_bucket{application="app",deployment="Model",replica="",le="10"') == 10
    assert "ray_test_driver_total 12" in lines
    assert [line for line in lines if line.startswith("ray_test_size{")] == []


def test_a_forked_child_does_not_report_its_parents_numbers():
    c, h = Counter("c"), Histogram("h", boundaries=[1])
    c.inc(5)
    h.observe(0.5)
    read, write = os.pipe()
    locked, go_on = threading.Event(), threading.Event()

    def hold():
        with _metrics._lock:
            locked.set()
            go_on.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait()
    try:
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(20)
                before = reported()
                c.inc(2)
                os.write(write, repr((before, reported())).encode())
            finally:
                os._exit(0)
    finally:
        go_on.set()
        holder.join()
    os.close(write)
    with open(read) as said:
        assert said.read() == repr(({}, {"counter c{}": 2.0}))
    os.waitpid(pid, 0)
    assert reported() == {"counter c{}": 5, "histogram h{}": ([1, 0], 0.5)}


def test_a_change_in_the_middle_of_another_change_of_the_same_thread():
    """As a signal handler does it, or the __del__ of an object that the cyclic collector ends."""
    c, over = Counter("c"), threading.Event()

    def run():
        with _metrics._lock:
            c.inc()
        over.set()

    threading.Thread(target=run, daemon=True).start()
    assert over.wait(20) and reported() == {"counter c{}": 1.0}
