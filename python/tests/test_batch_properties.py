"""serve.batch and serve.multiplexed under schedules that hypothesis invents, on a clock of their own."""

import asyncio
import collections
import contextlib
from dataclasses import dataclass, field
from unittest import mock

import pytest
from clock import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helve import _runtime, serve
from helve._models import Models
from helve.serve import context, multiplex
from helve.serve.handle import DeploymentID

settings.register_profile("quick", max_examples=150, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")


# ---- batches


@dataclass
class Arrival:
    at: int
    size: int
    model: str
    leaves: int  # after so much time, 0: never


@dataclass
class Ran:
    items: list
    start: float
    end: float = -1


arrivals = st.lists(
    st.builds(Arrival, at=st.integers(0, 30), size=st.integers(1, 6), model=st.sampled_from(["", "m"]), leaves=st.sampled_from([0, 0, 0, 1, 4])), max_size=25,
)


@given(arrivals, st.integers(1, 6), st.integers(0, 5), st.integers(1, 3), st.booleans(), st.integers(0, 4))
def test_batches(calls, size, wait, concurrent, sized, takes):
    calls.sort(key=lambda c: c.at)
    ran: list[Ran] = []
    running = 0
    arrived = []

    async def main():
        @serve.batch(max_batch_size=size, batch_wait_timeout_s=wait, max_concurrent_batches=concurrent, batch_size_fn=(lambda xs: sum(calls[x].size for x in xs)) if sized else None)
        async def f(xs):
            nonlocal running
            running += 1
            assert running <= concurrent
            b = Ran(xs, asyncio.get_running_loop().time())
            ran.append(b)
            try:
                await asyncio.sleep(takes)
                return [-x for x in xs]
            finally:
                running -= 1
                b.end = asyncio.get_running_loop().time()

        async def call(i, c):
            await asyncio.sleep(c.at)
            context._serve_request_context.set(context._RequestContext(multiplexed_model_id=c.model))

            async def ask():
                arrived.append(i)
                return await f(i)

            return await (asyncio.wait_for(ask(), c.leaves) if c.leaves else ask())

        got = await asyncio.gather(*[call(i, c) for i, c in enumerate(calls)], return_exceptions=True)
        await asyncio.sleep(0)
        assert running == 0 and len(asyncio.all_tasks()) == 1
        return got

    got = run(main)
    where = {i: b for b in ran for i in b.items}
    assert len(where) == sum(len(b.items) for b in ran)  # no call runs twice
    ends = {b.end for b in ran}
    departures = {c.at + c.leaves for c in calls if c.leaves}
    for i, c in enumerate(calls):
        if sized and c.size > size:
            assert isinstance(got[i], (RuntimeError, asyncio.TimeoutError)) and i not in where
        elif not c.leaves:
            assert got[i] == -i and i in where
        else:
            assert got[i] == -i or isinstance(got[i], asyncio.TimeoutError)
    for model in ("", "m"):
        order = [i for b in ran for i in b.items if calls[i].model == model]
        assert order == [i for i in arrived if i in order]  # calls keep their order
    for b in ran:
        assert len({calls[i].model for i in b.items}) == 1
        weight = sum(calls[i].size if sized else 1 for i in b.items)
        assert 0 < weight <= size
        due = calls[b.items[0]].at + wait
        # A batch starts when it is due, when it is full, or when another ends; a call that leaves may have made another one the next.
        assert b.start >= due or b.start in {c.at for c in calls} | ends | departures
        assert b.start == due or b.start in {c.at for c in calls} | ends | departures


# ---- models


@pytest.fixture(autouse=True)
def replica(monkeypatch):
    monkeypatch.setattr(_runtime, "replica", context.ReplicaContext(context.ReplicaID("D#1", DeploymentID("D", "app")), None))


ids = st.sampled_from(["a", "b", "c", "d", "bad"])


@given(st.lists(ids, max_size=40), st.sampled_from([-1, 1, 2, 3]))
def test_the_least_recently_used_goes(asked, limit):
    loaded: "collections.OrderedDict[str, None]" = collections.OrderedDict()
    expected, log = [], []
    for id in asked:  # the model of the cache
        if id in loaded:
            loaded.move_to_end(id)
            continue
        if 0 <= limit <= len(loaded):
            expected.append(f"end {loaded.popitem(last=False)[0]}")
        expected.append(f"load {id}")
        if id != "bad":
            loaded[id] = None

    async def main(registry):
        get = loader(limit, log)
        for id in asked:
            if id == "bad":
                with pytest.raises(ZeroDivisionError):
                    await get(id)
            else:
                assert (await get(id)).id == id
        assert registry.ids() == sorted(loaded)
        assert log == expected
        await registry.close()

    with fresh_models() as registry:
        run(lambda: main(registry))
    assert log[len(expected) :] == [f"end {id}" for id in loaded]


@dataclass
class Model:
    id: str
    log: list

    async def __del__(self):
        self.log.append(f"end {self.id}")


@contextlib.contextmanager
def fresh_models():
    """The models of a replica of its own, for one example."""
    with mock.patch.object(multiplex, "models", Models()) as registry:
        yield registry


def loader(limit, log, takes=0):
    @serve.multiplexed(max_num_models_per_replica=limit)
    async def get(id):
        log.append(f"load {id}")
        await asyncio.sleep(takes)
        if id == "bad":
            raise ZeroDivisionError
        return Model(id, log)

    return get


@dataclass
class Ask:
    id: str
    at: int
    leaves: int = field(default=0)


@given(st.lists(st.builds(Ask, id=ids, at=st.integers(0, 20), leaves=st.sampled_from([0, 0, 1, 3])), max_size=25), st.sampled_from([-1, 1, 2]))
def test_calls_at_once(asks, limit):
    log = []

    async def main(registry):
        get = loader(limit, log, takes=2)

        async def ask(a):
            await asyncio.sleep(a.at)
            return await (asyncio.wait_for(get(a.id), a.leaves) if a.leaves else get(a.id))

        got = await asyncio.gather(*map(ask, asks), return_exceptions=True)
        for a, m in zip(asks, got):
            if isinstance(m, asyncio.TimeoutError):
                assert a.leaves
            elif a.id == "bad":
                assert type(m) is ZeroDivisionError
            else:
                assert m.id == a.id
        await asyncio.sleep(10)
        left = registry.ids()
        assert limit < 0 or len(left) <= limit
        assert len(asyncio.all_tasks()) == 1
        await registry.close()
        return left

    with fresh_models() as registry:
        left = run(lambda: main(registry))
    counts = collections.Counter(log)
    for id in "abcd":  # every model that was loaded has ended, once
        assert counts[f"end {id}"] <= counts[f"load {id}"]
        assert id not in left or counts[f"end {id}"] >= 1
