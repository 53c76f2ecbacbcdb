"""The metrics of a node in a real Prometheus: python run.py [--prometheus BINARY]. make test-metrics runs it.

Prometheus scrapes a node under load each second. Every query of the panels of Ray's dashboards for Serve (ray_panels.txt) and of deploy/grafana/helve.json has to return data,
and so has the left side of every alert rule. Then a replica is killed, calls pile up, and a replica crashes again and again: the rule that is meant for each has to fire, and
none of them before. A minute of a window or of a wait is six seconds here: the expressions are the same otherwise.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from ports import free_port  # noqa: E402

GRAFANA = HERE.parents[2] / "deploy" / "grafana"
LIMIT = 90  # seconds for each wait

# Queries of Ray's panels that have no data here, by a part of their text.
NONE = {
    "ray_serve_num_grpc_": "there is no gRPC ingress",
    "ray_serve_grpc_": "there is no gRPC ingress",
    "ray_serve_num_ongoing_grpc_": "there is no gRPC ingress",
}


def get(url, **parameters):
    with urllib.request.urlopen(url + ("?" + urllib.parse.urlencode(parameters) if parameters else ""), timeout=LIMIT) as r:
        return json.load(r)


def await_(what, look):
    """The result of look as soon as it is true."""
    end = time.monotonic() + LIMIT
    while True:
        try:
            found = look()
        except (OSError, http.client.HTTPException):  # it does not listen yet, or a busy machine lets it wait
            found = None
        if found:
            return found
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {LIMIT} s")
        time.sleep(0.25)


def short(expression):
    """The expression with the windows of the test, and all applications and deployments."""
    expression = expression.replace("$__rate_interval", "5m")
    expression = re.sub(r"\[(5|10)m\]", lambda m: f"[{6 * int(m[1])}s]", expression)
    return re.sub(r"\$\w+", ".*", expression)


class Prometheus:
    def __init__(self, binary, directory, target):
        self.url = f"http://127.0.0.1:{free_port()}"
        rules = re.sub(r"for: (\d+)m", lambda m: f"for: {6 * int(m[1])}s", short((GRAFANA / "alerts.yml").read_text().replace("{{ $", "{{ @")).replace("{{ @", "{{ $"))
        (directory / "alerts.yml").write_text(rules)
        (directory / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yml]\n"
            f"scrape_configs: [{{job_name: helve, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        self.log = open(directory / "prometheus.log", "w")
        self.process = subprocess.Popen(
            [binary, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data", f"--web.listen-address={self.url[7:]}",
             "--enable-feature=exemplar-storage"], stdout=self.log, stderr=self.log,
        )

    def query(self, expression):
        return get(self.url + "/api/v1/query", query=expression)["data"]["result"]

    def firing(self):
        return {(a["labels"]["alertname"], a["labels"].get("application"), a["labels"].get("deployment")) for a in get(self.url + "/api/v1/alerts")["data"]["alerts"]}

    def rules(self):
        return [r for g in get(self.url + "/api/v1/rules")["data"]["groups"] for r in g["rules"]]


def load(url, done):
    """Requests until done: most are answered, every tenth fails. Calls go in batches, for models that do not all fit."""

    def one(i):
        r = urllib.request.Request(url + "/main", headers={"serve_multiplexed_model_id": "abc"[i % 3], "traceparent": f"00-{i + 1:032x}-{1:016x}-01"},
                                   data=b"fail" if i % 10 == 0 else b"x")
        try:
            urllib.request.urlopen(r, timeout=LIMIT).read()
        except urllib.error.HTTPError:
            pass

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        i = 0
        while not done.wait(0.2):
            list(pool.map(one, range(i, i + 4)))
            i += 4


def check_panels(prometheus):
    """Each query has data."""
    ray = [line for line in (HERE / "ray_panels.txt").read_text().splitlines() if not line.startswith("#")]
    ours = [t["expr"] for p in json.loads((GRAFANA / "helve.json").read_text())["panels"] for t in p["targets"]]
    rules = [re.split(r" (?:[<>]=?|==) \S+$", r["query"])[0] for r in prometheus.rules()]
    asked = 0
    for expression in [*ray, *ours, *rules]:
        reason = next((why for part, why in NONE.items() if part in expression), None)
        if reason:
            continue
        asked += 1
        await_(f"no data: {expression}", lambda: prometheus.query(short(expression)))
    print(f"{asked} queries have data")
    exemplars = get(prometheus.url + "/api/v1/query_exemplars", query="ray_serve_http_request_latency_ms_bucket", start=time.time() - 300, end=time.time())["data"]
    if not any("trace_id" in e["labels"] for series in exemplars for e in series["exemplars"]):
        sys.exit("no exemplar has a trace id")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--prometheus", default=shutil.which("prometheus"))
    binary = a.parse_args().prometheus
    if not binary:
        sys.exit("there is no prometheus: apt-get install prometheus")
    with tempfile.TemporaryDirectory() as name:
        run(binary, Path(name))


def fake_gpu(directory):
    """A tool of the driver that answers for one GPU, in front of a real one."""
    directory.mkdir()
    tool = directory / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, Fake GPU, 37, 1024, 15360'\n")
    tool.chmod(0o755)
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"


def run(binary, directory):
    fake_gpu(directory / "tools")
    admin = f"127.0.0.1:{free_port()}"
    os.environ.update(HELVE_ADMIN=admin, HELVE_RUNTIME_DIR=name_of(directory / "run"))
    import apps

    from helve import serve

    port = free_port()
    serve.start(http_options={"port": port})
    prometheus = Prometheus(binary, directory, admin)
    done = threading.Event()
    url = f"http://127.0.0.1:{port}"
    try:
        serve.run(apps.Main.bind(), name="main", route_prefix="/main")
        slow = serve.run(apps.Slow.bind(), name="slow", route_prefix=None)
        serve.run(apps.Crash.bind(), name="crash", route_prefix=None)
        threading.Thread(target=load, args=(url, done), daemon=True).start()
        await_("Prometheus has not scraped the node", lambda: prometheus.query("ray_serve_application_status"))
        check_panels(prometheus)
        mine = {"HelveBacklog", "HelveReplicaDied", "HelveCrashLoop", "HelveDown"}
        early = {name for name, *_ in prometheus.firing()} & mine
        if early:
            sys.exit(f"{early} fire already")
        await_("HelveRequestsFail does not fire", lambda: ("HelveRequestsFail", "main", None) in prometheus.firing())

        killed = serve.get_app_handle("main").pid.remote().result()
        os.kill(killed, signal.SIGKILL)
        await_("HelveReplicaDied does not fire", lambda: ("HelveReplicaDied", "main", "Main") in prometheus.firing())
        print("a killed replica: HelveReplicaDied")

        waiting = [slow.remote() for _ in range(150)]
        await_("HelveBacklog does not fire", lambda: ("HelveBacklog", "slow", "Slow") in prometheus.firing())
        print("a backlog: HelveBacklog")
        for w in waiting:
            w.cancel()

        def crash():
            try:
                serve.get_app_handle("crash").remote().result(timeout_s=10)
            except Exception:
                pass
            return ("HelveCrashLoop", "crash", "Crash") in prometheus.firing()

        await_("HelveCrashLoop does not fire", crash)
        print("a crash loop: HelveCrashLoop")
        if ("HelveCrashLoop", "main", "Main") in prometheus.firing():
            sys.exit("HelveCrashLoop fires for a replica that was killed once")
    finally:
        done.set()
        prometheus.process.terminate()
        serve.shutdown()
    await_("Prometheus has not ended", lambda: prometheus.process.poll() is not None)


def name_of(directory):
    directory.mkdir()
    return str(directory)


if __name__ == "__main__":
    main()
