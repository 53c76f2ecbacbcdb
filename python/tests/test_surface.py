"""The parts of the API beside calls that programs for Ray Serve expect."""

import collections
import dataclasses
import itertools
import logging
import os
import pickle
import subprocess
import sys

import pytest

from helve import serve
from helve.serve.deployment import Graph, http_mistake
from helve.serve.exceptions import DeploymentUnavailableError, RayServeException
from helve.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator


@pytest.fixture(scope="module")
def node():
    serve.start(http_options={"port": 0})
    yield
    serve.shutdown()


_names = (f"surface{i}" for i in itertools.count())


@pytest.fixture
def run(node):
    """serve.run under a name of its own; its applications are deleted."""
    running = []

    def run(app, name=None, **options):
        handle = serve.run(app, name=name or next(_names), **{"route_prefix": None, **options})
        running.append(handle.app_name)
        return handle

    yield run
    for name in running:
        serve.delete(name)


# ---- bound applications wherever they are

class Holder:
    def __init__(self, value):
        self.value = value

    def leaf(self):
        return self.value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def leaf(self):
        return self.value


@dataclasses.dataclass(frozen=True)
class Data:
    value: object

    def leaf(self):
        return self.value


Pair = collections.namedtuple("Pair", "name value")


class Reduced:
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return Reduced, (self.value,)

    def leaf(self):
        return self.value


@serve.deployment
class Leaf:
    def __call__(self):
        return "leaf"


@serve.deployment
class Uses:
    def __init__(self, held, find):
        self.handle = find(held)

    async def __call__(self):
        return await self.handle.remote()


def closure(value):
    return lambda: value


@pytest.mark.parametrize("hold, find", [
    (Holder, Holder.leaf), (Slotted, Slotted.leaf), (Data, Data.leaf), (Reduced, Reduced.leaf),
    (lambda leaf: Pair("x", leaf), lambda held: held.value), (lambda leaf: {leaf}, lambda held: next(iter(held))),
    (lambda leaf: collections.OrderedDict(a=[(leaf,)]), lambda held: held["a"][0][0]),
    (lambda leaf: Holder([Data({"a": leaf})]), lambda held: held.value[0].value["a"]), (closure, lambda held: held()),
    (lambda leaf: leaf, lambda held: held), (lambda leaf: [(leaf,)], lambda held: held[0][0]),
], ids=["object", "slots", "dataclass", "reduce", "namedtuple", "set", "ordered dict", "deep", "closure", "itself", "list"])
def test_a_bound_application_is_found_wherever_it_is(hold, find):
    graph = Graph(Uses.bind(hold(Leaf.bind()), find), "app")
    assert [d["name"] for d in graph.deployments] == ["Leaf", "Uses"] and graph.deployments[1]["uses"] == ["Leaf"]
    _, (held, find), _ = pickle.loads(graph.code["Uses"])
    handle = find(held)
    assert isinstance(handle, DeploymentHandle) and handle.deployment_name == "Leaf"


def test_one_that_is_bound_once_is_one_deployment():
    leaf = Leaf.bind()
    graph = Graph(Uses.bind(Holder(leaf), Uses.bind(Data(leaf), closure(leaf))), "app")
    assert [d["name"] for d in graph.deployments] == ["Leaf", "Uses_1", "Uses"]


def test_an_application_in_an_object_serves(run):
    assert run(Uses.bind(Holder(Leaf.bind()), Holder.leaf)).remote().result() == "leaf"


def test_a_bound_application_is_no_value():
    with pytest.raises(TypeError, match=r"Leaf.bind\(...\) is no value"):
        pickle.dumps(Leaf.bind())
    with pytest.raises(AttributeError, match="serve.run gives one"):
        Leaf.bind().remote()


def test_a_deployment_that_cannot_be_pickled_is_named_and_not_those_that_use_it():
    with pytest.raises(TypeError, match="application 'app' cannot be pickled: deployment 'Leaf' argument"):
        Graph(Uses.bind(Holder(Leaf.bind(iter(os.scandir("."))))), "app")


# ---- starts

