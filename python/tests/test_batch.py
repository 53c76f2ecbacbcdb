"""serve.batch on plain event loops."""

import asyncio
import gc
import inspect
import logging
import threading
import time
import weakref

import pytest
from clock import collect, now, run, settle, spawn

from helve import _runtime, serve
from helve.serve import context
from helve.serve.batching import _RuntimeSummaryStatistics
from helve.serve.exceptions import RayServeException


class Recorder:
    """A batch function that notes its batches, and runs for as long as its gate is closed."""

    def __init__(self, **options):
        self.batches, self.times, self.running, self.most = [], [], 0, 0
        self.gate = asyncio.Event()
        self.gate.set()

        @serve.batch(**options)
        async def call(xs):
            self.batches.append(xs)
            self.times.append(now())
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.gate.wait()
                if "raise" in xs:
                    raise ZeroDivisionError("raise is among the items")
                return [x * 10 for x in xs]
            finally:
                self.running -= 1

        self.call = call


# ---- the decorator


@pytest.mark.parametrize("options, error, text", [
    ({"max_batch_size": 0}, ValueError, "max_batch_size must be an integer >= 1"),
    ({"max_batch_size": -3}, ValueError, "max_batch_size must be an integer >= 1"),
    ({"max_batch_size": 1.1}, TypeError, "max_batch_size must be integer >= 1"),
    ({"max_batch_size": "1"}, TypeError, "max_batch_size must be integer >= 1"),
    ({"max_batch_size": None}, TypeError, "max_batch_size must be integer >= 1"),
    ({"batch_wait_timeout_s": -1}, ValueError, "batch_wait_timeout_s must be a float >= 0"),
    ({"batch_wait_timeout_s": float("nan")}, ValueError, "batch_wait_timeout_s must be a float >= 0"),
    ({"batch_wait_timeout_s": "a"}, TypeError, "batch_wait_timeout_s must be a float >= 0"),
    ({"max_concurrent_batches": 0}, TypeError, "max_concurrent_batches must be an integer >= 1"),
    ({"max_concurrent_batches": 1.0}, TypeError, "max_concurrent_batches must be an integer >= 1"),
    ({"batch_size_fn": 3}, TypeError, "batch_size_fn must be a callable or None"),
])
def test_options_that_are_wrong(options, error, text):
    with pytest.raises(error, match=text):
        serve.batch(**options)


def test_functions_that_are_wrong():
    with pytest.raises(TypeError, match="must be 'async def'"):

        @serve.batch
        def plain(xs):
            return xs

    with pytest.raises(TypeError, match="must be 'async def'"):
        serve.batch(max_batch_size=2)(lambda xs: xs)
    with pytest.raises(TypeError, match="can only be used to decorate functions or methods"):
        serve.batch(3)


def test_what_is_decorated():
    @serve.batch
    async def bare(xs):
        """A text."""

    @serve.batch(max_batch_size=1.0, batch_wait_timeout_s=2)
    async def called(xs): ...

    @serve.batch
    async def generator(xs):
        yield xs

    assert inspect.iscoroutinefunction(bare) and bare.__doc__ == "A text." and bare.__name__ == "bare"
    assert (bare._get_max_batch_size(), bare._get_batch_wait_timeout_s()) == (10, 0.01)
    assert (called._get_max_batch_size(), called._get_batch_wait_timeout_s()) == (1, 2)
    assert inspect.isgeneratorfunction(generator) is False and callable(generator.set_max_batch_size)


# ---- when batches run


def test_full_batch_does_not_wait():
    async def main():
        r = Recorder(max_batch_size=3, batch_wait_timeout_s=1000)
        assert await asyncio.gather(*map(r.call, range(3))) == [0, 10, 20]
        assert r.batches == [[0, 1, 2]] and now() == 0

    run(main)


def test_size_of_one_never_waits():
    async def main():
        r = Recorder(max_batch_size=1, batch_wait_timeout_s=1000)
        assert await r.call(1) == 10
        with pytest.raises(ZeroDivisionError):
            await r.call("raise")
        assert now() == 0

    run(main)


