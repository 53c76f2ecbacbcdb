"""Tasks and actors of programs for Ray Serve: `@ray.remote`, ray.get, ray.kill and the rest, under `helve run --ray-compat`."""

import pytest
from programs import helve, output, program

BEGIN = """
import asyncio, os, threading, time
import pytest
import ray
from ray import serve
from ray.exceptions import *

ray.init(num_cpus=2)

"""


@pytest.fixture
def ray(tmp_path):
    """Runs a program under `helve run --ray-compat`; it has succeeded if its last line is reached."""

    def run(text):
        import textwrap

        script = program(tmp_path, "script.py", BEGIN + textwrap.dedent(text) + "\nprint('the end')\n")
        assert output(helve("run", "--ray-compat", "--port", "0", script, cwd=tmp_path)).endswith("the end\n")

    return run


class TestTasks:
    def test_results_arguments_and_errors(self, ray):
        ray("""
            FACTOR = 3

            @ray.remote
            def times(a, b=FACTOR):
                return a * b

            assert ray.get(times.remote(2)) == 6
            assert ray.get([times.remote(1, 2), times.remote(b=2, a=4)]) == [2, 8]
            assert ray.get(times.remote(times.remote(2), times.remote(ray.put(1)))) == 18
            assert ray.get(times.options(num_cpus=1).remote("ab", 2)) == "abab"

            with pytest.raises(TypeError, match="Remote functions cannot be called directly"):
                times(1)
            with pytest.raises(RuntimeError, match="bind is not in Helve"):
                times.bind(1)
            with pytest.raises(ValueError, match="Invalid option keyword colour"):
                times.options(colour="red")

            class OwnError(Exception):
                def __init__(self, n):
                    super().__init__(f"number {n}")
                    self.n = n

            @ray.remote
            def fail(n):
                raise OwnError(n)

            with pytest.raises(OwnError, match="number 4") as caught:
                ray.get(fail.remote(4))
            assert isinstance(caught.value, RayTaskError) and caught.value.n == 4 and type(caught.value.cause) is OwnError
            with pytest.raises(RayTaskError, match="in fail"):
                ray.get(times.remote(fail.remote(5)))
        """)

    def test_looking_again_and_again_leaves_nothing_behind(self, ray):
        ray("""
            from ray._common.test_utils import SignalActor

            signal = SignalActor.remote()
            ref = signal.wait.remote()
            for _ in range(20):
                assert ray.wait([ref], timeout=0) == ([], [ref])
                with pytest.raises(GetTimeoutError):
                    ray.get(ref, timeout=0)
            ray.get(signal.cur_num_waiters.remote())  # what was posted before is done
            assert not ref._own.listeners
            ray.get(signal.send.remote())
            ray.get(ref)
        """)

    def test_the_number_of_gpus_is_that_of_the_present_ray_init(self, ray):
        ray("""
            for n in (1, 2):
                ray.shutdown()
                ray.init(num_gpus=n)
                assert os.environ["HELVE_GPUS"] == str(n)
            ray.shutdown()
            assert "HELVE_GPUS" not in os.environ
        """)

    def test_the_amounts_of_ray_init_are_those_of_the_node(self, ray):
        ray("""
            ray.shutdown()
            os.environ["HELVE_NUM_CPUS"] = "7"
            ray.init(num_cpus=2, num_gpus=1, resources={"licence": 1})
            free = lambda: {k: ray.available_resources()[k] for k in ("CPU", "GPU", "licence")}

            @ray.remote
            class Idle:
                def gpus(self):
                    return os.environ.get("CUDA_VISIBLE_DEVICES")

            idle = [Idle.remote() for _ in range(4)]  # as in Ray: they hold nothing
            assert ray.get([a.gpus.remote() for a in idle]) == ["", "", "", ""]
            assert free() == {"CPU": 2, "GPU": 1, "licence": 1}
            busy = Idle.options(num_cpus=2, num_gpus=1, resources={"licence": 1}).remote()
            assert ray.get(busy.gpus.remote()) == "0" and free() == {"CPU": 0, "GPU": 0, "licence": 0}
            second = Idle.options(num_cpus=1).remote()
            waits = second.gpus.remote()
            with pytest.raises(GetTimeoutError):
                ray.get(waits, timeout=0.5)
            ray.kill(busy)
            assert ray.get(waits) == ""
            ray.shutdown()
            assert os.environ.pop("HELVE_NUM_CPUS") == "7" and "HELVE_GPUS" not in os.environ and "HELVE_RESOURCES" not in os.environ
        """)

    def test_the_amounts_of_ray_init_come_before_the_node(self, ray):
        ray("""
            from ray import serve
            ray.shutdown()
            serve.start(http_options={"port": 0})
            for other in ({"num_cpus": 3}, {"num_gpus": 1}, {"resources": {"licence": 1}}):
                with pytest.raises(RuntimeError, match="the node of this program runs already with other amounts. next: call ray.init"):
                    ray.init(**other)
                assert "HELVE_NUM_CPUS" not in os.environ and not ray.cluster_resources().get("licence")
                ray.shutdown()
                serve.start(http_options={"port": 0})
            ray.init(num_gpus=0)
            ray.shutdown()
            with pytest.raises(ValueError, match="When connecting to an existing cluster, num_cpus, .* has num_cpus, resources. next: leave them out"):
                ray.init("auto", num_cpus=1, resources={"licence": 1})
            for bad in ({"num_cpus": "2"}, {"num_cpus": -1}, {"num_gpus": 0.5}, {"num_gpus": True}, {"resources": {"CPU": 1}}, {"resources": {"memory": 1}}, {"resources": {"x": float("nan")}}):
                with pytest.raises(ValueError, match="|".join(bad)):
                    ray.init(**bad)
            with pytest.raises(TypeError, match="resources must be a dict"):
                ray.init(resources=[1])
            assert not ray.is_initialized()
        """)

    def test_several_results_and_generators(self, ray):
        ray("""
            @ray.remote(num_returns=2)
            def two():
                return "a", "b"

            first, second = two.remote()
            assert ray.get([second, first]) == ["b", "a"]
            with pytest.raises(ValueError, match="num_returns=3"):
                ray.get(two.options(num_returns=3).remote())

            @ray.remote
            def count(n):
                yield from range(n)

            assert [ray.get(r) for r in count.remote(3)] == [0, 1, 2]

            async def main():
                return [await r async for r in count.remote(3)]

            assert asyncio.run(main()) == [0, 1, 2]
        """)

    def test_wait_timeouts_and_cancel(self, ray):
        ray("""
            @ray.remote
            def hold(path):
                while not os.path.exists(path):
                    time.sleep(0.01)
                return path

            here = os.path.abspath(__file__)
            a, b, never = hold.remote(here), hold.remote(here), hold.remote(here + "x")
            assert ray.wait([never, a, b], num_returns=2) == ([a, b], [never])
            assert ray.wait([never], timeout=0) == ([], [never])
            with pytest.raises(GetTimeoutError, match="Get timed out"):
                ray.get([a, never], timeout=0.01)
            with pytest.raises(TimeoutError):
                ray.get(never, timeout=0)
            ray.cancel(never)
            with pytest.raises(TaskCancelledError):
                ray.get(never)
            with pytest.raises(ValueError, match="unique"):
                ray.wait([a, a])
            with pytest.raises(ValueError, match="Invalid type of object refs"):
                ray.get(3)
            with pytest.raises(TypeError, match="Attempting to call `get` on the value 3"):
                ray.get([a, 3])
            for wrong, got in ((3, "<class 'int'>"), ([a, 3], "list containing <class 'int'>"), (a, "a single")):
                with pytest.raises(TypeError, match=f"expected a list of ray.ObjectRef or ray.ObjectRefGenerator, got {got}"):
                    ray.wait(wrong)
        """)

    def test_references_are_awaitable_and_travel_inside_of_values(self, ray):
        ray("""
            @ray.remote
            def add(a, b):
                return a + b

            @ray.remote
            def total(refs):
                assert all(isinstance(r, ray.ObjectRef) for r in refs)
                return sum(ray.get(refs))

            async def main():
                assert await add.remote(1, 2) == 3
                assert await asyncio.gather(add.remote(1, 1), add.remote(2, 2)) == [2, 4]
                assert ray.get(add.remote(1, 2)) == 3

            asyncio.run(main())
            assert ray.get(total.remote([ray.put(1), add.remote(2, 3)])) == 6
            assert add.remote(1, 2).future().result() == 3
            data = [1]
            ref = ray.put(data)
            data.append(2)
            assert ray.get(ref) == [1]
        """)


