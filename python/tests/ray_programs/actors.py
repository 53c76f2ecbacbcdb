"""Tasks and actors beside deployments: named ones, signals, ray.get in constructors and methods, ray.wait, ray.kill."""

import asyncio
import ray
from ray import serve
import time

ray.init()


@ray.remote
class Signal:
    def __init__(self):
        self.ready_event = asyncio.Event()
        self.num_waiters = 0

    def send(self, clear=False):
        self.ready_event.set()
        if clear:
            self.ready_event.clear()

    async def wait(self, should_wait=True):
        if should_wait:
            self.num_waiters += 1
            await self.ready_event.wait()
            self.num_waiters -= 1

    async def cur_num_waiters(self):
        return self.num_waiters


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.n = start

    def inc(self, by=1):
        self.n += by
        return self.n

    def fail(self):
        raise KeyError("counter failed")


@ray.remote
def square(x):
    return x * x


signal = Signal.remote()
counter = Counter.options(name="counter", namespace="serve").remote(10)
print(ray.get(counter.inc.remote()), ray.get([counter.inc.remote(2) for _ in range(3)]))
print(ray.get([square.remote(i) for i in range(4)]), ray.get(square.remote(square.remote(3))))
ref = ray.put([1, 2, 3])
print(ray.get(ref))
try:
    ray.get(counter.fail.remote())
except KeyError as e:
    print("KeyError", isinstance(e, ray.exceptions.RayTaskError))


@serve.deployment(max_ongoing_requests=5)
class D:
    def __init__(self, signal, counter):
        self.signal, self.counter = signal, counter
        self.first = ray.get(self.counter.inc.remote(100))

    async def waits(self):
        await self.signal.wait.remote()
        return "released"

    def blocking(self):
        return ray.get(self.counter.inc.remote(1000))

    def named(self):
        return ray.get(ray.get_actor("counter", namespace="serve").inc.remote(0))


handle = serve.run(D.bind(signal, counter))
r = handle.waits.remote()


def wait_for(cond):
    for _ in range(100):
        if cond():
            return
        time.sleep(0.05)
    raise TimeoutError


wait_for(lambda: ray.get(signal.cur_num_waiters.remote()) == 1)
try:
    r.result(timeout_s=0.1)
except TimeoutError as e:
    print("TimeoutError")
ray.get(signal.send.remote())
print(r.result(timeout_s=10), handle.blocking.remote().result(), handle.named.remote().result())
done, not_done = ray.wait([square.remote(2), signal.cur_num_waiters.remote()], num_returns=2)
print(len(done), len(not_done))
print(ray.get(handle.blocking.remote()._to_object_ref_sync()))
print(sorted(serve.status().applications), sorted(serve.status().applications["default"].deployments))
ray.kill(counter)
try:
    ray.get(counter.inc.remote(), timeout=10)
except ray.exceptions.RayActorError:
    print("RayActorError")
try:
    ray.get(signal.wait.remote(False), timeout=5)
    s2 = Signal.remote()
    ray.get(s2.wait.remote(), timeout=0.2)
except ray.exceptions.GetTimeoutError as e:
    print("GetTimeoutError", isinstance(e, TimeoutError))
serve.shutdown()
ray.shutdown()
