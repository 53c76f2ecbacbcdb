"""serve.deployment, Deployment and its options: values that are taken and refused, and the form for the node."""

import ast
import functools
import inspect
import json
import logging
import re
import threading
from pathlib import Path

import pytest

from helve import serve
from helve.serve import _checks, autoscaling_policy
from helve.serve._default import DEFAULT
from helve.serve.config import AutoscalingConfig, BackpressureConfig, LoggingConfig, RequestRouterConfig
from helve.serve.deployment import Deployment
from helve.serve.request_router import ConsistentHashRouter, RequestRouter

REFERENCE = json.loads(Path(__file__).with_name("reference_surface.json").read_text())
LATER = ("version",)  # an argument that Ray Serve 2.60 refuses by name


class C:
    def __call__(self):
        pass

    def reconfigure(self, config):
        pass


@serve.deployment
class D(C):
    pass


def both(**options):
    """The two ways to set options."""
    return (lambda: serve.deployment(**options)(C)), (lambda: D.options(**options))


class Router(RequestRouter):
    pass


WRONG = [
    # options, error, text
    ({"num_replicas": 0}, ValueError, "num_replicas is expected to larger than 0"),
    ({"num_replicas": -1}, ValueError, "num_replicas"), ({"num_replicas": "x"}, ValueError, "num_replicas"), ({"num_replicas": 1.5}, ValueError, "num_replicas"),
    ({"num_replicas": 2, "autoscaling_config": {}}, ValueError, "Manually setting num_replicas is not allowed when autoscaling_config is provided."),
    ({"max_ongoing_requests": None}, ValueError, "`max_ongoing_requests` must be non-null, got None."),
    ({"max_ongoing_requests": 0}, ValueError, "max_ongoing_requests"), ({"max_ongoing_requests": "a"}, ValueError, "max_ongoing_requests"),
    ({"max_queued_requests": None}, ValueError, "max_queued_requests"), ({"max_queued_requests": 0}, ValueError, "max_queued_requests: must be -1 .no limit."),
    ({"max_queued_requests": -2}, ValueError, "max_queued_requests"), ({"max_queued_requests": 1.5}, ValueError, "max_queued_requests"),
    ({"ray_actor_options": []}, TypeError, 'Got invalid type "<class \'list\'>" for ray_actor_options. Expected a dictionary.'),
    ({"ray_actor_options": {"num_cpu": 1}}, ValueError, "Specifying 'num_cpu' in ray_actor_options is not allowed; did you mean 'num_cpus'. Allowed options:"),
    ({"ray_actor_options": {"name": "x"}}, ValueError, "Specifying 'name' in ray_actor_options is not allowed"),
    ({"ray_actor_options": {"lifetime": "detached"}}, ValueError, "Specifying 'lifetime' in ray_actor_options is not allowed"),
    ({"ray_actor_options": {"max_restarts": 1}}, ValueError, "not allowed"), ({"ray_actor_options": {7: 1}}, ValueError, "not allowed"),
    ({"ray_actor_options": {"num_cpus": -1}}, ValueError, "The quantity of resource num_cpus cannot be negative"),
    ({"ray_actor_options": {"num_gpus": "a"}}, TypeError, "The type of keyword 'num_gpus' must be"),
    ({"ray_actor_options": {"num_gpus": True}}, TypeError, "num_gpus"), ({"ray_actor_options": {"num_gpus": float("nan")}}, ValueError, "num_gpus"),
    ({"ray_actor_options": {"resources": []}}, TypeError, "resources"), ({"ray_actor_options": {"resources": {"a": -1}}}, ValueError, "resource a cannot be negative"),
    ({"ray_actor_options": {"resources": {"CPU": 1}}}, ValueError, "Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU' in 'resources' keyword"),
    ({"ray_actor_options": {"resources": {"a": "1"}}}, TypeError, "'a' must be a number"), ({"ray_actor_options": {"memory": -1}}, ValueError, "memory"),
    ({"ray_actor_options": {"memory": float("inf")}}, ValueError, "memory"),
    ({"ray_actor_options": {"accelerator_type": 1}}, TypeError, "accelerator_type"), ({"ray_actor_options": {"runtime_env": []}}, TypeError, "runtime_env"),
    ({"placement_group_bundles": []}, ValueError, "Bundles must be a non-empty list of resource dictionaries"),
    ({"placement_group_bundles": {"CPU": 1}}, ValueError, "Placement group bundles must be a list, got <class 'dict'>."),
    ({"placement_group_bundles": [{}]}, ValueError, "Bundles cannot be an empty dictionary or resources with only 0 values"),
    ({"placement_group_bundles": [{"CPU": "a"}]}, ValueError, "Bundles must be a non-empty list of resource dictionaries"),
    ({"placement_group_bundles": [{"CPU": 0.5}]}, ValueError, "the resource requirements for the actor must be a subset of the first bundle. `num_cpus` for the actor is 1"),
    ({"placement_group_bundles": [{"CPU": 1}], "ray_actor_options": {"num_gpus": 1}}, ValueError, "only has 0 `GPU` specified"),
    ({"placement_group_bundles": [{"CPU": 1}], "ray_actor_options": {"resources": {"a": 1}}}, ValueError, "`a` for the actor is 1"),
    ({"placement_group_bundles": [{"CPU": 1}], "max_replicas_per_node": 1}, ValueError, "Setting max_replicas_per_node is not allowed when placement_group_bundles is provided."),
    ({"placement_group_strategy": "PACK"}, ValueError, "If `placement_group_strategy` is provided, `placement_group_bundles` must also be provided."),
    ({"placement_group_strategy": "X", "placement_group_bundles": [{"CPU": 1}]}, ValueError, "Invalid placement group strategy X"),
    ({"placement_group_strategy": "STRICT_SPREAD", "placement_group_bundles": [{"CPU": 1}] * 2}, NotImplementedError, "use PACK"),
    ({"placement_group_bundle_label_selector": [{"a": "b"}]}, ValueError, "`placement_group_bundles` must also be provided"),
    ({"placement_group_bundle_label_selector": [{}, {}, {}], "placement_group_bundles": [{"CPU": 1}] * 2}, ValueError, "should equal the length of `bundles`"),
    ({"placement_group_bundle_label_selector": [{"a": "b"}], "placement_group_bundles": [{"CPU": 1}]}, NotImplementedError, "there is one node"),
    ({"max_replicas_per_node": 0}, ValueError, r"Invalid max_replicas_per_node 0. Valid values are None or an integer in the range of \[1, 100\]."),
    ({"max_replicas_per_node": 101}, ValueError, "Invalid max_replicas_per_node 101"), ({"max_replicas_per_node": 1.5}, TypeError, "Get invalid type '<class 'float'>'"),
    *[({name: None}, ValueError, name) for name in ("graceful_shutdown_wait_loop_s", "graceful_shutdown_timeout_s", "health_check_period_s", "health_check_timeout_s")],
    *[({name: -1}, ValueError, name) for name in ("graceful_shutdown_wait_loop_s", "graceful_shutdown_timeout_s", "health_check_period_s", "health_check_timeout_s")],
    *[({name: "a"}, ValueError, name) for name in ("graceful_shutdown_wait_loop_s", "graceful_shutdown_timeout_s", "health_check_period_s", "health_check_timeout_s")],
    ({"health_check_period_s": 0}, ValueError, "health_check_period_s"), ({"health_check_timeout_s": 0}, ValueError, "health_check_timeout_s"),
    ({"max_constructor_retry_count": 0}, ValueError, "max_constructor_retry_count"), ({"max_constructor_retry_count": None}, ValueError, "max_constructor_retry_count"),
    ({"rolling_update_percentage": 0}, ValueError, "rolling_update_percentage"), ({"rolling_update_percentage": 1.1}, ValueError, "rolling_update_percentage"),
    ({"max_surge_percent": 101}, ValueError, "max_surge_percent"), ({"max_surge_percent": -1}, ValueError, "max_surge_percent"), ({"max_surge_percent": 1.5}, ValueError, "max_surge_percent"),
    ({"backpressure_config": {"status_code": 500}}, ValueError, "Input should be 503 or 429"), ({"backpressure_config": {"x": 1}}, ValueError, "Extra inputs"),
    ({"backpressure_config": None}, ValueError, "backpressure_config"), ({"backpressure_config": 5}, ValueError, "backpressure_config"),
    ({"logging_config": {"log_level": "x"}}, ValueError, 'Got "x" for log_level. log_level must be one of'), ({"logging_config": {"x": 1}}, ValueError, "Extra inputs"),
    ({"logging_config": 5}, ValueError, "logging_config"), ({"autoscaling_config": {"min_replicas": -1}}, ValueError, "min_replicas"),
    ({"autoscaling_config": {"min_replicas": 5, "max_replicas": 2}}, ValueError, r"max_replicas \(2\) must be greater than or equal to min_replicas \(5\)!"),
    ({"autoscaling_config": 5}, ValueError, "autoscaling_config"), ({"num_replicas": "auto", "autoscaling_config": 5}, ValueError, "autoscaling_config"),
    ({"request_router_config": {"request_router_class": "nowhere:X"}}, ModuleNotFoundError, "nowhere"), ({"request_router_config": None}, ValueError, "request_router_config"),
    ({"request_router_config": {"request_router_class": Router}}, NotImplementedError, "Router: a request router in Python is not there.*choose_replica"),
    ({"request_router_config": {"request_router_class": ConsistentHashRouter, "request_router_kwargs": {"num_virtual_nodes": 0}}}, ValueError, "virtual_nodes"),
    ({"gang_scheduling_config": {"gang_size": 2}}, NotImplementedError, "gang_scheduling_config.*use num_replicas"),
    ({"deployment_actors": [{"name": "a", "actor_class": C}]}, NotImplementedError, "deployment_actors.*bind another deployment"),
    ({"user_config": object()}, ValueError, "user_config"), ({"user_config": {1, 2}}, ValueError, "user_config"),
    ({"name": 5}, TypeError, "name must be a string."), ({"name": None}, TypeError, "name must be a string."), ({"name": "a#b"}, ValueError, "must not contain the '#' character"),
    ({"version": 5}, ValueError, "version"), ({"num_replica": 1}, TypeError, r"\(\) got an unexpected keyword argument 'num_replica'; did you mean 'num_replicas'"),
    ({"foo": 1}, TypeError, "unexpected keyword argument 'foo'; there are name, version, num_replicas"), ({"route_prefix": "/"}, TypeError, "unexpected keyword argument 'route_prefix'"),
]