def test_wait_begins_with_the_first_call():
    async def main():
        r = Recorder(max_batch_size=10, batch_wait_timeout_s=5)
        first = spawn(r.call(1))
        await asyncio.sleep(3)
        second = spawn(r.call(2))
        assert await asyncio.gather(first, second) == [10, 20]
        assert r.batches == [[1, 2]] and r.times == [5]

        await asyncio.sleep(100)  # an idle time does not count
        nine = [spawn(r.call(i)) for i in range(9)]
        await asyncio.sleep(4)
        assert not any(t.done() for t in nine)
        tenth = spawn(r.call(9))
        await asyncio.gather(*nine, tenth)
        assert r.batches[1:] == [list(range(10))] and now() == 109

    run(main)


def test_zero_wait_takes_what_is_there():
    async def main():
        r = Recorder(max_batch_size=2, batch_wait_timeout_s=0)
        r.gate.clear()
        first = spawn(r.call(1))
        await settle()
        assert r.batches == [[1]]  # alone, and without a wait
        rest = [spawn(r.call(i)) for i in (2, 3, 4)]
        await settle()
        assert r.batches == [[1]]  # one batch at a time
        r.gate.set()
        assert await asyncio.gather(first, *rest) == [10, 20, 30, 40]
        assert r.batches == [[1], [2, 3], [4]] and now() == 0

    run(main)


def test_calls_of_one_turn_are_together_without_a_wait():
    async def main():
        r = Recorder(max_batch_size=10, batch_wait_timeout_s=0)
        await asyncio.gather(*map(r.call, range(4)))
        assert r.batches == [[0, 1, 2, 3]]

    run(main)


def test_more_calls_than_a_batch_holds():
    async def main():
        r = Recorder(max_batch_size=2, batch_wait_timeout_s=1000)
        assert await asyncio.gather(*map(r.call, range(10))) == [i * 10 for i in range(10)]
        assert [len(b) for b in r.batches] == [2] * 5 and now() == 0

    run(main)


@pytest.mark.parametrize("limit", [1, 3])
def test_concurrent_batches(limit):
    async def main():
        r = Recorder(max_batch_size=2, batch_wait_timeout_s=1, max_concurrent_batches=limit)
        r.gate.clear()
        calls = [spawn(r.call(i)) for i in range(10)]
        await settle()
        assert r.running == limit
        r.gate.set()
        await asyncio.gather(*calls)
        assert r.most == limit and [len(b) for b in r.batches] == [2] * 5

    run(main)


def test_waiting_calls_fill_the_next_batch():
    async def main():
        r = Recorder(max_batch_size=3, batch_wait_timeout_s=1)
        r.gate.clear()
        calls = [spawn(r.call(0))]
        await asyncio.sleep(2)
        for i in range(1, 4):  # each is due after a second, but one batch runs
            calls.append(spawn(r.call(i)))
            await asyncio.sleep(2)
        r.gate.set()
        await asyncio.gather(*calls)
        assert r.batches == [[0], [1, 2, 3]]

    run(main)


def test_setters_while_calls_wait():
    async def main():
        r = Recorder(max_batch_size=10, batch_wait_timeout_s=1000)
        calls = [spawn(r.call(i)) for i in range(4)]
        await settle()
        r.call.set_max_batch_size(2)
        assert r.call._get_max_batch_size() == 2
        await asyncio.gather(*calls)
        assert r.batches == [[0, 1], [2, 3]] and now() == 0

        one = spawn(r.call(4))
        await settle()
        r.call.set_batch_wait_timeout_s(3)
        await one
        assert now() == 3
        with pytest.raises(ValueError, match="max_batch_size must be an integer >= 1"):
            r.call.set_max_batch_size(0)
        with pytest.raises(TypeError, match="batch_wait_timeout_s must be a float >= 0"):
            r.call.set_batch_wait_timeout_s("1")
        assert r.call._get_max_batch_size() == 2

    run(main)


# ---- arguments and results


@pytest.mark.parametrize("calls", [
    [((1, 2), {}), ((3, 4), {})],
    [((), {"a": 1, "b": 2}), ((), {"a": 3, "b": 4})],
    [((1,), {"b": 2}), ((3,), {"b": 4})],
    [((), {"b": 2, "a": 1}), ((3, 4), {})],
], ids=["positional", "named", "mixed", "other order"])
def test_arguments_by_name(calls):
    async def main():
        class Model:
            @serve.batch(max_batch_size=2, batch_wait_timeout_s=1000)
            async def method(self, a, b):
                return list(zip(a, b))

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=1000)
        async def function(a, b):
            return list(zip(a, b))

        for f in (Model().method, function):
            assert await asyncio.gather(*[f(*args, **kwargs) for args, kwargs in calls]) == [(1, 2), (3, 4)]

    run(main)


