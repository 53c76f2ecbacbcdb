"""serve.run_many, the arguments of serve.run, serve.start and serve.delete, and the lines that serve.run prints."""

import inspect
import os
import time

import pytest

from helve import serve
from helve.serve._checks import say
from helve.serve._deploying import Progress
from helve.serve.exceptions import RayServeException


@pytest.fixture
def node():
    serve.start(http_options={"port": 0})
    yield
    serve.shutdown()


@serve.deployment
class Echo:
    def __init__(self, word="echo"):
        if word == "bad":
            raise ValueError("no words")
        self.word = word

    def __call__(self):
        return self.word


def test_several_applications_at_once(node, capfd):
    handles = serve.run_many([serve.RunTarget(Echo.bind("a"), name="a", route_prefix="/a"), serve.RunTarget(Echo.bind("b"), name="b", route_prefix="/b")])
    assert [h.remote().result() for h in handles] == ["a", "b"] and list(serve.status().applications) == ["a", "b"]
    assert capfd.readouterr().err.count("is ready at http://") == 2


def test_the_error_names_all_that_failed_and_the_others_run(node):
    targets = [serve.RunTarget(Echo.bind(w), name=n, route_prefix=f"/{n}") for n, w in (("a", "bad"), ("b", "good"), ("c", "bad"))]
    with pytest.raises(RuntimeError, match="(?s)application 'a':.*no words.*application 'c':.*no words"):
        serve.run_many(targets)
    assert {n: a.status.value for n, a in serve.status().applications.items()} == {"a": "DEPLOY_FAILED", "b": "RUNNING", "c": "DEPLOY_FAILED"}


def test_without_waiting(node):
    [h] = serve.run_many([serve.RunTarget(Echo.bind(), name="later", route_prefix=None)], wait_for_applications_running=False)
    assert "later" in serve.status().applications and h.remote().result() == "echo"


@pytest.mark.parametrize("targets, error, text", [
    ([], ValueError, "No applications provided"),
    ([Echo.bind()], TypeError, "must be a serve.RunTarget"),
    ([serve.RunTarget(Echo.bind()), serve.RunTarget(Echo.bind(), route_prefix="/b")], ValueError, "two applications have the name 'default'"),
    ([serve.RunTarget(Echo.bind(), name="a"), serve.RunTarget(Echo.bind(), name="b")], RayServeException, "two applications have the route_prefix '/'"),
    ([serve.RunTarget(Echo)], TypeError, "expects an `Application`"),
], ids=["none", "application", "names", "routes", "not bound"])
def test_mistakes_of_run_many(targets, error, text):
    with pytest.raises(error, match=text):
        serve.run_many(targets)


@pytest.mark.parametrize("prefix, text", [
    ("x", r"Invalid route_prefix 'x', must start with a forward slash"), ("/x/", "may not end with a trailing '/'"), ("/{x}", "may not contain wildcards"),
])
def test_mistakes_of_routes(prefix, text):
    with pytest.raises(ValueError, match=text):
        serve.run(Echo.bind(), route_prefix=prefix)


def test_a_route_has_one_application(node):
    serve.run(Echo.bind(), name="a", route_prefix="/x")
    with pytest.raises(RayServeException, match='Prefix /x is being used by application "a".*Failed to deploy application .b.'):
        serve.run(Echo.bind(), name="b", route_prefix="/x")
    with pytest.raises(RayServeException, match="Application name must a non-empty string"):
        serve.run(Echo.bind(), name="")
    with pytest.raises(RayServeException, match="Application 'none' does not exist"):
        serve.get_app_handle("none")


@pytest.mark.parametrize("function, names", [
    ("run", "target blocking name route_prefix logging_config _local_testing_mode external_scaler_enabled controller_options"),
    ("start", "proxy_location http_options grpc_options logging_config tracing_config controller_options address ignored"),
    ("run_many", "targets blocking wait_for_ingress_deployment_creation wait_for_applications_running _local_testing_mode controller_options"),
    ("delete", "name _blocking"), ("RunTarget", "target name route_prefix logging_config external_scaler_enabled"),
])
def test_arguments_have_the_order_of_the_reference(function, names):
    assert list(inspect.signature(getattr(serve, function)).parameters) == names.split()