@pytest.mark.parametrize("options, error, text", WRONG, ids=[f"{i}-{next(iter(o))}" for i, (o, _, _) in enumerate(WRONG)])
def test_a_wrong_option(options, error, text):
    for attempt in both(**options):
        with pytest.raises(error, match=text) as e:
            attempt()
        assert not str(e.value).startswith("deployment 'D': deployment '")


RIGHT = [
    # options, the node's options
    ({}, {}), ({"num_replicas": None}, {}), ({"num_replicas": 2.0}, {"num_replicas": 2}), ({"num_replicas": "2"}, {"num_replicas": 2}),
    ({"graceful_shutdown_timeout_s": 0}, {"graceful_shutdown_timeout_s": 0}), ({"health_check_period_s": "1.5"}, {"health_check_period_s": 1.5}),
    ({"max_queued_requests": -1}, {"max_queued_requests": -1}), ({"user_config": (1, 2)}, {"user_config": [1, 2]}), ({"user_config": None}, {}),
    ({"ray_actor_options": None}, {}), ({"ray_actor_options": {"num_gpus": 0.5}}, {"ray_actor_options": {"num_gpus": 0.5, "num_cpus": 1}}),
    ({"ray_actor_options": {"memory": 1e9, "resources": {"a": 1}, "accelerator_type": "T4", "num_cpus": None}},
     {"ray_actor_options": {"memory": 10**9, "resources": {"a": 1}, "accelerator_type": "T4", "num_cpus": 1}}),
    ({"ray_actor_options": {"label_selector": {"a": "b"}, "num_cpus": 0}}, {"ray_actor_options": {"label_selector": {"a": "b"}, "num_cpus": 0}}),
    ({"ray_actor_options": {"runtime_env": {"env_vars": {"A": "1", "B": "1"}}}, "runtime_env": {"env_vars": {"B": "2"}}},
     {"ray_actor_options": {"num_cpus": 1}, "runtime_env": {"env_vars": {"A": "1", "B": "2"}}}),
    ({"placement_group_bundles": [{"CPU": 1, "GPU": 1}, {"CPU": 2, "x": 1}, {"x": 0.5}], "placement_group_strategy": "SPREAD"},
     {"ray_actor_options": {"num_cpus": 3, "num_gpus": 1, "resources": {"x": 1.5}}}),
    ({"max_replicas_per_node": 100}, {"max_replicas_per_node": 100}), ({"max_replicas_per_node": None}, {}), ({"version": None}, {}), ({"version": "1"}, {"version": "1"}),
    ({"backpressure_config": {"status_code": 429}}, {"backpressure_config": {"status_code": 429}}),
    ({"backpressure_config": BackpressureConfig(retry_after_s=2)}, {"backpressure_config": {"status_code": 503, "retry_after_s": 2}}),
    ({"request_router_config": RequestRouterConfig(request_router_class="ray.serve.experimental.round_robin_router:RoundRobinRouter")},
     {"request_router": {"policy": "round_robin"}, "request_routing_stats_period_s": 10, "request_routing_stats_timeout_s": 30}),
    ({"rolling_update_percentage": 1, "max_surge_percent": 100}, {"rolling_update_percentage": 1, "max_surge_percent": 100}), ({"autoscaling_config": None}, {}),
    ({"logging_config": None}, {}),
]


