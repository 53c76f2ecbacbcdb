"""Models that load before a call asks for them, because the replica that has them stops."""

import asyncio
import os
import random
import time

import pytest
from clock import run, settle
from test_multiplex import Model, Zoo, replica, request, spawn  # noqa: F401

from helve import _driver, serve
from helve._models import Refused, models

TITLE = Zoo.get._helve_loader.title


def cache_of(zoo):
    return Zoo.get._helve_loader.cache(zoo)


def ahead(zoo, id, unused, loader=TITLE):
    return models.ahead(zoo, loader, id, unused)


# ---- one replica


def test_a_better_place_is_not_taken(replica):
    async def main():
        zoo = Zoo()
        await request(zoo.get("a"))
        await asyncio.sleep(60)
        await request(zoo.get("b"))
        await asyncio.sleep(60)
        assert "was used later" in (await ahead(zoo, "old", 3600))["refused"]
        assert zoo.log == ["load a", "load b"]
        assert await ahead(zoo, "c", 90) == {}  # b was used a minute ago, a two
        assert zoo.log[2:] == ["end a", "load c"] and list(cache_of(zoo).loaded) == ["c", "b"]
        await request(zoo.get("d"))
        assert zoo.log[4:] == ["end c", "load d"] and list(cache_of(zoo).loaded) == ["b", "d"]
        assert sorted((m["model"], m["loader"], m["unused_s"] > 59) for m in models.unused()) == [("b", TITLE, True), ("d", TITLE, False)]

    run(main)


def test_a_model_in_use_counts_as_used_now(replica):
    async def main():
        zoo, done = Zoo(), asyncio.Event()

        async def hold(id):
            await zoo.get(id)
            await done.wait()

        calls = [request(hold(id)) for id in "ab"]
        await asyncio.sleep(3600)
        assert [m["unused_s"] for m in models.unused()] == [0, 0]
        assert "in use" in (await ahead(zoo, "c", 0))["refused"]
        done.set()
        await asyncio.gather(*calls)
        await asyncio.sleep(1)
        assert [round(m["unused_s"]) for m in models.unused()] == [1, 1]
        assert await ahead(zoo, "a", 0) == {} and zoo.log == ["load a", "load b"]

    run(main)


def test_a_call_takes_the_load_over(replica):
    async def main():
        zoo = Zoo()
        zoo.gate.clear()
        load = spawn(ahead(zoo, "a", 3600))
        await settle()
        call = request(zoo.get("a"))
        await settle()
        load.cancel()
        await settle()
        zoo.gate.set()
        assert (await call).id == "a" and zoo.log == ["load a"]
        await request(zoo.get("b"))
        assert "refused" in await ahead(zoo, "c", 60)  # a was used now

    run(main)


def test_a_load_that_fails_or_is_given_up(replica):
    async def main():
        zoo = Zoo()
        with pytest.raises(ZeroDivisionError):
            await ahead(zoo, "bad", 0)
        zoo.gate.clear()
        load = spawn(ahead(zoo, "a", 0))
        await settle()
        load.cancel()
        await settle()
        assert cache_of(zoo).ids() == []
        zoo.gate.set()
        assert (await request(zoo.get("a"))).id == "a"

    run(main)


class Other:
    """Has an object with a loader of its own."""

    def __init__(self, zoos):
        self.zoos = zoos


def test_loaders_of_other_objects(replica):
    async def main():
        one, two = Zoo(), Zoo()
        host = Other([one, two])
        assert "no object of the deployment, or to several" in (await ahead(host, "a", 0))["refused"]
        assert "no objects" in (await ahead(host, "a", 0, "no.such.loader"))["refused"]
        await request(one.get("x"))
        assert await ahead(host, "a", 0) == {} and one.log == ["load x", "load a"]
        await request(two.get("x"))
        assert "or to several" in (await ahead(host, "b", 0))["refused"]  # two objects have the loader

    run(main)


