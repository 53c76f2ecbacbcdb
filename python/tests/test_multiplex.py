"""serve.multiplexed on plain event loops, as in a replica without a node."""

import asyncio
import gc
import threading
import weakref

import pytest
from clock import run, settle

from helve import _runtime, serve
from helve._models import Models, models
from helve._wire import RequestInfo, request_info
from helve.serve import context
from helve.serve.handle import DeploymentID


@pytest.fixture(autouse=True)
def replica(monkeypatch):
    """The process is a replica, whose reports are noted."""
    monkeypatch.setattr(_runtime, "replica", context.ReplicaContext(context.ReplicaID("D#1", DeploymentID("D", "app")), None))
    monkeypatch.setattr(models, "caches", set())
    reports = []
    monkeypatch.setattr(models, "report", lambda: reports.append(models.ids()))
    return reports


def spawn(coro):
    return asyncio.get_running_loop().create_task(coro)


class Model:
    def __init__(self, id, log):
        self.id, self.log = id, log

    def __del__(self):
        self.log.append(f"end {self.id}")


class Zoo:
    """Loads models, which note their loads and ends. A load waits while its gate is closed."""

    def __init__(self):
        self.log, self.gate = [], asyncio.Event()
        self.gate.set()

    @serve.multiplexed(max_num_models_per_replica=2)
    async def get(self, model_id: str):
        self.log.append(f"load {model_id}")
        await self.gate.wait()
        if model_id.startswith("bad"):
            raise ZeroDivisionError(model_id)
        return Model(model_id, self.log)

    async def ids(self, *ids):
        return [(await self.get(id)).id for id in ids]


def request(coro):
    """Runs a coroutine as a worker runs a call."""
    info = RequestInfo(b"", b"", b"", 0, 0, None)

    async def call():
        request_info.set(info)
        return await coro

    info.task = spawn(call())
    return info.task


# ---- the decorator


async def one(model_id): ...


async def with_object(this, model_id): ...


class Methods:
    async def good(self, model_id): ...
    async def none(self): ...
    async def two(self, a, b): ...
    async def named(self, *, model_id): ...


@pytest.mark.parametrize("fn", [one, with_object, Methods.good])
def test_loaders(fn):
    for decorated in (serve.multiplexed(fn), serve.multiplexed()(fn), serve.multiplexed(max_num_models_per_replica=1)(fn), serve.multiplexed(max_num_models_per_replica=-1)(fn)):
        assert asyncio.iscoroutinefunction(decorated) and decorated.__name__ == fn.__name__


async def nothing(): ...


async def rest(*ids): ...


def plain(model_id): ...


@pytest.mark.parametrize("fn, text", [
    (plain, "can only be used to decorate async functions or methods"),
    (Zoo, "can only be used to decorate async functions or methods"),
    (3, "The `multiplexed` decorator must be used with a function or method"),
    (nothing, "at least one 'model_id: str' argument"),
    (rest, "at least one 'model_id: str' argument"),
    (Methods.none, "at least one 'model_id: str' argument"),
    (Methods.two, "at least one 'model_id: str' argument"),
    (Methods.named, "at least one 'model_id: str' argument"),
])
def test_loaders_that_are_wrong(fn, text):
    for decorate in (serve.multiplexed, serve.multiplexed(max_num_models_per_replica=2)):
        with pytest.raises(TypeError, match=text):
            decorate(fn)


@pytest.mark.parametrize("limit, error, text", [
    (0, ValueError, "max_num_models_per_replica must be positive"), (-2, ValueError, "max_num_models_per_replica must be positive"),
    (1.0, TypeError, "max_num_models_per_replica must be an integer"), ("1", TypeError, "must be an integer"), (None, TypeError, "must be an integer"),
])
def test_limits_that_are_wrong(limit, error, text):
    with pytest.raises(error, match=text):
        serve.multiplexed(max_num_models_per_replica=limit)


