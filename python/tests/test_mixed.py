"""Calls between Go and Python from a Python program, the same to each kind of deployment: docs/mixed.md. internal/e2e/mixed has the other half."""

import datetime
import sys
from pathlib import Path

import numpy
import pytest

from eventually import eventually
from helve import serve
from helve.serve.exceptions import RayServeException

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "internal" / "e2e" / "fixture" / "python"))
import mixed_echo  # noqa: E402

PROGRAM = ROOT / "internal" / "e2e" / "mixed" / "program"
WAYS = ("go", "python", "python to go", "go to python", "go to go")
TIME = datetime.datetime(2026, 5, 4, 3, 2, 1, tzinfo=datetime.timezone.utc)


@pytest.fixture(scope="module")
def handles():
    """A handle for each way: to a deployment of one language, or to a relay, which passes its calls on to the other language."""
    options = {"max_ongoing_requests": 20}
    go, relay = serve.go_deployment("Echo", build=PROGRAM, app="mixed"), serve.go_deployment("Relay", build=PROGRAM)
    python, python_relay = (serve.deployment(**options)(cls) for cls in (mixed_echo.Echo, mixed_echo.Relay))
    serve.start(http_options={"port": None})
    apps = {
        "go": go.bind(),
        "python": python.bind(),
        "python to go": python_relay.bind(go.options(name="Target", num_replicas=1).bind()),
        "go to python": relay.bind(to=python.options(name="Target").bind(), prefix="> "),
        "go to go": relay.options(max_ongoing_requests=30).bind(to=go.options(name="Target").bind()),
    }
    assert tuple(apps) == WAYS
    yield dict(zip(apps, serve.run_many([serve.RunTarget(app, name=name.replace(" ", "-"), route_prefix=None) for name, app in apps.items()])))
    serve.shutdown()


@pytest.fixture(params=WAYS)
def handle(request, handles):
    return handles[request.param]


