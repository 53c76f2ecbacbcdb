"""Deployments whose numbers of replicas follow their load, or a policy, in a node that runs."""

import json
import os
import signal

import pytest
from durable import Durable
from eventually import eventually

from helve import serve


@pytest.fixture
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


def running(name="Model"):
    return serve.status().applications["scaled"].deployments[name].replica_states.get("RUNNING", 0)


def run(deployment):
    return serve.run(deployment.bind(), name="scaled", route_prefix=None)


@serve.deployment
class Model:
    def __call__(self):
        return "served"


def test_a_call_wakes_a_deployment_of_no_replicas_which_goes_back_to_none(node):
    quick = {"look_back_period_s": 0.5, "upscale_delay_s": 0.0, "downscale_delay_s": 0.2, "downscale_to_zero_delay_s": 0.2}
    handle = run(Model.options(autoscaling_config={"min_replicas": 0, "max_replicas": 2, **quick}))
    assert running() == 0
    for _ in range(2):
        assert handle.remote().result() == "served"
        eventually(lambda: running() == 0)


def test_a_policy_sees_the_replicas(node):
    def one_more(ctx):
        assert ctx.current_num_replicas == len(ctx.running_replicas)
        return min(ctx.current_num_replicas + 1, 3), {}

    run(Model.options(autoscaling_config={"min_replicas": 1, "max_replicas": 8, "policy": {"policy_function": one_more}}))
    eventually(lambda: running() == 3)


def test_a_class_decides_by_numbers_of_the_replicas(node):
    class Sum:
        def __init__(self, each):
            self.each = each

        def __call__(self, ctx):
            return sum(ctx.aggregated_metrics.get("tokens", {}).values()) / self.each, {}

    @serve.deployment
    class Counted:
        def __init__(self):
            self.tokens = 400

        def record_autoscaling_stats(self):
            return {"tokens": self.tokens}

        def __call__(self, tokens):
            self.tokens = tokens

    policy = {"policy_function": Sum, "policy_kwargs": {"each": 200}}
    run(Counted.options(autoscaling_config={"min_replicas": 1, "max_replicas": 2, "look_back_period_s": 1.0, "policy": policy}))
    eventually(lambda: running("Counted") == 2)


def test_a_policy_that_cannot_be_loaded_fails_its_deploy(node):
    class Stepped:
        def __init__(self, step):
            self.step = step

        def __call__(self, ctx):
            return self.step

    wrong = Model.options(autoscaling_config={"max_replicas": 3, "policy": {"policy_function": Stepped}})
    with pytest.raises(RuntimeError, match="cannot be loaded: TypeError.*missing 1 required positional argument: 'step'"):
        run(wrong)
    assert "scaled" not in serve.status().applications
    handle = run(Model)
    with pytest.raises(RuntimeError, match="cannot be loaded"):
        run(wrong)
    assert handle.remote().result() == "served"


def test_a_policy_that_fails_leaves_the_number(node):
    def fails(ctx):
        raise ValueError("no number")

    handle = run(Model.options(autoscaling_config={"min_replicas": 1, "max_replicas": 3, "initial_replicas": 2, "policy": {"policy_function": fails}}))
    assert running() == 2
    assert handle.remote().result() == "served"
    assert running() == 2


COUNTING = """
class Counting:
    def __init__(self):
        self.own = 0

    def __call__(self, ctx):
        self.own += 1
        n = ctx.policy_state.get("n", 0) + 1
        return 1 if n < 4 else 3 if n == self.own else 2, {"n": n}

@serve.deployment(autoscaling_config={
    "max_replicas": 3, "upscale_delay_s": 0.0, "downscale_delay_s": 0.0, "look_back_period_s": 1.0, "policy": {"policy_function": Counting},
})
def model():
    return 1

serve.run(model.bind(), name="counted", route_prefix=None)
"""


def test_the_state_of_a_policy_goes_on_after_a_kill_of_the_node(tmp_path):
    """A state that was returned is there, and the attributes of the class begin anew."""
    made = Durable(tmp_path)
    look = "print(serve.status().applications['counted'].deployments['model'].replica_states.get('RUNNING', 0))"
    with made.command:
        pid = made.pid()
        made.script(COUNTING)
        eventually(lambda: made.script(look) == "3")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: made.pid() != pid)
        eventually(lambda: made.script(look) == "2")


TOGETHER = """
from helve import serve


def of_all(contexts):
    assert {of.name for of in contexts} == {"Small", "Large"} and {of.app_name for of in contexts} == {"shop"}
    [(of, large)] = [(of, ctx) for of, ctx in contexts.items() if of.name == "Large"]
    asked = large.policy_state.get("asked", 0) + 1
    return {of: min(1 + asked, 3)}, {of: {"asked": asked}}


@serve.deployment
class Small:
    def __call__(self, _=None):
        return "small"


@serve.deployment
class Large:
    def __init__(self, small):
        self.small = small

    async def __call__(self, _=None):
        return await self.small.remote()


app = Large.bind(Small.bind())
"""

SHOP = """
applications:
- name: shop
  import_path: together:app
  autoscaling_policy: {policy_function: "together:of_all"}
  deployments:
  - {name: Small, autoscaling_config: {max_replicas: 3, initial_replicas: 2, downscale_delay_s: 0, look_back_period_s: 1}}
  - {name: Large, autoscaling_config: {max_replicas: 3, upscale_delay_s: 0, look_back_period_s: 1}}
"""


def test_a_policy_of_an_application_decides_for_all_of_its_deployments(tmp_path):
    """Its states come back to it, and a deployment that it leaves out keeps its number although no call comes."""
    (tmp_path / "together.py").write_text(TOGETHER)
    (tmp_path / "shop.yaml").write_text(SHOP)
    made = Durable(tmp_path)
    with made.command:
        made.pid()
        done = made.python("-m", "helve", "deploy", "--wait", "shop.yaml", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr

        def scalers():
            shop = json.loads(made.python("-m", "helve", "status", "-o", "json").stdout)["applications"]["shop"]
            return {name: d["autoscaling"] for name, d in shop["deployments"].items()}

        eventually(lambda: scalers()["Large"]["target"] == 3)
        now = scalers()
        assert now["Small"]["target"] == 2
        assert {(s["policy"], s["policy_scope"]) for s in now.values()} == {("together:of_all", "application")}
        assert {d["policy"] for d in now["Large"]["decisions"]} == {"together:of_all"}