def test_calls_that_are_wrong(monkeypatch):
    async def main():
        z = Zoo()
        for args, kwargs, error, text in [
            ((), {}, TypeError, "exactly one argument"), (("a", "b"), {}, TypeError, "exactly one argument"), ((), {"id": "a"}, TypeError, "exactly one argument"),
            ((3,), {}, TypeError, "The model ID must be a string"), ((None,), {}, TypeError, "The model ID must be a string"),
            (("",), {}, ValueError, "The model ID cannot be empty"),
        ]:
            with pytest.raises(error, match=text):
                await z.get(*args, **kwargs)
        assert (await z.get(model_id="a")).id == "a"
        monkeypatch.setattr(_runtime, "replica", None)
        with pytest.raises(RuntimeError, match="can only be used within a deployment"):
            await Zoo().get("a")

    run(main)
    assert serve.get_multiplexed_model_id() == ""


# ---- loads and ends


def test_least_recently_used(replica):
    async def main():
        z = Zoo()
        await z.ids("a", "b", "a", "c")
        assert z.log == ["load a", "load b", "end b", "load c"]  # the old one ends first
        assert replica == [["a"], ["a", "b"], ["a", "b", "c"], ["a", "c"]]  # a hit is no change
        z.log.clear()
        await z.ids("a", "c", "b")
        assert z.log == ["end a", "load b"]

    run(main)


def test_one_load_for_all_who_wait():
    async def main():
        z = Zoo()
        z.gate.clear()
        calls = [spawn(z.get(id)) for id in ("a", "b", "a", "b")]
        await settle()
        assert z.log == ["load a"] and models.ids() == ["a", "b"]  # one load at a time
        z.gate.set()
        a, b, a2, b2 = await asyncio.gather(*calls)
        assert a is a2 and b is b2 and z.log == ["load a", "load b"]

    run(main)


def test_loads_with_a_limit_of_one():
    async def main():
        @serve.multiplexed(max_num_models_per_replica=1)
        async def get(id):
            await asyncio.sleep(1)
            return id

        assert await asyncio.gather(*map(get, "abc")) == ["a", "b", "c"]
        assert models.ids() == ["c"]

    run(main)


def test_no_limit():
    async def main():
        @serve.multiplexed(max_num_models_per_replica=-1)
        async def get(id):
            return id

        for i in range(50):
            await get(str(i))
        assert len(models.ids()) == 50

    run(main)


def test_loads_that_fail():
    async def main():
        z = Zoo()
        for e in await asyncio.gather(z.get("bad"), z.get("bad"), z.get("a"), return_exceptions=True):
            assert type(e) is ZeroDivisionError or e.id == "a"
        assert models.ids() == ["a"]
        with pytest.raises(ZeroDivisionError):
            await z.get("bad")
        assert z.log == ["load bad", "load a", "load bad"]  # not remembered

    run(main)


def test_callers_that_give_up():
    async def main():
        z = Zoo()
        z.gate.clear()
        first, second, queued = (spawn(z.get(id)) for id in ("a", "a", "b"))
        await settle()
        first.cancel()
        queued.cancel()
        await settle()
        assert first.cancelled() and not second.done() and models.ids() == ["a"]
        z.gate.set()
        assert (await second).id == "a" and z.log == ["load a"]

        z.gate.clear()
        alone = spawn(z.get("c"))
        await settle()
        alone.cancel()
        await settle()
        assert models.ids() == ["a"]
        z.gate.set()
        assert (await z.get("c")).id == "c" and z.log == ["load a", "load c", "load c"]

    run(main)


def test_a_load_that_catches_its_cancel():
    async def main():
        log = []

        @serve.multiplexed
        async def get(id):
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                pass
            return Model(id, log)

        alone = spawn(get("a"))
        await settle()
        alone.cancel()
        await asyncio.sleep(1)
        assert models.ids() == [] and log == ["end a"]

    run(main)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_ends(asynchronous):
    async def main():
        log = []

        class Plain:
            def __init__(self, id):
                self.id = id

            def __del__(self):
                log.append((self.id, threading.current_thread() is threading.main_thread()))
                if self.id == "bad":
                    raise ZeroDivisionError

        class Async(Plain):
            async def __del__(self):
                await asyncio.sleep(1)
                Plain.__del__(self)

        @serve.multiplexed(max_num_models_per_replica=1)
        async def get(id):
            return (Async if asynchronous else Plain)(id)

        await get("a")
        held = await get("bad")
        with pytest.raises(ZeroDivisionError):
            await get("c")  # the end of the old one fails the load
        assert isinstance(held, Plain)
        await get("c")
        await get("d")
        gc.collect()
        assert log == [(id, asynchronous) for id in ("a", "bad", "c")]  # once each; a plain one does not hold the loop
        del held
        gc.collect()
        assert len(log) == 3
        await models.close()

    run(main)


