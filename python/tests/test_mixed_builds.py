"""Deployments of Go builds: their updates, and the errors of mistakes."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from helve import serve
from helve.serve import _go
from helve.serve.deployment import Graph

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "internal" / "e2e" / "fixture" / "python"))
import mixed_echo  # noqa: E402

PROGRAM = ROOT / "internal" / "e2e" / "mixed" / "program"
Python = serve.deployment(mixed_echo.Echo)


@pytest.fixture(scope="module")
def executable(tmp_path_factory):
    path = tmp_path_factory.mktemp("build") / "program"
    shutil.copy(_go.compiled("Echo", str(PROGRAM)), path)
    return path


@pytest.fixture
def node():
    serve.start(http_options={"port": None})
    yield
    serve.shutdown()


def replica_of(handle):
    with handle.choose_replica() as selection:
        return selection.replica_id


def test_updates(node, executable, tmp_path):
    """The same bytes with the same arguments are the same code. Other options leave replicas as they are; another executable replaces them, and so do
    other arguments.
    """
    build = tmp_path / "program"
    shutil.copy(executable, build)
    relay = serve.go_deployment("Relay", build=build)

    def run(deployment, prefix):
        return replica_of(serve.run(deployment.bind(to=Python.bind(), prefix=prefix)).text)

    first = run(relay, "> ")
    assert run(relay, "> ") == first
    assert run(relay.options(max_ongoing_requests=3), "> ") == first
    bound = run(relay, "other")
    assert bound != first
    with open(build.with_suffix(".new"), "wb") as new:
        new.write(build.read_bytes() + b"\0")
    os.chmod(build.with_suffix(".new"), 0o755)
    os.replace(build.with_suffix(".new"), build)
    built = run(relay, "other")
    assert built not in (first, bound)
    assert serve.get_deployment_handle("Relay", "default").text.remote("other").result() == ""


def test_a_directory_is_compiled_once(node, executable, monkeypatch):
    """Deployments of one directory, in one application or in several, are compiled together, and a graph that is not run is not compiled."""
    compiled = []
    monkeypatch.setattr(_go, "compiled", lambda _, build: compiled.append(build) or str(executable))
    echo, relay = serve.go_deployment("Echo", build=PROGRAM), serve.go_deployment("Relay", build=PROGRAM, app="mixed")
    apps = [relay.bind(to=echo.bind()), echo.bind()]
    Graph(apps[0], "looked-at")
    assert compiled == []
    one, two = serve.run_many([serve.RunTarget(app, name=f"app{i}", route_prefix=None) for i, app in enumerate(apps)])
    assert one.text.remote("x").result() == two.text.remote("x").result() == "x"
    assert compiled == [str(PROGRAM)]


def test_one_class_twice(node, executable):
    """A deployment may be bound twice, with names and arguments of its own, and shares the process of its build."""
    relay = serve.go_deployment("Relay", build=executable)
    echo = Python.bind()

    @serve.deployment
    class Both:
        def __init__(self, one, two):
            self.handles = one, two

        async def __call__(self, s):
            return [await h.text.remote(s) for h in self.handles]

    handle = serve.run(Both.bind(relay.bind(to=echo, prefix="a"), relay.options(name="Other").bind(to=echo, prefix="b")))
    assert handle.remote("ab").result() == ["b", "ab"]
    assert set(serve.status().applications["default"].deployments) == {"Both", "Relay", "Other", "Echo"}


@pytest.mark.parametrize("name, kwargs, text", [
    ("Relay", {"too": 0}, 'Relay has no bound handle "to"; it was bound with "too"'),
    ("Relay", {"to": "a value"}, 'the argument "to" of Relay is a value and no handle: read it with BoundArgs'),
    ("Relay", {"to": 0, "prefx": "x"}, r'unexpected keyword argument "prefx"; there are \["prefix"\]'),
    ("Relay", {"to": 0, "prefix": 3}, "argument prefix: cannot decode int into string"),
    ("Relay", {"to": 1}, "the handle \"to\" leads to deployment Poor, which does not fit echo.Echoer: it has no method .*; it has text"),
    ("relay", {}, 'has no deployment "relay"; it has Echo, Relay; did you mean Relay'),
    ("Relay", {"to": [0]}, "to cannot be sent to Go: an application inside of a list"),
    ("Relay", {"to": object()}, "to cannot be sent to Go: Encoding objects of type object"),
])
def test_mistakes(node, executable, name, kwargs, text):
    class Poor:
        def text(self, s):
            return s

    apps = (Python.bind(), serve.deployment(Poor).bind())

    def bound(v):
        return [bound(x) for x in v] if isinstance(v, list) else apps[v] if v in (0, 1) else v

    with pytest.raises((RuntimeError, ValueError, TypeError), match=text):
        serve.run(serve.go_deployment(name, build=executable).bind(**{k: bound(v) for k, v in kwargs.items()}))


def test_mistakes_in_builds(tmp_path, monkeypatch):
    def run(build, **options):
        serve.run(serve.go_deployment("Echo", build=build, **options).bind())

    with pytest.raises(FileNotFoundError, match="deployment 'Echo': there is no .*nowhere: build is the directory"):
        run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no Go files"):
        run(tmp_path)
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    (tmp_path / "go.mod").write_text("module example.com/x\n\ngo 1.26\n")
    with pytest.raises(RuntimeError, match=r"(?s)`go build .*` in .* failed:.*main.go:3:15: undefined: undefined"):
        run(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="there is no go command on PATH to compile it: install Go"):
        run(tmp_path)


def test_relative_paths(tmp_path, monkeypatch):
    """A relative path begins at the directory of the file that has it, wherever the program is started."""
    monkeypatch.chdir(tmp_path)
    assert serve.go_deployment("Echo", build="x/../y").build == str(Path(__file__).parent / "y")


@pytest.mark.parametrize("make, error, text", [
    (lambda: serve.go_deployment("Echo", build=3), TypeError, "build: must be the path"),
    (lambda: serve.go_deployment("Echo", build=""), TypeError, "build: must be the path"),
    (lambda: serve.go_deployment(3, build="x"), TypeError, "name: must be a str"),
    (lambda: serve.go_deployment("E", build="x").options(num_replcas=2), TypeError, "Did you mean 'num_replicas'"),
    (lambda: serve.go_deployment("E", build="x").options(ray_actor_options={}), TypeError, "which is for Python deployments"),
    (lambda: serve.go_deployment("E", build="x").options(runtime_env={"pip": ["a"]}), ValueError, "'pip' is for Python deployments"),
    (lambda: serve.go_deployment("E", build="x").options(num_replicas=0), ValueError, "num_replicas"),
    (lambda: serve.go_deployment("E", build="x")(), RuntimeError, "cannot be constructed directly"),
    (lambda: serve.run(serve.go_deployment("E", build="x")), TypeError, "call .bind"),
    (lambda: serve.run(serve.go_deployment("E", build="x").bind(), _local_testing_mode=True), TypeError, "which the local testing mode cannot run"),
])
def test_calls_that_are_wrong(make, error, text):
    with pytest.raises(error, match=text):
        make()
