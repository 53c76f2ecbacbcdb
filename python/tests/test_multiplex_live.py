"""serve.multiplexed in replicas of a real node: calls follow the models."""

import asyncio
import os

import httpx
import pytest

from ports import free_port
from helve import _driver, serve
from helve.serve import context


@serve.deployment(num_replicas=3, max_ongoing_requests=1)
class Zoo:
    def __init__(self, log=None):
        self.log = log

    def note(self, text):
        if self.log is not None:
            with open(self.log, "a") as f:
                f.write(f"{text}\n")

    @serve.multiplexed(max_num_models_per_replica=2)
    async def get(self, model_id):
        self.note(f"load {model_id}")
        return Animal(model_id, self)

    async def __call__(self, request=None):
        animal = await self.get(serve.get_multiplexed_model_id())
        assert animal.id == context._get_serve_request_context().multiplexed_model_id
        return serve.get_replica_context().replica_tag

    async def hold(self, path):
        tag = await self()
        while not os.path.exists(path):
            await asyncio.sleep(0.001)
        return tag


class Animal:
    def __init__(self, id, zoo):
        self.id, self.zoo = id, zoo

    def __del__(self):
        self.zoo.note(f"end {self.id}")


@serve.deployment(num_replicas=2)
@serve.multiplexed
async def function(model_id):
    return [model_id, serve.get_replica_context().replica_tag]


@serve.deployment
class Front:
    def __init__(self, zoo):
        self.zoo = zoo

    async def __call__(self, ids):
        own = serve.get_multiplexed_model_id()
        return own, [await self.zoo.options(multiplexed_model_id=id).remote() for id in ids]


@pytest.fixture(scope="module")
def url():
    port = free_port()
    serve.start(http_options={"port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    _driver._http = None


@pytest.fixture
def zoo(url, tmp_path):
    yield serve.run(Zoo.bind(str(tmp_path / "log")), name="zoo", route_prefix="/zoo")
    serve.delete("zoo")


def lines(tmp_path):
    return (tmp_path / "log").read_text().splitlines()


def test_calls_follow_their_models(zoo, url, tmp_path):
    at = {id: zoo.options(multiplexed_model_id=id).remote().result() for id in "abc"}
    assert len(set(at.values())) == 3  # each to the replica with the fewest models
    for _ in range(3):
        for id in "cab":
            assert zoo.options(multiplexed_model_id=id).remote().result() == at[id]
            for header in ("serve_multiplexed_model_id", "serve-multiplexed-model-id"):
                assert httpx.get(url + "/zoo", headers={header: id}).text == at[id]
    assert sorted(lines(tmp_path)) == ["load a", "load b", "load c"]


def test_calls_without_a_model(zoo, url):
    with pytest.raises(ValueError, match="The model ID cannot be empty"):
        zoo.remote().result()
    assert httpx.get(url + "/zoo").status_code == 500


def test_a_busy_replica(zoo, tmp_path):
    """A model whose replica is busy is loaded elsewhere too."""
    m = zoo.options(multiplexed_model_id="m")
    first = m.hold.remote(str(tmp_path / "go"))
    other = m.remote().result(timeout_s=20)
    (tmp_path / "go").touch()
    assert first.result() != other and lines(tmp_path) == ["load m", "load m"]


def test_models_end_with_their_replica(url, tmp_path):
    zoo = serve.run(Zoo.options(num_replicas=1).bind(str(tmp_path / "log")), name="ends", route_prefix=None)
    for id in "aba" "c":
        zoo.options(multiplexed_model_id=id).remote().result()
    assert lines(tmp_path) == ["load a", "load b", "end b", "load c"]
    serve.delete("ends")
    assert lines(tmp_path)[4:] == ["end a", "end c"]


def test_a_function_and_a_caller(url):
    f = serve.run(function.bind(), name="function", route_prefix=None)
    id, at = f.remote("a").result()
    assert id == "a"
    assert f.options(multiplexed_model_id="a").remote("a").result() == ["a", at]

    front = serve.run(Front.bind(Zoo.bind()), name="front", route_prefix=None)
    own, places = front.options(multiplexed_model_id="own").remote(["x", "y", "x", "y"]).result()
    assert own == "own" and places[:2] == places[2:] and places[0] != places[1]
