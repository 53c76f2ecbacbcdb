"""The process that runs autoscaling policies: its answers, its failures, and its time limits."""

import asyncio
import base64
import collections
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

from helve._pickling import dumps, dumps_replacing
from helve._policies import PICKLE, STATE_MAX, Policies
from helve.serve import autoscaling_policy
from helve.serve.config import AutoscalingConfig
from helve.serve.handle import DeploymentID

free = threading.Event()


def by_queue(ctx):
    assert (ctx.deployment_id, ctx.deployment_name, ctx.app_name) == (DeploymentID("D", "shop"), "D", "shop")
    return ctx.total_num_requests / ctx.config.target_ongoing_requests, {"calls": ctx.policy_state.get("calls", 0) + 1}


def infinite(ctx):
    return 1, {"best": float("inf")}


def everything(ctx):
    [(replica, value)] = ctx.aggregated_metrics["tokens"].items()
    assert ctx.running_replicas == [replica] and ctx.raw_metrics["tokens"][replica][0].value == 1.0
    assert ctx.raw_metrics["tokens"][replica][0].timestamp == 99.0
    assert (ctx.current_num_replicas, ctx.target_num_replicas, ctx.capacity_adjusted_min_replicas, ctx.capacity_adjusted_max_replicas) == (1, 2, 0, 9)
    assert (ctx.total_queued_requests, ctx.total_running_requests, ctx.current_time, ctx.last_scale_up_time, ctx.last_scale_down_time) == (2, 10, 100.0, 90.0, None)
    assert ctx.config.policy.policy_function == "somewhere:f" and ctx.config.max_replicas == 9
    return value


class Counting:
    def __init__(self, step=1):
        self.step, self.calls = step, 0

    def __call__(self, ctx):
        self.calls += self.step
        return self.calls


class Asynchronous:
    async def __call__(self, ctx):
        await asyncio.sleep(0)
        return 4, {}


async def never(ctx):
    await asyncio.Event().wait()


def waits(ctx):
    free.wait()
    return 1


async def blocks(ctx):
    free.wait()


def raises(ctx):
    raise ValueError("no number")


def leaves(ctx):
    sys.exit(3)


def of_all(contexts):
    assert all(id == ctx.deployment_id for id, ctx in contexts.items())
    return {id: n for n, id in enumerate(contexts)}, {id: {"n": n} for n, id in enumerate(contexts)}


def others(contexts):
    return {DeploymentID("X", "shop"): 1}


def view(deployment="D", **fields):
    return {
        "app": "shop", "deployment": deployment, "current": 1, "target": 2, "running": ["D#1"], "total": 12, "queued": 2, "aggregated": {"tokens": {"D#1": 7}},
        "raw": {"tokens": {"D#1": [[99, 1]]}}, "least": 0, "most": 9, "last_up": 90, "last_down": None, "now": 100,
        "config": {"max_replicas": 9, "target_ongoing_requests": 4, "policy": {"policy_function": "somewhere:f", "policy_kwargs": {}}}, **fields,
    }


def policies(name="D", function=None, **more):
    function = function if isinstance(function, str) else f"{__name__}:{function.__name__}"
    p = Policies(None)
    p.question = {"policy": name, "of": {"function": function, **more}}
    return p


def ask(p, name="D", limit=60, views=None):
    return asyncio.run(p.ask({**p.question, "limit": limit, "views": views or [view()]}))


def answered(n, **states):
    return {"replicas": {"D": n}, "states": {"D": states} if states else {}}


def test_a_function_and_its_state():
    p = policies(function=by_queue)
    assert ask(p) == answered(3, calls=1)
    assert ask(p, views=[view(state={"calls": 4})]) == answered(3, calls=5)
    assert ask(policies(function=everything)) == answered(7)


def test_a_state_with_a_number_that_json_does_not_have():
    answer = ask(policies(function=infinite))
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert ask(policies(function=infinite), views=[view(state=answer["states"]["D"])]) == answer


@pytest.mark.parametrize("pickled", ["", "no base64", base64.b64encode(b"cnowhere\nClass\n.").decode()])
def test_a_state_that_cannot_be_read_begins_anew(pickled, capfd):
    p = policies(function=by_queue)
    assert ask(p, views=[view(state={PICKLE: pickled})]) == answered(3, calls=1)
    assert "the state of an autoscaling policy cannot be read, and begins anew: " in capfd.readouterr().err
    assert ask(p) == answered(3, calls=1)


