"""Profiles of a worker: helve._profile."""

import asyncio
import json
import sys
import threading
import tracemalloc

from helve import _profile
from helve._profile import Profiler, Sampler, Stacks


class Clock:
    """A clock that the test moves. cost is the CPU time of the sampler, and each look at it takes some."""

    def __init__(self, look):
        self.now, self.cost, self.look = 0.0, 0.0, look

    def time(self):
        return self.now

    def used(self):
        self.cost += self.look / 2
        self.now += self.look / 2
        return self.cost

    def wait(self, seconds):
        assert seconds > 0
        self.now += seconds


def sampled(kind, seconds, look):
    clock = Clock(look)
    sampler = Sampler(kind, seconds, clock=clock.time, cost=clock.used, wait=clock.wait)
    sampler.run()
    return sampler, clock


def test_rate_is_bounded():
    sampler, _ = sampled("cpu", 10, 1e-6)
    assert 990 <= sampler.samples <= 1002  # one each 10 ms


def test_cost_is_bounded():
    """Looks that take long are rarer: 10 ms each are 2 % of the time, and so are 100 ms each."""
    for look in (0.002, 0.01, 0.1):
        sampler, clock = sampled("cpu", 60, look)
        assert sampler.samples > 3
        assert sampler.cost <= _profile.SHARE * clock.now + look
        assert clock.now < 60 + 2 * look / _profile.SHARE


def test_cost_of_many_threads():
    """The share holds for real stacks too: 100 threads, each 50 frames deep. The sampler waits for at least its cost times 49, however fast or slow the machine is."""
    go = threading.Event()

    def deep(n):
        return deep(n - 1) if n else go.wait()

    threads = [threading.Thread(target=deep, args=(50,), daemon=True) for _ in range(100)]
    for t in threads:
        t.start()
    waits = []
    sampler = Sampler("block", 1, wait=lambda s: (waits.append(s), Sampler("cpu", 0).stop.wait(s)))
    sampler.run()
    go.set()
    assert sampler.samples > 1
    assert sum(waits) >= (sampler.samples - 2) * sampler.cost / sampler.samples
    assert all(w > 0 for w in waits)
    assert any("deep" in f[0] for f in sampler.stacks.functions)


def test_the_time_of_a_stop():
    clock = Clock(0.001)
    sampler = Sampler("cpu", 1e9, clock=clock.time, cost=clock.used, wait=lambda s: (clock.wait(s), sampler.stop.set()))
    sampler.run()
    assert sampler.samples == 2
    assert sampler.seconds == _profile.MOST_SECONDS


def test_cpu_time_is_where_it_was_spent():
    """A thread that computes has its CPU time in its own function, although another thread gives the interpreter up all the time."""
    over = threading.Event()

    def compute():
        n = 0
        while not over.is_set():
            for i in range(1000):
                n += i
        return n

    thread = threading.Thread(target=compute, name="computes", daemon=True)
    thread.start()
    interval = sys.getswitchinterval()
    sampler = Sampler("cpu", 300)
    sampler.wait = lambda s: (threading.Event().wait(s), len(sampler.stacks.values) and any(v[0] > 2e8 for v in sampler.stacks.values.values()) and sampler.stop.set())
    sampler.run()
    over.set()
    assert sys.getswitchinterval() == interval
    spent = {}
    for key, (value, _) in sampler.stacks.values.items():
        place = sampler.stacks.functions[key[1]][0].rpartition(".")[2], key[0]
        spent[place] = spent.get(place, 0) + value
    assert max(spent, key=spent.get) == ("compute", "computes")


def test_stacks_are_bounded(monkeypatch):
    monkeypatch.setattr(_profile, "MOST", 10)
    stacks = Stacks()
    for i in range(100):
        stacks.add("t", [stacks.function(i, f"f{i}", "f.py", i), i], 1)
    shown = stacks.shown()
    assert len(shown) == 11
    assert sum(s["value"] for s in shown) == 100
    assert ["(other stacks)", "", 0] in stacks.functions