@pytest.mark.parametrize("options, want", RIGHT, ids=[f"{i}-{next(iter(o), 'none')}" for i, (o, _) in enumerate(RIGHT)])
def test_an_option_as_the_node_gets_it(options, want):
    for made in both(**options):
        got = _checks.for_node("D", made()._options)
        assert got == want
        assert json.loads(json.dumps(got)) == got


@pytest.mark.parametrize("options, low, high, target", [
    ({"num_replicas": "auto"}, 1, 100, 2), ({"num_replicas": "auto", "autoscaling_config": {"min_replicas": 2}}, 2, 100, 2),
    ({"num_replicas": "auto", "autoscaling_config": AutoscalingConfig(target_ongoing_requests=7)}, 1, 100, 7), ({"num_replicas": "auto", "autoscaling_config": None}, 1, 100, 2),
    ({"autoscaling_config": {"max_replicas": 3}}, 1, 3, 2), ({"num_replicas": None, "autoscaling_config": AutoscalingConfig(max_replicas=3)}, 1, 3, 2),
])
def test_autoscaling(options, low, high, target, caplog):
    for made in both(**options):
        d = made()
        with caplog.at_level(logging.WARNING, "helve.serve"):
            sent = _checks.for_node("D", d._options)
        assert (d.num_replicas, d.max_ongoing_requests, "num_replicas" in sent) == (1, 5, False)
        config = d._options["autoscaling_config"]
        assert (config.min_replicas, config.max_replicas, config.target_ongoing_requests, config.aggregation_function) == (low, high, target, "mean")
        assert config.upscale_delay_s == 30 and config.downscale_delay_s == 600  # as they are read
    assert not caplog.records


