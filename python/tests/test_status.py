"""serve.status() as objects: states, triggers, messages, times, and nothing when nothing runs."""

import json
import os
import time

import pytest
from eventually import eventually

from helve import serve
from helve.serve import _status
from helve.serve._status import ApplicationStatus, DeploymentStatus, DeploymentStatusTrigger, ServeStatus, seconds, status_of


@pytest.fixture
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


@serve.deployment
class Model:
    def __init__(self, word="good"):
        if word == "bad":
            raise ValueError("no weights")
        self.word = word

    def get(self):
        return self.word

    def pid(self):
        return os.getpid()

    def status(self):
        return serve.status()


def run(app, **options):
    return serve.run(app, name="status", route_prefix=None, **options)


def now():
    return serve.status().applications["status"]


def test_nothing_runs():
    assert serve.status() == ServeStatus(proxies={}, applications={}, target_capacity=None)


def test_an_application_that_runs(node):
    begun = time.time()
    handle = run(Model.options(num_replicas=2).bind())
    a = now()
    assert a.status == ApplicationStatus.RUNNING == "RUNNING" and a.message == "" and begun - 1 < a.last_deployed_time_s < time.time() + 1
    d = a.deployments["Model"]
    assert (d.status, d.status_trigger) == (DeploymentStatus.HEALTHY, DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED)
    assert d.replica_states == {"RUNNING": 2} and d.message == ""
    assert handle.status.remote().result() == serve.status()  # a replica sees the same


def test_the_first_deploy_fails_and_stays_until_it_is_deleted_or_deployed_again(node):
    with pytest.raises(RuntimeError, match="(?s)Deploying application status failed.*no weights"):
        run(Model.bind("bad"))
    a = now()
    assert a.status == ApplicationStatus.DEPLOY_FAILED and "ValueError: no weights" in a.message
    d = a.deployments["Model"]
    assert (d.status, d.status_trigger, d.replica_states) == ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED", {})
    assert d.message.startswith("The deployment failed to start 3 times in a row.") and 'raise ValueError("no weights")' in d.message
    with pytest.raises(serve.exceptions.DeploymentUnavailableError, match="no weights"):
        serve.get_app_handle("status").get.remote().result()
    serve.delete("status")
    assert not serve.status().applications
    with pytest.raises(RuntimeError, match="no weights"):
        run(Model.bind("bad"))
    assert run(Model.bind()).get.remote().result() == "good" and now().status == "RUNNING" and now().message == ""


def test_a_failed_update_shows_while_the_one_before_serves(node):
    handle = run(Model.bind())
    with pytest.raises(RuntimeError, match="no weights"):
        run(Model.bind("bad"))
    a = now()
    d = a.deployments["Model"]
    assert (a.status, d.status, d.status_trigger) == ("DEPLOY_FAILED", "DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
    assert 'raise ValueError("no weights")' in a.message and "ValueError: no weights" in d.message
    assert d.replica_states["RUNNING"] == 1 and handle.get.remote().result() == "good"
    run(Model.bind("new"))
    assert now().status == "RUNNING" and now().deployments["Model"].message == "" and handle.get.remote().result() == "new"


def test_a_deployment_without_replicas_makes_its_application_unhealthy(node, tmp_path):
    gate = tmp_path / "gate"

    @serve.deployment(health_check_period_s=0.05, health_check_timeout_s=5)
    class Sick:
        def __init__(self, gate):
            while not os.path.exists(gate):  # the second replica starts when the test has seen the state without one
                time.sleep(0.01)
            self.sick = False

        def check_health(self):
            if self.sick:
                raise RuntimeError("it is sick")

        def fall_ill(self):
            self.sick = True

    gate.touch()
    handle = run(Sick.bind(str(gate)))
    gate.unlink()
    handle.fall_ill.remote().result()
    seen = eventually(lambda: now() if now().status == "UNHEALTHY" else None)
    assert seen.deployments["Sick"].status_trigger in ("HEALTH_CHECK_FAILED", "CONFIG_UPDATE_COMPLETED", "UNSPECIFIED") and "it is sick" in seen.message
    gate.touch()
    eventually(lambda: now().status == "RUNNING")


def test_a_deploy_that_is_under_way_and_one_that_is_deleted(node, tmp_path):
    gate = tmp_path / "gate"

    @serve.deployment
    class Slow:
        def __init__(self, path):
            while not os.path.exists(path):
                time.sleep(0.01)

        async def block(self):
            import asyncio

            await asyncio.sleep(60)

    serve._run(Slow.bind(str(gate)), name="status", route_prefix=None, _blocking=False)
    a = eventually(lambda: now() if now().deployments["Slow"].replica_states else None)
    d = a.deployments["Slow"]
    assert (a.status, d.status, d.status_trigger, d.replica_states) == ("DEPLOYING", "UPDATING", "CONFIG_UPDATE_STARTED", {"STARTING": 1})
    gate.touch()
    eventually(lambda: now().status == "RUNNING")
    blocked = serve.get_app_handle("status").block.remote()
    serve.delete("status", _blocking=False)
    a = eventually(lambda: now() if now().status == "DELETING" else None)
    assert a.deployments["Slow"].status_trigger == "DELETING"
    blocked.cancel()
    eventually(lambda: not serve.status().applications)


def test_the_proxy_is_in_the_status():
    serve.start(http_options={"port": 0})
    try:
        serve.run(Model.bind(), name="status", route_prefix="/status")
        assert list(serve.status().proxies.values()) == ["HEALTHY"]
    finally:
        serve.shutdown()


def test_words_of_a_newer_node_stay_text():
    s = status_of({"applications": {"a": {
        "status": "RESTING", "message": "", "deployed_at": "2026-11-29T16:41:42.5Z",
        "deployments": {"D": {"status": "HEALTHY", "status_trigger": "NEW", "message": "", "replicas": [{"state": "DOZING"}]}},
    }}, "proxies": {"n": "HEALTHY"}})
    a = s.applications["a"]
    assert (a.status, a.deployments["D"].status_trigger, a.deployments["D"].replica_states) == ("RESTING", "NEW", {"DOZING": 1})
    assert json.dumps(s.proxies) == '{"n": "HEALTHY"}' and repr(s.proxies["n"]) == "<ProxyStatus.HEALTHY: 'HEALTHY'>"


@pytest.mark.parametrize("text, want", [
    ("1970-01-01T00:00:01Z", 1.0), ("1970-01-01T00:00:01.25Z", 1.25), ("1970-01-01T01:00:00.123456789+01:00", 0.123456789), ("1969-12-31T23:00:00-01:00", 0.0),
])
def test_times_of_the_node(text, want):
    assert seconds(text) == pytest.approx(want)


def test_all_words_are_there():
    assert {s.value for s in _status.ReplicaState} == {"STARTING", "UPDATING", "RECOVERING", "RUNNING", "STOPPING", "STOPPED", "PENDING_MIGRATION"}
    assert _status.TargetCapacityDirection.UP == "UP"