def test_start_by_position_and_without_http(caplog):
    try:
        serve.start("Disabled")
        serve.run(Echo.bind())
        assert serve.status().proxies == {}
        serve.start("EveryNode", {"port": 0})
        assert "the other options have no effect" in caplog.text
    finally:
        serve.shutdown()
    with pytest.raises(ValueError, match="proxy_location"):
        serve.start("Nowhere")
    with pytest.raises(RayServeException, match="gRPC ingress is not there; use handles or HTTP"):
        serve.start(grpc_options={"grpc_servicer_functions": ["m.add"]})


def test_shutdown_on_a_loop():
    import asyncio

    serve.start(http_options={"port": None})
    serve.run(Echo.bind(), route_prefix=None)
    asyncio.run(serve.shutdown_async())
    assert not serve.status().applications


# ---- lines while serve.run waits


def deployment(ready=0, wanted=1, failures=0, waits=(), message=""):
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1000))
    return {
        "ready": ready, "wanted": wanted, "failures": failures, "max_failures": 3, "message": message,
        "replicas": [{"wait": {"for": w, "since": at}} for w in waits],
    }


def test_lines_come_after_two_seconds_when_the_text_has_changed_and_at_most_each_five():
    said = []
    p = Progress("a", 100.0, said.append)
    app = {"deployments": {"D": deployment(waits=["its constructor"])}}
    p.look(app, 101.9, 1001.9)
    assert said == []
    p.look(app, 102.0, 1003.0)
    assert said == ["Application 'a' waits for D (0 of 1 replicas ready; one waits for its constructor, for 3 s)."]
    p.look(app, 120.0, 1020.0)  # the text is the same but for the time
    changed = {"deployments": {"D": deployment(ready=1, wanted=2), "E": deployment()}}
    p.look(changed, 106.9, 1007.0)
    assert len(said) == 1
    p.look(changed, 121.0, 1021.0)
    assert said[1:] == ["Application 'a' waits for D (1 of 2 replicas ready), E (0 of 1 replicas ready)."]


def test_a_failed_attempt_is_a_block_at_once_and_the_same_error_is_not_repeated():
    said = []
    p = Progress("a", 100.0, said.append)
    for failures, message in ((1, "boom\n  File x"), (1, "boom\n  File x"), (2, "boom\n  File x"), (3, "boom")):
        p.look({"deployments": {"D": deployment(failures=failures, message=message)}}, 100.1, 1000.0)
    assert said == [
        "Application 'a': attempt 1 of 3 to start deployment D failed, trying again.\n    boom\n      File x",
        "Application 'a': attempt 2 of 3 to start deployment D failed as before, trying again.",
    ]  # the third is the error of serve.run


def test_what_a_slow_start_prints(node, capfd, tmp_path):
    @serve.deployment(name="Slow")
    class Slow:
        def __init__(self, path):
            while not os.path.exists(path):
                time.sleep(0.01)

    import threading

    gate = tmp_path / "gate"
    running = threading.Thread(target=serve.run, args=(Slow.bind(str(gate)),), kwargs={"name": "slow", "route_prefix": None})
    running.start()
    said = ""
    while "waits for Slow (0 of 1 replicas ready" not in said:
        said += capfd.readouterr().err
    gate.touch()
    running.join()


@pytest.mark.parametrize("call, function, options", [
    (lambda: serve.start(tracing_config={"a": 1}, controller_options={"b": 2}, detached=True), "serve.start", ["tracing_config", "controller_options", "detached"]),
    (lambda: serve.run(Echo, external_scaler_enabled=True, controller_options={"b": 2}), "serve.run", ["external_scaler_enabled", "controller_options"]),
    (
        lambda: serve.run_many([serve.RunTarget(Echo, external_scaler_enabled=True)], wait_for_ingress_deployment_creation=False, controller_options={"b": 2}),
        "serve.run_many", ["controller_options", "wait_for_ingress_deployment_creation", "external_scaler_enabled"],
    ),
    (lambda: serve.run_many([serve.RunTarget(Echo)]), "serve.run_many", []),
], ids=["start", "run", "run_many", "none"])
def test_options_without_effect_are_said_once(node, caplog, call, function, options):
    say.cache_clear()
    for _ in range(2):
        try:
            call()
        except TypeError:  # there is no application
            pass
    assert [r.getMessage() for r in caplog.records] == [f"{function}: {o} has no effect here; leave it out" for o in options]