def test_other_arguments():
    async def main():
        @serve.batch(max_batch_size=2, batch_wait_timeout_s=1)
        async def f(a, b=7, *rest, c="c", **more):
            return list(zip(a, b if isinstance(b, list) else [b] * len(a), c if isinstance(c, list) else c * len(a), zip(*rest) if rest else [()] * len(a))) if not more else [more] * len(a)

        assert await asyncio.gather(f(1), f(2)) == [(1, 7, "c", ()), (2, 7, "c", ())]
        assert await asyncio.gather(f(1), f(2, 3)) == [(1, 7, "c", ()), (2, 3, "c", ())]  # the default of the other one
        assert await asyncio.gather(f(1, 2, 3), f(4, 5, 6)) == [(1, 2, "c", (3,)), (4, 5, "c", (6,))]
        assert await asyncio.gather(f(1, c="x"), f(2)) == [(1, 7, "x", ()), (2, 7, "c", ())]
        assert await asyncio.gather(f(1, d=1), f(2, d=2)) == [{"d": [1, 2]}] * 2
        for pair in ((f(1, d=1), f(2)), (f(1, 2, 3), f(4, 5))):
            for e in await asyncio.gather(*pair, return_exceptions=True):
                assert "All batch requests should have the same number of parameters" in str(e)
        with pytest.raises(TypeError, match="missing a required argument: 'a'"):
            await f()

    run(main)


@pytest.mark.parametrize("result, error, text", [
    ([1], RayServeException, "Batched function doesn't preserve batch size. The input list has length 2 but the returned list has length 1."),
    (None, TypeError, "object of type 'NoneType' has no len()"),
    (5, TypeError, "object of type 'int' has no len()"),
])
def test_results_that_are_wrong(result, error, text):
    async def main():
        @serve.batch
        async def unary(xs):
            return result

        @serve.batch
        async def streamed(xs):
            yield xs
            yield result

        for e in await asyncio.gather(unary(1), unary(2), return_exceptions=True):
            assert type(e) is error and text in str(e)
        for items, e in await asyncio.gather(*[collect(streamed(i)) for i in (1, 2)]):
            assert len(items) == 1 and type(e) is error and text in str(e)

    run(main)


def test_exceptions_reach_every_caller_of_the_batch():
    async def main():
        r = Recorder(max_batch_size=2, batch_wait_timeout_s=0)
        got = await asyncio.gather(*map(r.call, [1, "raise", 2, 3]), return_exceptions=True)
        assert [type(e) for e in got[:2]] == [ZeroDivisionError] * 2 and got[2:] == [20, 30]

        @serve.batch
        async def returned(xs):  # a value like others
            return [ValueError("x")] * len(xs)

        assert type(await returned(1)) is ValueError

        @serve.batch
        async def cancelled(xs):
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await cancelled(1)

    run(main)


# ---- the size function


def test_size_function_keeps_the_order():
    async def main():
        r = Recorder(max_batch_size=10, batch_wait_timeout_s=5, batch_size_fn=sum)
        assert await asyncio.gather(*map(r.call, [4, 5, 3, 7, 1])) == [40, 50, 30, 70, 10]
        assert r.batches == [[4, 5], [3, 7], [1]] and r.times == [0, 0, 5]

    run(main)


def test_size_function_that_refuses():
    async def main():
        def size(xs):
            if "bad" in xs:
                raise KeyError("bad")
            return sum(xs)

        r = Recorder(max_batch_size=10, batch_wait_timeout_s=1, batch_size_fn=size)
        got = await asyncio.gather(*map(r.call, [1, 30, "bad", 2]), return_exceptions=True)
        assert got[0] == 10 and got[3] == 20
        assert type(got[1]) is RuntimeError and "Size of item is greater than max_batch_size" in str(got[1])
        assert type(got[2]) is KeyError
        assert r.batches == [[1, 2]]  # the two did not take their places

    run(main)


def test_size_function_gets_the_first_argument_by_name():
    async def main():
        @serve.batch(max_batch_size=4, batch_wait_timeout_s=1, batch_size_fn=sum)
        async def f(a, b):
            return list(zip(a, b))

        assert await asyncio.gather(f(b=1, a=2), f(2, 3)) == [(2, 1), (2, 3)]
        assert now() == 0

    run(main)


