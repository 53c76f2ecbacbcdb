"""The deployments behind actors and tasks: the code that runs in their workers. It leaves the worker's event loop free: the loop brings the
answers for which ray.get waits.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import inspect
import threading
from typing import Any, Callable

from helve import _guard, _runtime
from helve._encoding import encode_error
from helve._pickling import dumps, loads
from helve._threads import Threads
from helve.raycompat.exceptions import ActorDiedError, RayError, RayTaskError, WorkerCrashedError, task_error

EXIT = (SystemExit, KeyboardInterrupt)
CONCURRENCY = 1000  # calls of an async actor at a time

about: dict = {}  # of the actor in this process
task_name: contextvars.ContextVar = contextvars.ContextVar("task_name", default="")


class ExitActor(BaseException):
    """The order of an actor to end itself."""


def failed(name: str, e: BaseException) -> BaseException:
    """The exception that the caller gets for one of the user's."""
    if isinstance(e, (RayError, asyncio.CancelledError)):
        return e
    if isinstance(e, EXIT):  # the process has other tasks
        return WorkerCrashedError(f"{name} ended with {_guard.type_name(e)}: {_guard.text(e)}")
    made = task_error(name, _guard.trace(e), e)
    try:
        loads(dumps(made))
    except Exception:
        cause = RuntimeError(f"{_guard.type_name(e)}: {_guard.text(e)}")
        made = RayTaskError(name, _guard.trace(e), cause)
    _guard.set_attribute(made, "_helve", encode_error(made))  # in the form in which it is sent: the worker does not log it as its own
    return made


class Host:
    """The common part: the user's functions run in threads, or on an event loop in a thread."""

    def no_replica(self) -> None:
        """Code of an actor or task is no code of a replica: serve.run works in it, and serve.get_replica_context() does not."""
        _runtime.replica = None


class LoopRunner:
    """An event loop in a thread, for async actors."""

    def __init__(self, most: int):
        self.loop = asyncio.new_event_loop()
        self.slots = asyncio.Semaphore(most)
        threading.Thread(target=self.serve, name="actor", daemon=True).start()

    def serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def run(self, fn: Callable, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.call(fn, args, kwargs), self.loop))

    async def call(self, fn: Callable, args: tuple, kwargs: dict) -> Any:
        async with self.slots:
            value = fn(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

    async def items(self, fn: Callable, *args: Any, **kwargs: Any) -> Any:
        value = fn(*args, **kwargs)
        value = await self.run(lambda: value) if inspect.isawaitable(value) else value
        if hasattr(value, "__anext__"):
            while True:
                there, item = await self.run(_next_async, value)
                if not there:
                    return
                yield item
        while True:
            there, item = await self.run(_next, value)
            if not there:
                return
            yield item


class ThreadRunner:
    """Threads for actors with methods that are not async: one, so that calls run one at a time in their order, or max_concurrency."""

    def __init__(self, pool: Any):
        self.pool = pool

    async def run(self, fn: Callable, *args: Any, **kwargs: Any) -> Any:
        context = contextvars.copy_context()
        good, value = await asyncio.wrap_future(self.pool.submit(functools.partial(context.run, _attempt, fn, args, kwargs)))
        if not good:
            raise value
        return value

    async def items(self, fn: Callable, *args: Any, **kwargs: Any) -> Any:
        value = await self.run(fn, *args, **kwargs)
        if not hasattr(value, "__next__"):
            value = iter(value)
        while True:
            there, item = await self.run(_next, value)
            if not there:
                return
            yield item


def _attempt(fn: Callable, args: tuple, kwargs: dict) -> tuple:
    """The outcome of user code: futures do not take StopIteration as their exception."""
    try:
        value = fn(*args, **kwargs)
        return True, asyncio.run(_awaited(value)) if inspect.iscoroutine(value) else value
    except BaseException as e:
        return False, e


async def _awaited(value: Any) -> Any:
    return await value


def _next(items: Any) -> tuple:
    try:
        return True, next(items)
    except StopIteration:
        return False, None


async def _next_async(items: Any) -> tuple:
    try:
        return True, await items.__anext__()
    except StopAsyncIteration:
        return False, None


def is_async(cls: type) -> bool:
    """Whether a class has a method that is async: then all its methods run on an event loop."""
    return any(
        inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f)
        for f in (inspect.getattr_static(cls, n) for n in dir(cls)) if inspect.isfunction(f)
    )


class ActorHost(Host):
    """The replica of an actor."""

    async def __init__(self, payload: bytes, about_it: dict):
        about.update(about_it)
        cls, args, kwargs, most = await ThreadRunner(Threads()).run(loads, payload)
        self.name = cls.__name__
        self.runner: Any = LoopRunner(most or CONCURRENCY) if is_async(cls) else ThreadRunner(concurrent.futures.ThreadPoolExecutor(most or 1, "actor"))
        self.instance = await self.runner.run(cls, *args, **kwargs)

    def find(self, method: str) -> Callable:
        self.no_replica()
        if method == "__ray_ready__":
            return lambda: True
        if method == "__ray_about__":
            return lambda: about
        if method == "__ray_call__":
            return lambda fn, *args, **kwargs: fn(self.instance, *args, **kwargs)
        if method == "__ray_terminate__":
            return _exit
        return getattr(self.instance, method)

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return await self.runner.run(self.find(method), *args, **kwargs)
        except (ExitActor, *EXIT):
            self.end()
            raise ActorDiedError(about["id"], f"The actor exited: {self.name} called exit_actor() or sys.exit().") from None
        except BaseException as e:
            raise failed(f"{self.name}.{method}", e) from None

    async def stream(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        try:
            async for item in self.runner.items(self.find(method), *args, **kwargs):
                yield item
        except GeneratorExit:
            raise
        except BaseException as e:
            raise failed(f"{self.name}.{method}", e) from None

    def end(self) -> None:
        """Has the node delete this actor, which ends its process."""
        from helve.raycompat import link

        threading.Thread(target=lambda: link.ask("delete", name=link.application_of(about)), daemon=True).start()


def _exit() -> None:
    raise ExitActor


class TaskHost(Host):
    """The replica of tasks."""

    def __init__(self) -> None:
        self.runner = ThreadRunner(Threads())
        self.load = functools.lru_cache(maxsize=256)(loads)

    async def call(self, task: bytes, /, *args: Any, **kwargs: Any) -> Any:
        self.no_replica()
        fn, name, retries, which = await self.runner.run(self.load, task)
        while True:
            try:
                return await self.runner.run(_named, name, fn, *args, **kwargs)
            except BaseException as e:
                retries -= 1
                if retries < 0 or not isinstance(e, Exception) or isinstance(which, (list, tuple)) and not isinstance(e, tuple(which)):
                    raise failed(name, e) from None

    async def stream(self, task: bytes, /, *args: Any, **kwargs: Any) -> Any:
        self.no_replica()
        fn, name, _, _ = await self.runner.run(self.load, task)
        try:
            async for item in self.runner.items(fn, *args, **kwargs):
                yield item
        except GeneratorExit:
            raise
        except BaseException as e:
            raise failed(name, e) from None


def _named(name: str, fn: Callable, /, *args: Any, **kwargs: Any) -> Any:
    task_name.set(name)
    return fn(*args, **kwargs)


__all__ = ["ActorHost", "ExitActor", "TaskHost", "about", "task_name"]