def test_a_model_in_use_ends_after_its_call():
    async def main():
        z = Zoo()
        go = asyncio.Event()

        async def work():
            await asyncio.gather(z.get("a"))  # in a task of its own, for the call
            await go.wait()
            z.log.append("used a")

        busy = request(work())
        await settle()
        await request(z.ids("b", "c"))
        assert z.log == ["load a", "load b", "load c"] and models.ids() == ["b", "c"]
        go.set()
        await busy
        while len(z.log) < 5:
            await asyncio.sleep(0)
        assert z.log[3:] == ["used a", "end a"]

    run(main)


def test_a_call_that_asks_for_another_has_done_with_the_first():
    async def main():
        z = Zoo()
        assert await request(z.ids("a", "b", "c")) == ["a", "b", "c"]
        assert z.log == ["load a", "load b", "end a", "load c"]

    run(main)


def test_close(caplog):
    async def main():
        z, other = Zoo(), Zoo()
        go = asyncio.Event()

        async def hold():
            await z.get("a")
            await go.wait()

        busy = request(hold())
        await settle()
        await z.ids("b", "c")
        await other.get("x")
        z.gate.clear()
        waiting = spawn(z.get("d"))
        await settle()
        await models.close()
        assert sorted(z.log + other.log)[:5] == ["end a", "end b", "end c", "end x", "load a"] and models.ids() == []
        busy.cancel()
        await asyncio.wait([waiting, busy])

    run(main)


# ---- objects, functions, loops


def test_each_loader_has_its_models(replica):
    async def main():
        class Two:
            @serve.multiplexed(max_num_models_per_replica=1)
            async def left(self, id):
                return "left", id

            @serve.multiplexed(max_num_models_per_replica=1)
            async def right(self, id):
                return "right", id

        two = Two()
        assert await two.left("a") == ("left", "a") and await two.right("a") == ("right", "a")
        assert models.ids() == ["a"]
        await two.left("b")
        assert models.ids() == ["a", "b"]
        await two.right("b")
        assert models.ids() == ["b"]
        gone = weakref.ref(two)
        del two
        gc.collect()
        assert gone() is None and models.ids() == [] and replica[-1] == []

    run(main)


def test_objects_without_weak_references():
    async def main():
        class Slots:
            __slots__ = ()

            @serve.multiplexed
            async def get(self, id):
                return id

        s = Slots()
        assert await s.get("a") == "a" and models.ids() == ["a"]

    run(main)


def test_values_that_are_none():
    async def main():
        loads = []

        @serve.multiplexed
        async def get(id):
            loads.append(id)

        assert await get("a") is None and await get("a") is None and loads == ["a"]

    run(main)


def test_a_loop_in_another_thread():
    async def main():
        z = Zoo()
        a = await z.get("a")

        def work():
            async def there():
                return [await z.get(id) for id in ("a", "b")]

            return asyncio.run(there())

        found = await asyncio.get_running_loop().run_in_executor(None, work)
        assert found[0] is a and found[1].id == "b" and z.log == ["load a", "load b"]

    asyncio.run(main())


def test_context_of_a_load():
    async def main():
        @serve.multiplexed
        async def get(id):
            own = context._get_serve_request_context()
            return own.request_id, serve.get_multiplexed_model_id()

        async def ask(i):
            context._serve_request_context.set(context._RequestContext(request_id=f"r{i}", multiplexed_model_id="m"))
            return await get(serve.get_multiplexed_model_id())

        assert await asyncio.gather(ask(1), ask(2)) == [("r1", "m")] * 2

    run(main)


@serve.deployment
class Local:
    @serve.multiplexed
    async def get(self, id):
        return id.upper()

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=60)
    async def batched(self, xs):
        model = await self.get(serve.get_multiplexed_model_id())
        return [(model, xs)] * len(xs)

    async def __call__(self, x):
        return await self.batched(x)