class TestActors:
    def test_methods_run_one_at_a_time_in_their_order(self, ray):
        ray("""
            @ray.remote
            class Log:
                def __init__(self, first, *, more=()):
                    self.entries, self.inside = [first, *more], 0

                def add(self, n):
                    self.inside += 1
                    assert self.inside == 1
                    self.entries.append(n)
                    self.inside -= 1

                def all(self):
                    return self.entries

            log = Log.remote("a", more=[ray.put("b")])
            log = Log.remote(ray.put("a"), more=["b"])
            for n in range(50):
                log.add.remote(n)
            assert ray.get(log.all.remote()) == ["a", "b", *range(50)]
        """)

    def test_threads_and_async(self, ray):
        ray("""
            @ray.remote(max_concurrency=2)
            class Meeting:
                def __init__(self):
                    self.barrier = threading.Barrier(2)

                def meet(self):
                    self.barrier.wait()
                    return True

            m = Meeting.remote()
            assert ray.get([m.meet.remote(), m.meet.remote()]) == [True, True]

            @ray.remote
            class Signal:
                def __init__(self):
                    self.event = asyncio.Event()

                def send(self):
                    self.event.set()

                async def wait(self):
                    await self.event.wait()
                    return "sent"

                async def count(self, n):
                    for i in range(n):
                        yield i

            s = Signal.remote()
            waiting = [s.wait.remote() for _ in range(5)]
            assert ray.wait(waiting, timeout=0) == ([], waiting)
            ray.get(s.send.remote())
            assert ray.get(waiting) == ["sent"] * 5
            assert [ray.get(r) for r in s.count.remote(3)] == [0, 1, 2]
        """)

    def test_names(self, ray):
        ray("""
            @ray.remote
            class Counter:
                def __init__(self):
                    self.n = 0

                def add(self):
                    self.n += 1
                    return self.n

            a = Counter.options(name="a").remote()
            with pytest.raises(ValueError, match="already taken"):
                Counter.options(name="a").remote()
            b = Counter.options(name="a", get_if_exists=True).remote()
            assert a == b
            other = Counter.options(name="a", namespace="other").remote()
            assert ray.get([a.add.remote(), b.add.remote(), ray.get_actor("a").add.remote(), other.add.remote()]) == [1, 2, 3, 1]
            assert ray.get(ray.get_actor("a", namespace="other").add.remote()) == 2
            with pytest.raises(ValueError, match="Failed to look up actor"):
                ray.get_actor("b")
            ray.kill(a)
            with pytest.raises(ValueError, match="Failed to look up actor"):
                ray.get_actor("a")
            again = Counter.options(name="a").remote()
            assert ray.get(again.add.remote()) == 1
        """)

    def test_ends(self, ray):
        ray("""
            @ray.remote
            class Process:
                def pid(self):
                    return os.getpid()

                def exit(self):
                    os._exit(1)

                def leave(self):
                    ray.actor.exit_actor()

            p = Process.remote()
            assert ray.get(p.pid.remote()) != os.getpid()
            ray.kill(p)
            for _ in range(2):
                with pytest.raises(ActorDiedError):
                    ray.get(p.pid.remote())

            p = Process.remote()
            with pytest.raises(RayActorError):
                ray.get(p.exit.remote())
            with pytest.raises(RayActorError):
                ray.get(p.pid.remote())

            p = Process.remote()
            with pytest.raises(RayActorError, match="exit_actor"):
                ray.get(p.leave.remote())

            @ray.remote
            class Broken:
                def __init__(self):
                    raise ValueError("no weights")

                def f(self):
                    pass

            with pytest.raises(ActorDiedError, match="no weights"):
                ray.get(Broken.remote().f.remote())
        """)

    def test_an_actor_without_handles_ends(self, ray):
        ray("""
            import gc

            @ray.remote
            class Process:
                def pid(self):
                    return os.getpid()

            p = Process.remote()
            pid = ray.get(p.pid.remote())
            del p
            gc.collect()
            while os.path.exists(f"/proc/{pid}"):
                time.sleep(0.01)
        """)

    def test_mistakes(self, ray):
        ray("""
            @ray.remote
            class A:
                def f(self):
                    return 1

                @ray.method(num_returns=2)
                def two(self):
                    return 1, 2

            with pytest.raises(TypeError, match="Instead of 'A\\\\(\\\\)', use 'A.remote\\\\(\\\\)'"):
                A()
            a = A.remote()
            with pytest.raises(AttributeError, match="has no such method; it has f, two"):
                a.g
            with pytest.raises(TypeError, match="Actor methods cannot be called directly"):
                a.f()
            assert [ray.get(r) for r in a.two.remote()] == [1, 2]
            with pytest.raises(ValueError, match="async def"):
                @ray.remote
                async def f(): pass
            with pytest.raises(ValueError, match="non-empty|empty string"):
                A.options(name="")
            with pytest.raises(ValueError, match="concurrency_groups is not in Helve"):
                A.options(concurrency_groups={"io": 1})
        """)


