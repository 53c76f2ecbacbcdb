"""deploy/: what the manifests of Kubernetes, the unit of systemd and the Dockerfile say fits the command, its paths and its times. `make test-deploy` compares the
manifests with the schemas of Kubernetes.
"""

import configparser
import functools
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from helve import _driver

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
GRACE = 20  # seconds: the default of graceful_shutdown_timeout_s
SPARE = 10  # seconds for the ends of the workers, behind the drain


def documents():
    return [d for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for d in yaml.safe_load_all(file.read_text())]


WORKLOADS = [d for d in documents() if d["kind"] in ("Deployment", "StatefulSet")]
SERVICES = [d for d in documents() if d["kind"] == "Service"]
POD = {d["kind"]: d["spec"]["template"]["spec"] for d in WORKLOADS}
both = pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])


def container(kind):
    [found] = POD[kind]["containers"]
    return found


@functools.cache
def help_of(command):
    return subprocess.run([_driver.binary(), command, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout


def flags(words):
    """The flags of a command line with their values. Each must be one that the command has."""
    command, *rest = words
    found = {}
    for flag, value in zip(rest, [*rest[1:], ""]):
        if flag.startswith("--"):
            assert re.search(rf"(?<![\w-]){flag}\b", help_of(command)), f"helve {command} has no flag {flag}"
            found[flag] = value
    return found


def seconds(text):
    assert re.fullmatch(r"\d+s", text), text
    return int(text[:-1])


def unit():
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    text = (DEPLOY / "systemd" / "helve.service").read_text()
    parser.read_string(text)
    return parser, text


@both
def test_the_command_of_a_pod_listens_where_its_probes_ask(kind):
    c = container(kind)
    [port] = c["ports"]
    assert flags(c["args"])["--http"] == f"0.0.0.0:{port['containerPort']}"
    probes = {name: probe["httpGet"] for name, probe in c.items() if name.endswith("Probe")}
    assert all(p["port"] == port["name"] and p["path"] in ("/-/healthz", "/-/readyz") for p in probes.values()), probes
    assert probes["readinessProbe"]["path"] == "/-/healthz"
    # A node without an application is not healthy, and must not be restarted for that: see docs/http.md.
    assert ("livenessProbe" in probes) == ("startupProbe" in probes) == (kind == "Deployment")


@both
def test_a_pod_has_the_time_for_its_drain(kind):
    delay = seconds(flags(container(kind)["args"])["--drain-delay"])
    assert POD[kind]["terminationGracePeriodSeconds"] >= delay + GRACE + SPARE
    readiness = container(kind)["readinessProbe"]
    assert delay >= readiness["periodSeconds"] * readiness["failureThreshold"], "the listener closes before the pod is out of its services"


@both
def test_a_pod_is_bounded_and_has_the_directories_that_it_writes(kind):
    c, pod = container(kind), POD[kind]
    assert c["resources"]["limits"]["memory"] and c["resources"]["requests"].keys() == {"cpu", "memory"}
    assert pod["securityContext"]["runAsNonRoot"] and c["securityContext"]["readOnlyRootFilesystem"] and c["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounts = {m["mountPath"]: m["name"] for m in c["volumeMounts"]}
    claims = [t["metadata"]["name"] for d in WORKLOADS if d["kind"] == kind for t in d["spec"].get("volumeClaimTemplates", [])]
    assert set(mounts.values()) == {v["name"] for v in pod["volumes"]} | set(claims)
    env = {e["name"]: e["value"] for e in c["env"]}
    assert "/tmp" in mounts and env["HELVE_RUNTIME_DIR"] in mounts
    if kind == "StatefulSet":
        state = flags(c["args"])["--state-dir"]
        assert state.rpartition("/")[0] in mounts and mounts[state.rpartition("/")[0]] in claims and env["HELVE_NODE"] == state
        assert env["HELVE_CACHE"].startswith(state.rpartition("/")[0])


def test_services_find_their_pods():
    for service in SERVICES:
        pods = [d for d in WORKLOADS if service["spec"]["selector"].items() <= d["spec"]["template"]["metadata"]["labels"].items()]
        assert len(pods) == 1, service["metadata"]["name"]
        names = {p["name"] for p in container(pods[0]["kind"])["ports"]}
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= names
    for workload in WORKLOADS:
        assert workload["spec"]["selector"]["matchLabels"] == workload["spec"]["template"]["metadata"]["labels"]
    assert {"helve-nodes"} == {d["spec"]["serviceName"] for d in WORKLOADS if d["kind"] == "StatefulSet"} <= {s["metadata"]["name"] for s in SERVICES}


def test_the_unit_of_systemd():
    parser, text = unit()
    service = parser["Service"]
    binary, *words = shlex.split(service["ExecStart"])
    given = flags(words)
    assert (binary, given["--state-dir"]) == ("/usr/local/bin/helve", "/var/lib/" + service["StateDirectory"])
    assert (service["Type"], service["KillMode"], service["OOMPolicy"]) == ("notify", "mixed", "continue") and int(service["WatchdogSec"]) >= 10
    assert int(service["TimeoutStopSec"]) >= seconds(given["--drain-delay"]) + GRACE + SPARE
    for name, directory in (("HELVE_RUNTIME_DIR", "/run/" + service["RuntimeDirectory"]), ("HELVE_CACHE", "/var/cache/" + service["CacheDirectory"])):
        assert f"Environment={name}={directory}\n" in text
    upgrade = shlex.split(service["ExecReload"])
    assert flags(upgrade[1:]) == {"--state-dir": given["--state-dir"]} and upgrade[0] == upgrade[-1] == binary


def test_the_dockerfile():
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    given = flags(json.loads(re.search(r"^CMD (.*)$", text, re.M)[1]))
    assert f"EXPOSE {given['--http'].rpartition(':')[2]}\n" in text and f"HELVE_NODE={given['--state-dir']}\n" in text
    [user] = {POD[kind]["securityContext"]["runAsUser"] for kind in POD}
    assert f"--uid {user} " in text