def test_local_testing_mode(monkeypatch):
    monkeypatch.setattr(_runtime, "replica", None)
    handle = serve.run(Local.bind(), name="local", _local_testing_mode=True).options(multiplexed_model_id="m")
    calls = [handle.remote(i) for i in range(3)]
    assert [c.result() for c in calls] == [("M", [0, 1, 2])] * 3
    serve.shutdown()


# ---- reports to the node


class Connection:
    """A connection whose reports are answered by the test."""

    lost = loop = None

    def __init__(self):
        self.reports = []  # (ids, future)

    def post(self, fn, *args):
        fn(*args)

    def control(self, op, **fields):
        assert op == "models" and fields["replica"] == "D#1"
        future = asyncio.get_running_loop().create_future()
        self.reports.append((fields["models"], future))
        return future


class Ids:
    """A cache that has these ids."""

    def __init__(self, *ids):
        self.has = ids

    def ids(self):
        return self.has


def test_reports_go_together(monkeypatch):
    async def main():
        registry, conn = Models(), Connection()
        registry.report()  # there is no node
        monkeypatch.setattr(_runtime, "connection", conn)
        monkeypatch.setattr(_runtime, "node", object())
        cache = Ids("b", "a")
        registry.caches = {cache, Ids("a", "c")}
        registry.report()
        assert [ids for ids, _ in conn.reports] == [["a", "b", "c"]]
        cache.has = ("d",)
        registry.report()
        cache.has = ("e",)
        registry.report()
        assert len(conn.reports) == 1  # one is under way
        conn.reports[0][1].set_result({})
        await settle()
        assert [ids for ids, _ in conn.reports[1:]] == [["a", "c", "e"]]

        conn.lost = ConnectionError()
        conn.reports[1][1].set_exception(conn.lost)
        registry.report()
        await settle()
        assert len(conn.reports) == 2
        heir = Connection()  # to the next node
        monkeypatch.setattr(_runtime, "connection", heir)
        registry.report()
        assert [ids for ids, _ in heir.reports] == [["a", "c", "e"]]

    run(main)


def test_a_worker_that_looks_for_the_next_node_has_its_models(node):
    n = node(Zoo)
    n.run(n.worker.instance.get("m"))
    (resumed,) = n.worker.resume()["replicas"]
    assert resumed["models"] == ["m"]
    n.run(n.worker.stop_replica())
    assert models.ids() == []
    n.worker.instance = n.worker.stopped


def test_a_load_that_is_given_up_while_the_old_model_ends():
    """The next load begins when the old model has ended: there may be no memory for both."""
    async def main():
        loads, ends, go_on = [], [], asyncio.Event()

        class Model:
            async def __del__(self):
                ends.append("begin")
                await go_on.wait()
                ends.append("end")

        @serve.multiplexed(max_num_models_per_replica=1)
        async def get(id):
            loads.append((id, list(ends)))
            return Model() if id == "a" else id

        await get("a")
        given_up = asyncio.ensure_future(get("b"))
        await settle()
        assert ends == ["begin"]
        given_up.cancel()
        await settle()
        third = asyncio.ensure_future(get("c"))
        await settle()
        assert loads == [("a", [])] and given_up.cancelled()
        go_on.set()
        assert await third == "c" and loads[1:] == [("c", ["begin", "end"])]

    run(main)


# ---- memory


def test_a_class_that_a_load_has_made_goes_with_its_models():
    async def main():
        classes = []

        @serve.multiplexed(max_num_models_per_replica=1)
        async def get(id):
            class Model:
                def __del__(self):
                    pass

            classes.append(weakref.ref(Model))
            return Model()

        for id in "abc":
            await get(id)
        while [ref() is None for ref in classes] != [True, True, False]:  # a thread that has called __del__ holds the model a moment longer
            await asyncio.sleep(0)
            gc.collect()

    run(main)


class Large:
    """An object that a failed load had in its frames."""


def test_a_failure_keeps_nothing():
    async def main():
        alive = []

        @serve.multiplexed
        async def get(id):
            large = Large()
            alive.append(weakref.ref(large))
            raise ZeroDivisionError

        async def call():
            try:
                await get("a")
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