# ---- objects, loops, models


def test_each_object_has_its_queue():
    async def main():
        class Model:
            __slots__ = ("name",)  # no weak references, no attributes

            def __init__(self, name):
                self.name = name

            def __eq__(self, other):
                return True

            __hash__ = None

            @serve.batch(batch_wait_timeout_s=1)
            async def method(self, xs):
                return [(self.name, xs)] * len(xs)

            @serve.batch(batch_wait_timeout_s=1)
            async def unusual(this, xs):
                return [(this.name, xs)] * len(xs)

            @classmethod
            @serve.batch(batch_wait_timeout_s=1)
            async def of_class(cls, xs):
                return [(cls.__name__, xs)] * len(xs)

            @staticmethod
            @serve.batch(batch_wait_timeout_s=1)
            async def static(a, b):
                return list(zip(a, b))

        a, b = Model("a"), Model("b")
        for name in ("method", "unusual"):
            f, g = getattr(a, name), getattr(b, name)
            assert await asyncio.gather(f(1), g(2), f(3)) == [("a", [1, 3]), ("b", [2]), ("a", [1, 3])]
        assert await asyncio.gather(Model.of_class(1), a.of_class(2)) == [("Model", [1, 2])] * 2
        assert await asyncio.gather(Model.static(1, 2), b.static(3, 4)) == [(1, 2), (3, 4)]

    run(main)


def test_nothing_is_left_of_an_object():
    async def main():
        class Model:
            @serve.batch(batch_wait_timeout_s=1)
            async def method(self, xs):
                return xs

        m = Model()
        assert await m.method(1) == 1
        await settle()
        gone = weakref.ref(m)
        del m
        gc.collect()
        assert gone() is None
        assert len(asyncio.all_tasks()) == 1

    run(main)


def test_loops_in_threads():
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=60)
    async def f(xs):
        return [(x, threading.get_ident()) for x in xs]

    async def pair(i):
        return await asyncio.gather(f(i), f(-i))

    found = {}

    def work(i):
        found[i] = asyncio.run(pair(i)), threading.get_ident()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(1, 5):
        answers, thread = found[i]
        assert answers == [(i, thread), (-i, thread)]


def test_a_loop_that_ended_while_calls_waited():
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=60)
    async def f(xs):
        return xs

    async def leave():
        spawn(f(1))
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert asyncio.run(both(f)) == [1, 2]


async def both(f):
    return await asyncio.gather(f(1), f(2))


def test_models_and_contexts():
    async def main():
        seen = []

        @serve.batch(max_batch_size=10, batch_wait_timeout_s=1)
        async def f(xs):
            members = context._get_serve_batch_request_context()
            seen.append((serve.get_multiplexed_model_id(), [m.request_id for m in members], context._get_serve_request_context().request_id))
            return xs

        async def request(i, model):
            context._serve_request_context.set(context._RequestContext(request_id=f"r{i}", multiplexed_model_id=model))
            await f(i)
            assert context._get_serve_request_context().request_id == f"r{i}"
            assert context._get_serve_batch_request_context() == []

        await asyncio.gather(*[request(i, "ab"[i % 2]) for i in range(5)])
        assert sorted(seen) == [("a", ["r0", "r2", "r4"], ""), ("b", ["r1", "r3"], "")]

    run(main)


# ---- cancel


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_cancelled_calls_leave_the_queue(stream):
    async def main():
        batches = []

        if stream:

            @serve.batch(max_batch_size=2, batch_wait_timeout_s=50)
            async def inner(xs):
                batches.append(xs)
                yield xs

            async def f(x):
                return [y async for y in inner(x)][0]

        else:

            @serve.batch(max_batch_size=2, batch_wait_timeout_s=50)
            async def f(xs):
                batches.append(xs)
                return xs

        gone = spawn(f("gone"))
        await settle()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert gone.cancelled()
        await asyncio.sleep(100)
        assert batches == []
        gone, stays = spawn(f("gone")), spawn(f("stays"))
        await asyncio.sleep(0)
        gone.cancel()  # both would be in the batch that is about to begin
        assert await stays == "stays"
        assert batches == [["stays"]]

    run(main)