def deep(n):
    return deep(n - 1) if n else sys._getframe()


def test_depth_is_bounded():
    stacks = Stacks()
    assert len(stacks.of_frame(deep(500))) == 2 * _profile.DEPTH


async def waits(event):
    await event.wait()


async def outer(event):
    await waits(event)


def names(answer):
    found = answer["stacks"]
    return [[found["functions"][n][0].rpartition(".")[2] for n in s["frames"][::2]] for s in found["stacks"]]


def test_tasks_and_one_at_a_time():
    async def main():
        profiler, event, loop = Profiler(), asyncio.Event(), asyncio.get_running_loop()
        task = loop.create_task(outer(event), name="waiter")
        await asyncio.sleep(0)
        now = await profiler.take(loop, "stacks", 0)
        json.dumps(now)
        assert ["wait", "waits", "outer"] in names(now)
        assert any(s["thread"] == "task waiter" for s in now["stacks"]["stacks"])
        assert not any("take" in stack for stack in names(now))  # the profile itself

        long = loop.create_task(profiler.take(loop, "block", 300))
        await asyncio.sleep(0)
        refused = await profiler.take(loop, "cpu", 1)
        assert refused["busy"].startswith("block, until ")
        while not any(f[0].endswith("waits") for f in list_of(profiler)):
            await asyncio.sleep(0.01)
        profiler.end()
        found = await long
        assert ["wait", "waits", "outer"] in names(found)
        assert found["stacks"]["samples"] > 1
        profiler.end()  # of none
        assert "stacks" in await profiler.take(loop, "stacks", 0)
        event.set()
        await task

    samplers = []
    made = _profile.Sampler.__init__

    def noted(self, *args, **kwargs):
        made(self, *args, **kwargs)
        samplers.append(self)

    def list_of(profiler):
        return list(samplers[-1].stacks.functions) if samplers[-1].kind == "block" else list(samplers[-2].stacks.functions)

    _profile.Sampler.__init__ = noted
    try:
        asyncio.run(main())
    finally:
        _profile.Sampler.__init__ = made


def test_heap():
    stacks, stop, kept = Stacks(), threading.Event(), []

    def allocate(seconds):
        kept.append(bytearray(3_000_000))

    stop.wait = allocate
    _profile.heap(stacks, 1, stop)
    assert not tracemalloc.is_tracing()
    most = max(stacks.shown(), key=lambda s: s["value"])
    assert most["value"] >= 3_000_000
    assert stacks.functions[most["frames"][0]][1] == __file__


def test_heap_of_a_program_that_traces():
    tracemalloc.start()
    try:
        _profile.heap(Stacks(), 1, type("Now", (), {"wait": staticmethod(lambda s: None)})())
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_no_such_kind():
    async def main():
        await Profiler().take(asyncio.get_running_loop(), "colour", 1)

    try:
        asyncio.run(main())
    except ValueError as e:
        assert "colour" in str(e)
    else:
        raise AssertionError("a profile of no kind")


def test_cpu_time_of_a_thread_that_mostly_waits():
    """A thread that is found in select() has spent its CPU time before: the time is that of the next stack that computes, and of select() only if there is none."""
    file = _profile._WAITS[2]
    sampler = Sampler("cpu", 1)
    idle = [sampler.stacks.function("select", "select", file, 1), 1]
    busy = [sampler.stacks.function("score", "score", "user.py", 1), 1]
    for _ in range(19):
        sampler.spent(1, "main", idle, 50)
        sampler.spent(2, "other", idle, 1)
    sampler.spent(1, "main", busy, 50)
    sampler.spent(1, "main", idle, 30)
    sampler.settle()
    assert sampler.stacks.values == {("main", *busy): [1000, 1], ("main", *idle): [30, 1], ("other", *idle): [19, 1]}
    sampler.settle()
    assert sampler.stacks.values["main", *idle] == [30, 1]