@pytest.mark.parametrize("config, sent", [
    ({"max_replicas": 3}, {"max_replicas": 3}), (AutoscalingConfig(max_replicas=3, upscale_delay_s=30), {"max_replicas": 3, "upscale_delay_s": 30}),
    (AutoscalingConfig(min_replicas=0, downscale_to_zero_delay_s=None), {"min_replicas": 0, "downscale_to_zero_delay_s": None}),
    ({"policy": {"policy_function": "json:dumps"}}, {"policy": {"policy_function": "json:dumps", "policy_kwargs": {}}}),
])
def test_the_fields_that_were_set_are_sent(config, sent):
    """A delay that was not set is adapted by the node."""
    assert _checks.for_node("D", serve.deployment(autoscaling_config=config)(C)._options)["autoscaling_config"] == sent


def doubled(ctx):
    return 2 * ctx.target_num_replicas, {}


def test_a_policy_is_pickled_beside_the_code_of_its_deployment():
    from helve._pickling import loads_code
    from helve.serve.deployment import Graph

    def graph(policy):
        return Graph(serve.deployment(name="D", autoscaling_config={"max_replicas": 2, "policy": {"policy_function": policy}})(C).bind(), "a")

    path, policy = loads_code(graph(doubled).code["autoscaling_policy/D"])
    assert (path, policy) == (f"{__name__}.doubled", doubled)
    versions = [graph(p).deployments[0]["options"]["autoscaling_config"]["policy"]["_version"] for p in (doubled, doubled, lambda ctx: 1)]
    assert versions[0] == versions[1] != versions[2]
    for shipped in ("ray.serve.autoscaling_policy:default_autoscaling_policy", autoscaling_policy.replica_queue_length_autoscaling_policy):
        assert list(graph(shipped).code) == ["D"]
    lock = threading.Lock()
    with pytest.raises(TypeError, match="the autoscaling policy of deployment 'D'"):
        graph(lambda ctx: lock)