def test_a_call_that_leaves_an_old_queue():
    """A call that is cancelled at the moment of its batch comes back to a queue that is gone, and does not touch the next one."""

    async def main():
        r = Recorder(max_batch_size=1, batch_wait_timeout_s=0)
        gone = spawn(r.call(1))
        await asyncio.sleep(0)
        gone.cancel()
        r.gate.clear()
        calls = [spawn(r.call(2))]
        await settle()
        calls.append(spawn(r.call(3)))
        await settle()
        assert r.running == 1
        r.gate.set()
        assert await asyncio.gather(*calls) == [20, 30] and r.most == 1

    run(main)


def test_a_running_batch_goes_on_for_the_others():
    async def main():
        r = Recorder(max_batch_size=2, batch_wait_timeout_s=0)
        r.gate.clear()
        gone, stays = spawn(r.call(1)), spawn(r.call(2))
        await settle()
        gone.cancel()
        await settle()
        assert gone.cancelled() and r.running == 1
        r.gate.set()
        assert await stays == 20

    run(main)


def test_a_batch_without_callers_is_cancelled():
    async def main():
        r = Recorder(max_batch_size=2, batch_wait_timeout_s=0)
        r.gate.clear()
        calls = [spawn(r.call(i)) for i in range(4)]
        await settle()
        for t in calls[:2]:
            t.cancel()
        await settle()
        assert r.running == 1 and r.batches == [[0, 1], [2, 3]]  # the next one runs
        r.gate.set()
        assert await asyncio.gather(*calls[2:]) == [20, 30]

    run(main)


def test_cancel_after_an_error():
    async def main():
        r = Recorder(max_batch_size=1, batch_wait_timeout_s=0)
        failed = spawn(r.call("raise"))
        await asyncio.wait([failed])
        assert failed.cancel() is False and type(failed.exception()) is ZeroDivisionError
        assert await r.call(1) == 10

    run(main)


def test_all_tasks_are_cancelled():
    async def main():
        r = Recorder(max_batch_size=2, batch_wait_timeout_s=0)
        calls = [spawn(r.call(i)) for i in range(2)]
        await asyncio.sleep(0)
        for t in asyncio.all_tasks() - {asyncio.current_task(), *calls}:
            t.cancel()  # the task of the batch, before its first step
        assert await asyncio.gather(*calls) == [0, 10]

    run(main)


# ---- batches that run


def test_running_batches():
    async def main():
        @serve.batch(max_batch_size=1, batch_wait_timeout_s=0, max_concurrent_batches=2)
        async def wait_here(xs):
            await go.wait()
            return xs

        go = asyncio.Event()
        before = time.time()
        calls = [spawn(wait_here(i)) for i in range(2)]
        await settle()
        stats = wait_here._get_curr_iteration_start_times()
        assert stats.num_requests == 2 and before <= stats.min_start_time <= stats.mean_start_time <= stats.max_start_time <= time.time()
        assert "wait_here" in await wait_here._get_handling_task_stack()
        assert await wait_here._is_batching_task_alive()
        go.set()
        await asyncio.gather(*calls)
        assert wait_here._get_curr_iteration_start_times() == _RuntimeSummaryStatistics([])
        assert _RuntimeSummaryStatistics([]).mean_start_time is None

    run(main)


def test_warning_of_max_ongoing_requests(monkeypatch, caplog):
    monkeypatch.setattr(_runtime, "max_ongoing_requests", 5)
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)

    @serve.batch(max_batch_size=3, max_concurrent_batches=2)
    async def f(xs):
        return xs

    asyncio.run(both(f))
    asyncio.run(both(f))
    assert len([r for r in caplog.records if "`max_batch_size` (3) * `max_concurrent_batches` (2) is larger than `max_ongoing_requests` (5)" in r.message]) == 1

# ---- memory


class Large:
    """An object that a failed batch had in its frames."""


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_a_failure_keeps_nothing(stream):
    async def main():
        alive = []

        def make():
            large = Large()
            alive.append(weakref.ref(large))
            raise ZeroDivisionError

        if stream:

            @serve.batch(batch_wait_timeout_s=0)
            async def inner(xs):
                yield xs
                make()

            async def f(x):
                return [y async for y in inner(x)]

        else:

            @serve.batch(batch_wait_timeout_s=0)
            async def f(xs):
                make()

        async def call():
            try:
                await f(1)
            except ZeroDivisionError:
                pass

        await asyncio.gather(call(), call())
        await settle()
        assert alive and not any(ref() for ref in alive)

    gc.collect()
    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()