class TestSession:
    def test_init_and_shutdown(self, tmp_path):
        script = program(tmp_path, "script.py", """
            import pytest, ray
            assert not ray.is_initialized()
            with pytest.raises(ConnectionError):
                ray.init(address="auto")
            with pytest.raises(RuntimeError, match="colour"):
                ray.init(colour="red")
            with ray.init(num_cpus=3, namespace="n", include_dashboard=False, logging_level="error", resources={"tpu": 1}) as context:
                assert ray.is_initialized() and context["node_id"] == ray.get_runtime_context().get_node_id()
                assert context.address_info["node_ip_address"] == ray.util.get_node_ip_address()
                with pytest.raises(RuntimeError, match="Maybe you called ray.init twice"):
                    ray.init()
                ray.init(ignore_reinit_error=True)
                assert ray.cluster_resources()["CPU"] == 3 and ray.cluster_resources()["tpu"] == 1
                assert ray.nodes()[0]["Alive"] and ray.get_runtime_context().namespace == "n"
            assert not ray.is_initialized()
            ray.shutdown()

            @ray.remote
            def f():
                return 1

            assert ray.get(f.remote()) == 1 and ray.is_initialized()
            ray.shutdown()
            assert ray.get(f.remote()) == 1
        """)
        output(helve("run", "--ray-compat", script, cwd=tmp_path, env={"TMPDIR": str(tmp_path)}))