def test_a_dict_replaces_the_one_before():
    d = serve.deployment(ray_actor_options={"num_cpus": 2, "num_gpus": 1}, autoscaling_config={"max_replicas": 5}, user_config={"a": 1}, max_queued_requests=7)(C)
    assert d.options(ray_actor_options={"num_gpus": 2}).ray_actor_options == {"num_gpus": 2, "num_cpus": 1}
    assert d.options(autoscaling_config={"min_replicas": 0})._deployment_config.autoscaling_config.max_replicas == 1
    assert d.options(num_replicas=3)._deployment_config.autoscaling_config.max_replicas == 5
    assert d.options(autoscaling_config=None)._deployment_config.autoscaling_config is None
    assert d.options(ray_actor_options=None).ray_actor_options == {"num_cpus": 1} and d.options(user_config=None).user_config is None
    assert d.options(num_replicas=3).max_queued_requests == 7 and D.options(num_replicas=5).options(num_replicas=None).num_replicas == 5
    assert d.ray_actor_options == {"num_cpus": 2, "num_gpus": 1}


def test_signatures_that_editors_complete():
    for function, reference in ((serve.deployment, "deployment"), (Deployment.options, "options")):
        names = list(inspect.signature(function).parameters)
        assert set(REFERENCE[reference]) <= set(names)
        assert [n for n in names if n in REFERENCE["deployment"]] == [n for n in REFERENCE["deployment"] if n in names]
        for name in (*_checks.RAY, *_checks.OWN):
            assert name in names and f"        {name}: " in serve.deployment.__doc__
            assert inspect.signature(function).parameters[name].default in (DEFAULT.VALUE, None)


def overload_of(function, parent=None):
    """The parameters of the overload with options of a function in deployment.py, with their annotations and defaults as text."""
    tree = ast.parse(Path(inspect.getsourcefile(serve.Deployment)).read_text())
    body = tree.body if parent is None else next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == parent).body
    found = max((n for n in body if isinstance(n, ast.FunctionDef) and n.name == function and n.decorator_list), key=lambda n: len(n.args.args))
    first = len(found.args.args) - len(found.args.defaults)
    return {a.arg: (ast.unparse(a.annotation), ast.unparse(d)) for a, d in zip(found.args.args[first:], found.args.defaults)}


def test_the_defaults_that_editors_show():
    page = (Path(__file__).resolve().parents[2] / "docs" / "options.md").read_text()
    table = {m[1]: m[2].strip("`") for m in re.finditer(r"^\| `(\w+)`[^|]*\|[^|]*\|[^|]*\| ([^|]*) \|", page, re.M)}
    shown = overload_of("deployment")
    assert list(shown)[1:] == [*_checks.RAY, *(n for n in shown if n in _checks.OWN)] and set(_checks.OWN) <= set(shown)
    for name, (_, default) in shown.items():
        if name in table and name != "max_replicas_per_node":  # where 0 and None are no limit
            assert default == {"none": "None", "false": "False", "true": "True"}.get(table[name], table[name]), name
    assert len(set(table) & set(shown)) > 15
    assert [(n, a) for n, (a, _) in overload_of("options", "Deployment").items()][1:] == [(n, a) for n, (a, _) in shown.items()][1:]


PROPERTIES = {
    "name": "D", "version": None, "func_or_class": None, "num_replicas": 1, "user_config": None, "max_ongoing_requests": 5, "max_queued_requests": -1,
    "backpressure_config": BackpressureConfig(), "ray_actor_options": {"num_cpus": 1}, "init_args": (), "init_kwargs": {}, "logging_config": None,
}


def test_properties():
    for name, want in PROPERTIES.items():
        if name != "func_or_class":
            assert getattr(D, name) == want, name
        with pytest.raises(AttributeError):
            setattr(D, name, 1)
    assert D.func_or_class.__name__ == "D"
    set_ = D.options(
        num_replicas=3, user_config={"a": 1}, max_ongoing_requests=7, max_queued_requests=8, version="v", backpressure_config={"status_code": 429},
        logging_config={"log_level": "DEBUG"}, name="E",
    )
    assert (set_.name, set_.num_replicas, set_.user_config, set_.max_ongoing_requests, set_.max_queued_requests, set_.version) == ("E", 3, {"a": 1}, 7, 8, "v")
    assert set_.backpressure_config.status_code == 429
    assert set_.logging_config == LoggingConfig(log_level="DEBUG").model_dump(mode="json")
    assert set_._deployment_config.user_configured_option_names == {
        "num_replicas", "user_config", "max_ongoing_requests", "max_queued_requests", "version", "backpressure_config", "logging_config", "name",
    }