@pytest.mark.parametrize("count, failures, good", [(7, 2, True), (2, 1, True), (2, 2, False), (1, 1, False), (None, 2, True), (None, 3, False)])
def test_a_constructor_is_retried_as_often_as_its_deployment_says(run, tmp_path, count, failures, good):
    file = tmp_path / "starts"

    @serve.deployment(**({} if count is None else {"max_constructor_retry_count": count}))
    class Flaky:
        def __init__(self):
            with open(file, "a") as f:
                f.write("x")
            if os.path.getsize(file) <= failures:
                raise RuntimeError("transient")

        def __call__(self):
            return "up"

    if good:
        assert run(Flaky.bind()).remote().result() == "up"
    else:
        with pytest.raises(RuntimeError, match="transient"):
            run(Flaky.bind())
    assert os.path.getsize(file) == failures + good


# ---- inside of a replica

@serve.deployment
class Inside:
    async def call(self, app):
        return await serve.get_app_handle(app).remote()

    def status(self):
        return serve.status()

    async def outside(self, name):
        return getattr(serve, name)(*({"run": (Leaf.bind(),), "delete": ("app",)}.get(name, ())))


@pytest.mark.parametrize("threads", ["", "1"], ids=["loop", "thread"])
def test_a_replica_has_status_and_app_handles(run, threads):
    run(Leaf.bind(), name="leaf")
    handle = run(Inside.options(runtime_env={"env_vars": {"RAY_SERVE_RUN_SYNC_IN_THREADPOOL": threads}}).bind())
    assert handle.call.remote("leaf").result() == "leaf"
    assert handle.status.remote().result().applications.keys() >= {"leaf", handle.app_name}
    with pytest.raises(RayServeException, match="Application .none. does not exist"):
        handle.call.remote("none").result()
    for name in ("start", "run", "delete"):  # the application that is deleted is not there
        handle.outside.remote(name).result()
    assert serve.get_app_handle("default").remote().result() == "leaf"
    serve.delete("default")


# ---- types

def test_handles_and_responses_take_a_type_in_annotations():
    def method(handle: DeploymentHandle[Leaf], r: DeploymentResponse[str], s: DeploymentResponseGenerator[str]) -> None:
        pass

    assert DeploymentHandle[Leaf]("Leaf", "app").deployment_name == "Leaf"
    assert method.__annotations__["handle"]


def test_a_deployment_of_a_deployment_is_a_mistake():
    with pytest.raises(TypeError, match="Deployment"):
        serve.deployment(Leaf)


# ---- HTTP

class NoCall:
    def other(self):
        pass


class Request:
    def __call__(self, request):
        pass


class Several:
    def __call__(self, a: str, b: str):
        pass


class Good:
    def __call__(self, text: "str", times: int = 2):
        pass


class Items:
    def __call__(self):
        yield 1


def function(*args):
    pass


@pytest.mark.parametrize("target, says", [
    (NoCall, "deployment D has no __call__"), (Request, ""), (Several, "HTTP requests to D.__call__ will fail"),
    (Good, ""), (Items, ""), (function, ""), (lambda: 1, ""), (lambda body: 1, ""), (lambda *, name: 1, "HTTP requests to D will fail"),
])
def test_a_warning_about_http_fits_the_class(target, says):
    mistake = http_mistake("D", target)
    assert mistake.startswith(says) if says else mistake == ""


@pytest.mark.parametrize("prefix", ["/warned", None])
def test_there_is_a_warning_where_http_serves_alone(run, caplog, prefix):
    caplog.set_level(logging.INFO, "helve.serve")
    handle = run(serve.deployment(Several).bind(), route_prefix=prefix)
    said = [r.levelname for r in caplog.records if r.name == "helve.serve"]
    assert said == (["WARNING"] if prefix else []), handle


# ---- Starlette

@pytest.mark.parametrize("order", ["import starlette\nfrom helve import serve", "from helve import serve\nimport starlette"])
def test_the_modules_of_starlette_are_there_when_it_is_imported(tmp_path, order):
    package = tmp_path / "starlette"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "requests.py").write_text("class Request: pass")
    (package / "broken.py").write_text("import not_installed")
    program = order + """
import sys
assert "starlette.requests" not in sys.modules
def method(request: starlette.requests.Request): pass
for name, error in ("nothing", AttributeError), ("broken", ModuleNotFoundError):
    try:
        getattr(starlette, name)
    except error:
        continue
    raise AssertionError(name)
"""
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