def test_the_loader_sees_its_model(replica):
    seen = []

    class Seeing:
        @serve.multiplexed
        async def get(self, model_id):
            seen.append((model_id, serve.get_multiplexed_model_id(), serve.context._get_serve_request_context().multiplexed_model_id))

    async def main():
        await ahead(Seeing(), "a", 0, Seeing.get._helve_loader.title)

    run(main)
    assert seen == [("a", "a", "a")]


@pytest.mark.parametrize("seed", range(10))
def test_no_better_place_is_taken_property(replica, seed):
    """Among random calls and loads ahead, a load ahead never puts out a model that was used after its own."""
    rand = random.Random(seed)

    async def main():
        zoo, used, loop = Zoo(), {}, asyncio.get_running_loop()
        cache = cache_of(zoo)
        for _ in range(100):
            await asyncio.sleep(rand.uniform(0, 60))
            id = f"m{rand.randrange(6)}"
            if rand.random() < 0.5:
                await request(zoo.get(id))
                used[id] = loop.time()
                continue
            before, unused = list(cache.loaded), rand.uniform(0, 300)
            at = loop.time() - unused
            try:
                await cache.ahead(id, unused)
            except Refused:
                assert list(cache.loaded) == before
                continue
            if id not in before:
                used[id] = at
            assert id in cache.loaded and len(cache.loaded) <= 2
            for old in before:
                assert old in cache.loaded or used[old] < at

    run(main)


# ---- a node


@serve.deployment(num_replicas=2, graceful_shutdown_timeout_s=40)
class Moving:
    """A load after the first of its model waits for a file."""

    def __init__(self, dir):
        self.dir = dir

    @serve.multiplexed(max_num_models_per_replica=3)
    async def get(self, model_id):
        path = os.path.join(self.dir, f"loads-{model_id}")
        with open(path, "a") as f:
            f.write("load\n")
        with open(path) as f:
            again = len(f.readlines()) > 1
        while again and not os.path.exists(os.path.join(self.dir, "go")):
            await asyncio.sleep(0.002)
        return model_id

    async def __call__(self):
        assert await self.get(serve.get_multiplexed_model_id()) == serve.get_multiplexed_model_id()
        return serve.get_replica_context().replica_tag


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def loads(tmp_path, id):
    path = tmp_path / f"loads-{id}"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def moving(tmp_path):
    serve.start(http_options={"location": "NoServer"})
    yield serve.run(Moving.bind(str(tmp_path)), name="moving", route_prefix=None)
    serve.delete("moving")


def test_no_call_waits_for_the_load(moving, tmp_path):
    """A call that waited for a load of a model would wait for ever here: the file is there later."""
    def at(id):
        return moving.options(multiplexed_model_id=id).remote().result(timeout_s=60)

    where = {id: at(id) for id in "ab"}
    assert where["a"] != where["b"]
    _driver.running().control("scale", app="moving", deployment="Moving", replicas=1)
    until(lambda: loads(tmp_path, "a") + loads(tmp_path, "b") == 3)  # no call has asked for it
    moves, stays = ("a", "b") if loads(tmp_path, "a") == 2 else ("b", "a")
    for _ in range(20):
        assert at(moves) == where[moves] and at(stays) == where[stays]
    (tmp_path / "go").touch()
    until(lambda: at(moves) == where[stays])
    for _ in range(5):
        assert at(moves) == where[stays]
    assert (loads(tmp_path, moves), loads(tmp_path, stays)) == (2, 1)


def test_models_move_in_a_rollout(moving, tmp_path):
    """A new revision takes the place of the old one: no call loads a model."""
    (tmp_path / "go").touch()
    before = {id: moving.options(multiplexed_model_id=id).remote().result() for id in "ab"}
    serve.run(Moving.options(version="2").bind(str(tmp_path)), name="moving", route_prefix=None)
    until(lambda: len(serve.status().applications["moving"].deployments["Moving"].replica_states) == 1)  # all RUNNING
    made = {id: loads(tmp_path, id) for id in "ab"}
    assert set(made.values()) == {2}
    for id in "ab":
        assert moving.options(multiplexed_model_id=id).remote().result() not in before.values()
    assert made == {id: loads(tmp_path, id) for id in "ab"}