def test_the_logging_of_a_deployment_is_set():
    d = D.options()
    for config in ({"log_level": "DEBUG"}, LoggingConfig(log_level="DEBUG")):
        d.set_logging_config(config)
        assert d.logging_config["log_level"] == "DEBUG" and D.logging_config is None
    with pytest.raises(ValueError, match="log_level"):
        d.set_logging_config({"log_level": "x"})


def test_equal_deployments():
    assert D == D.options() and D != D.options(num_replicas=2) and D != D.options(name="E") and D != serve.deployment(C) and D != 5
    assert serve.deployment(autoscaling_config={"max_replicas": 2})(C) == serve.deployment(autoscaling_config=AutoscalingConfig(max_replicas=2))(C)
    assert repr(D) == str(D) == "Deployment(name=D)"


def test_a_deployment_is_not_called():
    with pytest.raises(RuntimeError, match=r"Deployments cannot be constructed directly.*use D.bind\(...\) and serve.run"):
        D(1, a=2)


def test_text_as_the_first_argument_is_ignored():
    assert serve.deployment("name")(C).name == "C" and serve.deployment("name", num_replicas=2)(C).num_replicas == 2
    assert D.options("text").name == "D"


def test_deployments_of_other_things():
    assert serve.deployment(functools.partial(print, 1)).name == "partial" and serve.deployment(C()).name == "C"
    assert serve.deployment(name="x")(functools.partial(print)).name == "x"
    async def f():
        pass

    assert serve.deployment(f).name == "f" and D.options(func_or_class=f).func_or_class is f and D.options(func_or_class=f).name == "D"
    with pytest.raises(TypeError, match=r"it is a deployment already; use D.options\(...\)"):
        serve.deployment(D)
    with pytest.raises(TypeError, match="@serve.deployment must be called on a class or function"):
        serve.deployment()(5)
    with pytest.raises(ValueError, match="init_args not supported for function deployments"):
        serve.deployment(f).bind(1)
    with pytest.raises(ValueError, match="init_kwargs not supported for function deployments"):
        serve.deployment(f).bind(a=1)


@pytest.fixture
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


def test_options_reach_a_real_node(node):
    d = serve.deployment(
        ray_actor_options={"num_cpus": 2, "resources": {"a": 1}}, autoscaling_config={"min_replicas": 2, "max_replicas": 3}, backpressure_config={"status_code": 429},
        request_router_config=RequestRouterConfig(request_router_class=ConsistentHashRouter), logging_config={"log_level": "DEBUG"}, rolling_update_percentage=0.5,
        max_surge_percent=10, health_check_period_s=1, version="1",
    )(C)
    handle = serve.run(d.bind(), name="real", route_prefix=None)
    assert handle.remote().result(timeout_s=30) is None
    assert serve.status().applications["real"].deployments["C"].replica_states == {"RUNNING": 2}
    bundled = serve.deployment(placement_group_bundles=[{"CPU": 1}, {"CPU": 1}])(C)
    assert serve.run(bundled.bind(), name="bundles", route_prefix=None).remote().result(timeout_s=30) is None
    partial = serve.deployment(name="partial")(functools.partial(len, "abc"))
    assert serve.run(partial.bind(), name="partial", route_prefix=None).remote().result(timeout_s=30) == 3


def test_a_refused_call_has_the_answer_that_its_deployment_wants():
    from helve._encoding import decode_error, envelope

    full = {"reason": "backpressure", "message": "Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1).", "deployment": "D"}
    for fields, want in (
        ({}, (503, None)), ({"http": "429", "retry": "3"}, (429, 3)), ({"http": "503", "retry": "0"}, (503, None)), ({"http": "200"}, (503, None)),
        ({"http": "429", "retry": "soon"}, (429, None)),
    ):
        error = decode_error(envelope({**full, **fields}))
        assert (error.status_code, error.retry_after_s, error.num_queued_requests) == (*want, 1)