@pytest.mark.parametrize("method, value", [
    ("text", "Grüße\n\x00"), ("text", ""), ("number", -(2**63)), ("number", 2**40), ("raw", bytes(range(256))), ("raw", b""), ("floats", [1.5, -2.0, 1e300]),
    ("whatever", None), ("whatever", True), ("whatever", {"a": [1, {"b": None}], "c": b"\x00", "d": 1.5}), ("whatever", TIME), ("raw", bytes(3_000_000)),
])
def test_values(handle, method, value):
    back = getattr(handle, method).remote(value).result()
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize("kind", ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"])
def test_arrays(handle, kind):
    """An array arrives with its type, its shape and its items, whatever lies between, by itself and inside of other values."""
    for shape in ((6,), (2, 3), (3, 0), (1, 2, 3)):
        array = numpy.arange(numpy.prod(shape)).reshape(shape).astype(kind)
        back = handle.whatever.remote({"x": [array]}).result()["x"][0]
        assert back.dtype == array.dtype and back.shape == shape and (back == array).all()
        back[...] = 0  # it may be written to


def test_large_arrays(handle):
    array = numpy.random.default_rng(1).random((1000, 700), numpy.float32)
    assert (handle.matrix.remote(array).result() == array).all()
    assert (handle.matrix.remote(array.T).result() == array.T).all()  # items that do not lie in order


def test_arrays_of_other_types(handles):
    go = handles["go"]
    assert go.floats.remote(numpy.array([1, 2], "int16")).result() == [1.0, 2.0]
    assert go.matrix.remote([[1, 2], [3, 4]]).result().tolist() == [[1, 2], [3, 4]]
    assert go.floats.remote(numpy.array([0.5, 65504], "float16")).result() == [0.5, 65504]
    assert go.floats.remote([numpy.float32(0.5), numpy.int64(3)]).result() == [0.5, 3.0]
    assert go.whatever.remote({"zero dimensions": numpy.array(1.5)}).result() == {"zero dimensions": 1.5}
    with pytest.raises(TypeError, match="dtype complex128 cannot be sent to Go"):
        go.whatever.remote(numpy.array([1j])).result()
    with pytest.raises(TypeError, match="cannot decode list into float64"):
        go.floats.remote(numpy.zeros((2, 2))).result()


def test_fields(handle):
    """Keyword arguments are the fields of a struct, at every depth: by the tag helve, else json, else in snake case."""
    record = {"user_id": 7, "tags": ["a"], "inner": {"doc_url": "x", "score": 0.5}, "at": TIME, "w": 2.0}
    assert handle.record.remote(**record).result() == record
    with pytest.raises(TypeError, match="(?s)ignored"):
        handle.record.remote(**record, ignored=1).result()


def test_no_argument(handle):
    assert handle.nothing.remote().result() is None
    with pytest.raises(TypeError):
        handle.nothing.remote(1).result()


@pytest.mark.parametrize("name", ["text", "Text"])
def test_names(handle, name):
    """SayHi and say_hi are one name, towards either language."""
    assert getattr(handle, name).remote("x").result() == "x"


def test_default_method(handles):
    assert handles["go"].remote("x").result() == "x"  # Options.Default
    with pytest.raises(RayServeException, match="has no default method .*; it has .*Text"):
        handles["go to go"].remote("x").result()


def test_errors(handles):
    """The error of the deployment that failed arrives: its type, its text, and its traceback if it has one."""
    for way in ("python", "go to python"):
        with pytest.raises(KeyError, match="no such thing") as e:
            handles[way].fail.remote("no such thing").result()
        assert "mixed_echo.py" in str(e.value.__cause__), way
    for way in ("go", "python to go", "go to go"):
        with pytest.raises(RayServeException, match="no such thing"):
            handles[way].fail.remote("no such thing").result()
    with pytest.raises(RayServeException, match="panic: out of order") as e:
        handles["go"].panics.remote("out of order").result()
    assert "echo.go" in str(e.value.__cause__)


def test_streams(handle):
    assert list(handle.options(stream=True).count.remote(300)) == list(range(300))
    before = handle.ended.remote().result()
    stream = handle.options(stream=True).endless.remote()
    assert [next(stream), next(stream)] == [0, 1]
    stream.cancel()
    eventually(lambda: handle.ended.remote().result() == before + 1)


def test_broadcasts(handle):
    assert handle.broadcast("text", "x").results() == ["x"]
    with pytest.raises((KeyError, RayServeException), match="why not"):
        handle.broadcast("fail", "why not").results()


def test_cancellation(handle):
    """A cancel reaches the method at the end of the chain."""
    begun, ended = handle.started.remote().result(), handle.ended.remote().result()
    response = handle.block.remote()
    eventually(lambda: handle.started.remote().result() == begun + 1)
    response.cancel()
    eventually(lambda: handle.ended.remote().result() == ended + 1)


@pytest.mark.parametrize("to", WAYS)
def test_responses_as_arguments(handle, handles, to):
    """A response is an argument of a call to any other deployment, small or large."""
    assert handles[to].text.remote(handle.text.remote("x")).result() == "x"
    array = numpy.arange(300_000, dtype="float32").reshape(300, 1000)
    assert (handles[to].matrix.remote(handle.matrix.remote(array)).result() == array).all()
    with pytest.raises((KeyError, RayServeException), match="upstream"):
        handles[to].text.remote(handle.fail.remote("upstream")).result()


def test_context(handle):
    who = handle.options(multiplexed_model_id="m:v1", session_id="s").who.remote().result()
    assert (who["model"], who["session"]) == ("m:v1", "s") and len(who["request"]) > 8 and who["request"] != "another request"


def test_status(handles):
    deployments = serve.status().applications["go-to-python"].deployments
    assert {name: d.status for name, d in deployments.items()} == {"Relay": "HEALTHY", "Target": "HEALTHY"}