def test_null_in_a_config_is_the_default():
    fields = dict.fromkeys(AutoscalingConfig.model_fields)
    assert ask(policies(function=by_queue), views=[view(config={**fields, "target_ongoing_requests": 4})]) == answered(3, calls=1)


def test_a_class_is_constructed_once():
    p = policies(function=Counting, kwargs={"step": 2})
    assert [ask(p)["replicas"]["D"] for _ in range(3)] == [2, 4, 6]
    assert ask(policies(function=Asynchronous)) == {"replicas": {"D": 4}, "states": {"D": {}}}


def test_a_policy_of_an_application():
    got = ask(policies("", of_all), "", views=[view("A"), view("B")])
    assert got == {"replicas": {"A": 0, "B": 1}, "states": {"A": {"n": 0}, "B": {"n": 1}}}


def test_the_shipped_policy():
    assert ask(policies(function="ray.serve.autoscaling_policy:default_autoscaling_policy")) == {"replicas": {"D": 3}, "states": {"D": {}}}


def load(function, **of):
    p = policies(function=function, **of)
    return asyncio.run(p.ask({**p.question, "load": True}))


def test_a_policy_is_loaded_and_not_called():
    assert load(raises) == {"loaded": True}
    assert load(Counting, kwargs={"step": 2}) == {"loaded": True}
    assert load("nowhere:f")["error"] == "ModuleNotFoundError: No module named 'nowhere'"
    assert "unexpected keyword argument 'steps'" in load(Counting, kwargs={"steps": 2})["error"]


@pytest.mark.parametrize("function, error", [
    (raises, "ValueError: no number"), (leaves, "it has raised SystemExit: 3"), ("nowhere:f", "ModuleNotFoundError: No module named 'nowhere'"),
    (f"{__name__}:STATE_MAX", f"{__name__}:STATE_MAX is a int, and must be a function or a class"),
])
def test_failures(function, error):
    assert ask(policies(function=function))["error"] == error


@pytest.mark.parametrize("value, error", [
    (None, "it must return a number of replicas, 0 or more, and has returned None"), ("3", "it must return a number"), (True, "it must return a number"),
    (-1, "it must return a number"), (float("nan"), "it must return a number"), ((1, {}, 2), "it must return (number, state), and has returned 3 values"),
    ((1, []), "its state must be a dict, and is a list"), ((1, {"a": "x" * STATE_MAX}), "its state has"),
])
def test_wrong_answers(value, error, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "by_queue", lambda ctx: value)
    assert ask(policies(function=f"{__name__}:by_queue"))["error"].startswith(error)


def test_wrong_answers_of_a_policy_of_an_application():
    assert ask(policies("", others), "")["error"].startswith("it has returned a number for Deployment(name='X', app='shop'), which is no autoscaled deployment")
    assert ask(policies("", f"{__name__}:raises_nothing"), "")["error"] == "it must return a dict from DeploymentID to number, and has returned a int"


def raises_nothing(contexts):
    return 3


def test_arguments_are_for_classes():
    assert "policy_kwargs are arguments of a class" in ask(policies(function=by_queue, kwargs={"a": 1}))["error"]


def test_a_state_that_json_does_not_have(monkeypatch):
    seen = []

    def keeps(ctx):
        seen.append(ctx.policy_state.get("window"))
        return 1, {"window": collections.deque([1, 2], 5)}

    monkeypatch.setattr(sys.modules[__name__], "by_queue", keeps)
    p = policies(function=f"{__name__}:by_queue")
    state = ask(p)["states"]["D"]
    assert list(state) == [PICKLE] and json.loads(json.dumps(state)) == state
    ask(p, views=[view(state=state)])
    assert seen == [None, collections.deque([1, 2], 5)]


def test_a_policy_that_is_late():
    """The call of a thread cannot be ended: no other begins before it has returned."""

    async def asked():
        p = policies(function=waits)
        question = {**p.question, "limit": 0.01, "views": [view()]}
        assert (await p.ask(question))["error"] == "it has not answered within 0.01 s"
        assert (await p.ask(question))["error"].endswith("has not returned")
        free.set()
        while p.calls:
            await asyncio.sleep(0.001)
        assert await p.ask({**question, "limit": 60}) == answered(1)
        p = policies(function=never)
        question["of"] = p.question["of"]
        for _ in range(2):  # a coroutine is cancelled
            assert (await p.ask(question))["error"] == "it has not answered within 0.01 s"
            while p.calls:
                await asyncio.sleep(0)

    asyncio.run(asked())


