"""serve.draining and serve.wait_for_drain: code learns that the drain of its replica has begun."""

import asyncio
import threading

import pytest

from helve import serve
from helve._drain import Drain


@serve.deployment
class Watcher:
    async def waits(self):
        yield "begun" if not serve.draining() else "draining already"
        await serve.wait_for_drain()
        yield "bye" if serve.draining() else "not draining"


@serve.deployment
class Asks:
    def ticks(self):
        yield "begun"
        while not serve.draining():
            yield "tick"
        yield "bye"


@pytest.mark.parametrize("how", ["delete", "redeploy"])
@pytest.mark.parametrize("target, method", [(Watcher, "waits"), (Asks, "ticks")])
def test_a_stream_learns_of_the_drain(how, target, method):
    name = f"drain-{how}-{method}"
    handle = serve.run(target.bind(), name=name, route_prefix=None)
    items = iter(getattr(handle.options(stream=True), method).remote())
    assert next(items) == "begun"
    if how == "delete":
        ending = threading.Thread(target=serve.delete, args=(name,))
    else:
        other = target.options(version="2").bind()
        ending = threading.Thread(target=serve.run, args=(other,), kwargs={"name": name, "route_prefix": None})
    ending.start()
    assert [item for item in items if item != "tick"] == ["bye"]
    ending.join()
    if how == "redeploy":
        serve.delete(name)


def test_outside_of_replicas_no_drain_begins():
    assert not serve.draining()

    async def waits():
        await asyncio.wait_for(serve.wait_for_drain(), 0.01)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(waits())


def test_tasks_of_every_loop_wake():
    drain, waiting, done = Drain(), [], []

    async def wait():
        task = asyncio.ensure_future(drain.wait())
        await asyncio.sleep(0)
        waiting.append(len(drain.waiting))
        started.release()
        await task
        await drain.wait()  # it has begun
        done.append(True)

    started = threading.Semaphore(0)
    threads = [threading.Thread(target=asyncio.run, args=(wait(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        started.acquire()
    drain.begin()
    for thread in threads:
        thread.join()
    assert done == [True, True] and not drain.waiting
    drain.reset()
    assert not drain.begun


def test_a_task_that_gives_up_is_forgotten():
    drain = Drain()

    async def wait():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(drain.wait(), 0.001)

    asyncio.run(wait())
    assert not drain.waiting
    drain.begin()