class TestInReplicas:
    """ray.get works in constructors, in sync and async methods, in actors, in tasks, and in threads."""

    def test_everywhere(self, ray):
        ray("""
            serve.start(http_options={"port": None})

            @ray.remote
            def add(a, b):
                return a + b

            @ray.remote
            class Counter:
                def __init__(self):
                    self.n = 0

                def add(self):
                    self.n += 1
                    return self.n

            @ray.remote
            class Outer:
                def __init__(self):
                    self.counter = Counter.remote()
                    self.first = ray.get(self.counter.add.remote())

                def counts(self):
                    return self.first, ray.get(self.counter.add.remote()), ray.get(add.remote(1, 1))

            @serve.deployment
            class Sync:
                def __init__(self, counter):
                    self.counter, self.first = counter, ray.get(counter.add.remote())
                    self.named = Counter.options(name="named", get_if_exists=True).remote()

                def __call__(self):
                    return self.first, ray.get(self.counter.add.remote()), ray.get(self.named.add.remote()), ray.get(add.remote(ray.put(2), 3))

            @serve.deployment
            class Async:
                def __init__(self, sync):
                    self.sync = sync

                async def __call__(self, x):
                    inner = await self.sync.remote()
                    assert ray.get(add.remote(x, 1)) == await add.remote(x, 1)
                    return inner, await ray.get_actor("named").add.remote()

                async def by_reference(self):
                    response = self.sync.remote()
                    return await add.remote(await response._to_object_ref(), ()) == await add.remote(response, ())

                async def bump(self, counter):
                    return await counter.add.remote()

            counter = Counter.remote()
            handle = serve.run(Async.bind(Sync.bind(counter)))
            assert handle.remote(1).result() == ((1, 2, 1, 5), 2)
            assert handle.by_reference.remote().result()
            assert handle.bump.remote(counter).result() == 4
            assert handle.remote(add.remote(1, 1)).result() == ((1, 5, 4, 5), 5)
            assert ray.get(handle.remote(1)._to_object_ref_sync()) == ((1, 6, 6, 5), 7)

            @ray.remote
            def call(handle):
                return handle.remote(1).result(), serve.get_app_handle("default").remote(1).result()[0][0]

            assert ray.get(call.remote(handle)) == (((1, 7, 8, 5), 9), 1)
            assert ray.get(Outer.remote().counts.remote()) == (1, 2, 2)
        """)

    def test_the_runtime_env_of_init_is_that_of_all(self, tmp_path):
        script = program(tmp_path, "script.py", """
            import os, ray
            from ray import serve

            ray.init(runtime_env={"env_vars": {"A": "init", "B": "init"}})
            serve.start(http_options={"port": None})

            def seen():
                return os.environ.get("A"), os.environ.get("B")

            @serve.deployment(ray_actor_options={"runtime_env": {"env_vars": {"B": "own"}}})
            class D:
                def __call__(self):
                    return seen()

            @ray.remote
            def task():
                return seen()

            @ray.remote
            class Actor:
                def seen(self):
                    return seen()

            assert serve.run(D.bind()).remote().result() == ("init", "own")
            assert ray.get(task.remote()) == ("init", "init")
            assert ray.get(task.options(runtime_env={"env_vars": {"A": "task"}}).remote()) == ("task", "init")
            assert ray.get(Actor.options(runtime_env={"env_vars": {"B": "actor"}}).remote().seen.remote()) == ("init", "actor")
            assert ray.get_runtime_context().runtime_env == {"env_vars": {"A": "init", "B": "init"}}
        """)
        output(helve("run", "--ray-compat", script, cwd=tmp_path))

    def test_tasks_and_actors_are_not_in_the_status(self, ray):
        ray("""
            @ray.remote
            def f():
                return 1

            @ray.remote
            class A:
                def status(self):
                    return serve.status()

            @serve.deployment
            def d():
                pass

            a = A.options(name="a").remote()
            assert ray.get(f.remote()) == 1 and not serve.status().applications
            serve.run(d.bind(), name="d", route_prefix=None)
            assert list(serve.status().applications) == ["d"] == list(ray.get(a.status.remote()).applications)
            assert ray.util.list_named_actors() == ["a"]
        """)

    def test_helpers_of_test_suites(self, ray):
        ray("""
            from ray._common.test_utils import SignalActor, Semaphore, async_wait_for_condition, wait_for_condition

            signal = SignalActor.remote()

            @serve.deployment
            class Waits:
                def __init__(self, signal):
                    self.signal = signal

                async def __call__(self):
                    await self.signal.wait.remote()
                    return "done"

            handle = serve.run(Waits.bind(signal), route_prefix=None)
            responses = [handle.remote() for _ in range(2)]
            wait_for_condition(lambda: ray.get(signal.cur_num_waiters.remote()) == 2, timeout=60)
            ray.get(signal.send.remote())
            assert [r.result() for r in responses] == ["done", "done"]
            with pytest.raises(RuntimeError, match="The condition wasn't met"):
                wait_for_condition(lambda: False, timeout=0.01, retry_interval_ms=1)

            async def main():
                semaphore = Semaphore.remote(1)
                await semaphore.acquire.remote()
                await async_wait_for_condition(lambda: ray.get(semaphore.locked.remote()), timeout=60)

            asyncio.run(main())
        """)

    def test_ends_of_tasks_and_restarts_of_actors(self, ray):
        ray("""
            import sys

            @ray.remote
            def leave():
                sys.exit(3)

            @ray.remote
            def one():
                return os.getpid()

            before = ray.get(one.remote())
            with pytest.raises(WorkerCrashedError, match="SystemExit: 3"):
                ray.get(leave.remote())
            assert ray.get(one.remote()) == before

            @ray.remote(max_restarts=1)
            class Process:
                def pid(self):
                    return os.getpid()

                def die(self):
                    os._exit(1)

                def __call__(self, x):
                    return x

                def _private(self):
                    return "private"

                @staticmethod
                def static():
                    return "static"

            p = Process.remote()
            before = ray.get(p.pid.remote())
            with pytest.raises(RayActorError):
                ray.get(p.die.remote())
            assert ray.get(p.pid.remote()) != before
            assert ray.get([p.__call__.remote(1), p._private.remote(), p.static.remote(), p.__ray_ready__.remote()]) == [1, "private", "static", True]
            assert isinstance(p, ray.actor.ActorHandle)
        """)

    def test_an_async_call_is_cancelled_where_it_runs(self, ray):
        ray("""
            @ray.remote
            class Hangs:
                def __init__(self):
                    self.cancelled = asyncio.Event()

                async def hang(self):
                    try:
                        await asyncio.sleep(1000)
                    except asyncio.CancelledError:
                        self.cancelled.set()
                        raise

                async def was_cancelled(self):
                    await self.cancelled.wait()
                    return True

            h = Hangs.remote()
            call = h.hang.remote()
            ray.get(h.__ray_ready__.remote())
            ray.cancel(call)
            with pytest.raises(TaskCancelledError):
                ray.get(call)
            assert ray.get(h.was_cancelled.remote())
        """)