def start(code=None):
    answers, theirs = os.pipe()
    command = f"import os, sys; os.dup2(int(sys.argv[1]), 3); sys.path.insert(0, {os.path.dirname(__file__)!r}); from helve._policies import main; main()"
    process = subprocess.Popen([sys.executable, "-c", command, str(theirs)], stdin=subprocess.PIPE, pass_fds=[theirs], stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    process.stdin.write(json.dumps({"code": code}) + "\n")
    return process, os.fdopen(answers)


def put(process, id, policy, limit=60, function="test_policies:waits", entry="autoscaling_policy/D"):
    of = {"function": function, "entry": entry}
    process.stdin.write(json.dumps({"id": id, "policy": policy, "of": of, "limit": limit, "views": [view()]}) + "\n")
    process.stdin.flush()


def test_the_process(tmp_path):
    """The code of the program is found under its path, and an import path of a file takes its place."""
    code = tmp_path / "code"
    code.write_bytes(dumps({"autoscaling_policy/D": dumps_replacing(("__main__.local", lambda ctx: 5), lambda v: NotImplemented)}))
    process, answers = start(str(code))
    put(process, 1, "D", function="__main__.local")
    assert json.loads(answers.readline()) == {"id": 1, **answered(5)}
    put(process, 2, "E", function="json:dumps")
    assert "not JSON serializable" in json.loads(answers.readline())["error"]
    put(process, 3, "F")  # holds up no other
    put(process, 4, "D", function="__main__.local")
    assert json.loads(answers.readline())["id"] == 4
    process.stdin.close()
    assert process.wait() == 0


@pytest.mark.parametrize("function", ["waits", "blocks"])
def test_a_process_ends_whose_policy_does_not_return(function):
    """No other question comes, and a policy that blocks the event loop holds up the end no more than one in a thread."""
    process, answers = start()
    put(process, 1, "D", 0.05, function=f"test_policies:{function}")
    assert process.wait() == 1
    assert "an autoscaling policy has not returned for 0.15 s, 3 times its timeout_s: its process ends" in process.stderr.read()


def test_a_process_goes_on_whose_policy_was_late():
    process, answers = start()
    put(process, 9, "D", 60, function="test_policies:raises")
    assert json.loads(answers.readline())["id"] == 9  # the module is imported
    for id in range(1, 4):  # a coroutine that is cancelled does not run any more
        put(process, id, "D", 0.05, function="test_policies:never")
        assert "it has not answered" in json.loads(answers.readline())["error"]
    put(process, 4, "D", 60, function="test_policies:raises")
    put(process, 5, "E", 60, function="json:loads")
    assert {json.loads(answers.readline())["id"] for _ in range(2)} == {4, 5}
    process.stdin.close()
    assert process.wait() == 0


class Prometheus(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)["query"][0]
        series = [{"metric": {"a": "1"}, "value": [5.5, "2.5"]}, {"metric": {"a": "2"}, "value": [5.5, "NaN"]}]
        data = {
            "scalar": {"resultType": "scalar", "result": [7, "3"]}, "one": {"resultType": "vector", "result": series[:1]},
            "two": {"resultType": "vector", "result": series}, "range": {"resultType": "matrix", "result": []},
        }.get(query)
        body = json.dumps({"status": "success", "data": data} if data else {"status": "error", "error": "parse error"}).encode()
        self.send_response(200 if data else 400)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Asks(autoscaling_policy.PrometheusQueryMixin):
    def __call__(self, ctx):
        return self.prometheus_metrics["scalar"]


def test_prometheus(caplog):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Prometheus)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    p = Asks(prometheus_address=address, prometheus_queries=["scalar", "one", "two", "range", "wrong"])
    assert p.prometheus_results["two"].samples[0] == autoscaling_policy.PrometheusSample({"a": "1"}, 2.5, 5.5)
    assert p.prometheus_metrics == {"scalar": 3.0, "one": 2.5}
    assert sorted("wrong" in r.getMessage() for r in caplog.records) == [False, True]
    kwargs = {"prometheus_address": address, "prometheus_queries": ["scalar"]}
    assert ask(policies(function=Asks, kwargs=kwargs)) == answered(3)
    server.shutdown()
    p.cache_ttl_s = 0
    assert p.prometheus_metrics == {}
