"""serve.multiplexed: one deployment serves many models, of which each replica keeps the ones that were used last.

The loader of a class or a function loads a model by its id, and is called when the model is not there. For example, with
max_num_models_per_replica=2 and the models a and b loaded, a call for c ends a, if b was used later, and then loads c. The
old model ends before the new one begins, because memory may not suffice for both. For the same reason, and because loaders in Ray
Serve can rely on it, one model loads at a time; one load serves all calls that wait for it, and is cancelled when all of them have
given up.

The node has a model loaded ahead of its calls, if the replica that has it stops (Cache.ahead). Such a model takes the place of no model that was used later. For
example, with two models at most, a used an hour ago and b now, the model c that was used a minute ago at the other replica takes the place of a.

A model that another running call has got is not destroyed under that call: it leaves the cache at once, and ends after the call. To let
the load wait for that call was tried and rejected, since the call may wait for a lock that the loading call holds.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Callable, Optional, overload

from helve import _runtime, _spans
from helve._models import Refused, models
from helve._frames import request_info
from helve.serve._request_context import LoadInfo, get_multiplexed_model_id

if TYPE_CHECKING:
    from helve.serve._types import F

logger = logging.getLogger("ray.serve")


class Entry:
    """One model: waiting for its load, loading, or loaded."""

    __slots__ = ("id", "model", "task", "waiting", "users", "info", "context", "unloaded", "ahead", "used")

    def __init__(self, id: str):
        self.id = id
        self.model: Any = None
        self.task: Any = None  # the asyncio.Task of the load
        self.waiting: dict[asyncio.Future, Optional[asyncio.Task]] = {}  # of the calls that wait, with their tasks
        self.users: set[asyncio.Task] = set()  # running calls that have got the model
        self.info, self.context = request_info.get(), contextvars.copy_context()
        self.unloaded: list[str] = []  # the models that have made room for it
        self.ahead = False  # no call has asked for it yet
        self.used = 0.0  # when a call asked for it last, here or, of a model that is ahead, at another replica: in the time of the loop


def user() -> Optional[asyncio.Task]:
    """The task of the running call, also in a task that the call has started. None outside of calls: no end of the use is known there."""
    info = request_info.get()
    if info is None:
        return None
    return info.task if info.task is not None else asyncio.current_task()  # a call in its first step


class Cache:
    """The models of one loader and one object. It belongs to one loop; calls on other loops go there."""

    def __init__(self, load: Callable, limit: int, loop: asyncio.AbstractEventLoop, name: str = ""):
        self.load, self.limit, self.loop, self.name = load, limit, loop, name
        self.loaded: OrderedDict[str, Entry] = OrderedDict()  # the most recently used at the end
        self.loading: dict[str, Entry] = {}
        self.lock = asyncio.Lock()  # of the model that loads or ends
        self.ending: dict[asyncio.Task, Entry] = {}  # models that running calls have got, with the tasks that end them later

    def ids(self) -> list:
        return [*self.loaded, *self.loading]

    async def get(self, id: str) -> Any:
        """The model with an id, loaded if need be."""
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            if not self.loop.is_closed():
                return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.get(id), self.loop))
            self.renew(loop)
        models.measures().requests.add(1)
        e = self.loaded.get(id)
        if e is not None:
            e.used = loop.time()
            self.loaded.move_to_end(id)
            self.use(e, user())
            return e.model
        e = self.loading.get(id)
        if e is None:
            e = self.begin(Entry(id))
            if self.loaded.get(id) is e:  # the loop has an eager task factory
                self.use(e, user())
                return e.model
        e.ahead = False
        try:
            with _spans.Span(f"load of model {id}", {"model": id}) as span:
                model = await self.wait(e, user())
                if e.unloaded:
                    span.set(unloaded=", ".join(e.unloaded))
            return model
        finally:
            del e  # as in wait

    def renew(self, loop: asyncio.AbstractEventLoop) -> None:
        """Goes on in another loop, because the one of before is closed."""
        self.loop, self.lock, self.loading = loop, asyncio.Lock(), {}

    def begin(self, e: Entry) -> Entry:
        self.loading[e.id] = e
        e.task = e.context.run(self.loop.create_task, self.run(e))
        e.task.add_done_callback(functools.partial(self.settle, e))
        models.report()
        return e

    async def wait(self, e: Entry, task: Optional[asyncio.Task]) -> Any:
        """Waits for the load of a model, for a call with a task, or for no call."""
        future = self.loop.create_future()
        e.waiting[future] = task
        try:
            return await future
        except asyncio.CancelledError:
            e.waiting.pop(future, None)
            if not e.waiting and self.loading.get(e.id) is e:
                del self.loading[e.id]  # a new caller begins a load of its own
                e.task.cancel()
                models.report()
            raise
        finally:
            del future, e  # an exception refers to this frame, and these to the exception

    async def ahead(self, id: str, unused: float) -> Any:
        """Loads a model for which no call has come here, and was used so many seconds ago at another replica. It raises Refused, if the model would take the place of a model that was used
        later. A call that comes meanwhile makes the load its own.
        """
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            if not self.loop.is_closed():
                return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.ahead(id, unused), self.loop))
            self.renew(loop)
        if id in self.loaded:
            return None
        e = self.loading.get(id)
        if e is None:
            e = Entry(id)
            e.ahead, e.used = True, loop.time() - unused
            self.begin(e)
            if self.loaded.get(id) is e:
                return None
        await self.wait(e, None)
        return None

    def unused(self) -> dict:
        """For each loaded model the seconds since its last use; 0 for a model that a running call has got. From any thread."""
        now = self.loop.time()
        return {id: 0.0 if e.users else max(now - e.used, 0.0) for id, e in list(self.loaded.items())}

    def use(self, e: Entry, task: Optional[asyncio.Task]) -> None:
        if task is not None and task not in e.users and not task.done():
            e.users.add(task)
            task.add_done_callback(functools.partial(self.used, e))

    def used(self, e: Entry, task: asyncio.Task) -> None:
        """A call that had got the model has ended."""
        e.users.discard(task)
        e.used = max(e.used, self.loop.time())

    async def run(self, e: Entry) -> None:
        """Makes room for a model and loads it."""
        request_info.set(LoadInfo([e.info], e.id))
        async with self.lock:
            measures = models.measures()
            while 0 <= self.limit <= len(self.loaded):
                if e.ahead:
                    old = next(iter(self.loaded.values()))  # the least recently used one
                    if old.users or old.used >= e.used:
                        del self.loading[e.id]  # now: a call that comes before the error is delivered begins a load of its own
                        models.report()
                        raise Refused(f"no room for {e.id}: every model that is loaded is in use or was used later")
                await self.unload(e)
            begun = self.loop.time()
            model = await self.load(e.id)
            if self.loading.get(e.id) is not e:  # the load was given up, and has caught its cancel
                await destroy(model)
                return
            del self.loading[e.id]
            e.model = model
            self.loaded[e.id] = e
            if e.ahead:  # its place is where its last use belongs
                for id in [id for id, other in self.loaded.items() if other.used > e.used]:
                    self.loaded.move_to_end(id)
            else:
                e.used = self.loop.time()
            measures.loaded(e.id, self.loop.time() - begun, models.loaded(), e.ahead)
        for future, task in e.waiting.items():
            if not future.done():
                self.use(e, task)
                future.set_result(model)
        e.waiting.clear()

    def settle(self, e: Entry, task: asyncio.Task) -> None:
        """Gives the error of a load to the calls that wait for it. It is not remembered: the next call tries again."""
        if self.loading.get(e.id) is e:
            del self.loading[e.id]
            models.report()
        error: Any = asyncio.CancelledError() if task.cancelled() else task.exception()
        for future in e.waiting:
            if not future.done():
                future.cancel() if isinstance(error, asyncio.CancelledError) else future.set_exception(error)
        e.waiting.clear()
        e.task = None

    async def unload(self, by: Entry) -> None:
        """Ends the least recently used model. Its error fails the load that it makes room for."""
        _, old = self.loaded.popitem(last=False)
        by.unloaded.append(old.id)
        models.report()
        models.measures().left(old.id, models.loaded())
        busy = [task for task in old.users if task not in by.waiting.values()]
        if not busy:
            ending = self.loop.create_task(destroy(old.model))
            try:
                begun = self.loop.time()
                await asyncio.shield(ending)
                models.measures().unloaded(self.loop.time() - begun)
            except asyncio.CancelledError:
                # The load was given up. The lock is held until the old model has ended: the next load may need its memory.
                await asyncio.wait([ending])
                error = None if ending.cancelled() else ending.exception()
                if error is not None:
                    log_failed_end(old, error)
                raise
            return
        later = self.loop.create_task(self.end_after(old, busy))
        self.ending[later] = old
        later.add_done_callback(lambda task: self.ending.pop(task, None))

    async def end_after(self, e: Entry, calls: list) -> None:
        await asyncio.wait(calls)
        await self.end(e)

    async def end(self, e: Entry) -> None:
        begun = self.loop.time()
        try:
            await destroy(e.model)
        except Exception as error:
            log_failed_end(e, error)
        models.measures().unloaded(self.loop.time() - begun)

    async def close(self) -> None:
        """Ends all models, one by one. Errors are logged."""
        for e in list(self.loading.values()):
            e.task.cancel()
        for later, e in list(self.ending.items()):
            later.cancel()
            await self.end(e)
        while self.loaded:
            await self.end(self.loaded.popitem(last=False)[1])
        models.report()


def log_failed_end(e: Entry, error: BaseException) -> None:
    logger.error("The model %r has failed to end: %s", e.id, error, exc_info=error)


SILENT = {"__slots__": (), "__del__": lambda self: None}
ENDED = "_helve_ended"  # an attribute of the class of a model: the class like it without an end


async def destroy(model: Any) -> None:
    """Calls the model's __del__, if it has one: a plain one in a thread, because it may take long. Python does not call it again."""
    end = getattr(model, "__del__", None)
    if end is None:
        return
    try:
        if inspect.iscoroutinefunction(end):
            await end()
            return
        error = await asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, attempt, end)
        if error is not None:
            raise error
    finally:
        silence(model)


def silence(model: Any) -> None:
    """Keeps Python from calling the model's __del__: the model gets a class like its own, in which that does nothing."""
    kind = type(model)
    if not hasattr(kind, "__del__"):
        return
    try:
        ended = vars(kind).get(ENDED)
        if ended is None:
            meta: Any = type(kind)
            ended = meta(kind.__name__, (kind,), SILENT | {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
            setattr(kind, ENDED, ended)  # not in a dictionary here: a class that each load makes anew would stay for ever
        model.__class__ = ended
    except Exception:  # a class that cannot be derived from: its __del__ is called twice, as in Ray Serve
        pass


def attempt(fn: Callable) -> Optional[BaseException]:
    """The exception of fn. A StopIteration cannot go through a future."""
    try:
        fn()
    except BaseException as e:
        return e if not isinstance(e, StopIteration) else RuntimeError(f"StopIteration was raised: {e}")
    return None


# ---- the decorator


class Loader:
    """One decorated function, and its caches: one for each object."""

    def __init__(self, fn: Callable, limit: int):
        self.fn, self.limit = fn, limit
        self.name = list(inspect.signature(fn).parameters)[-1]  # of the model id
        self.method = len(inspect.signature(fn).parameters) == 2
        self.title = f"{fn.__module__}.{fn.__qualname__}"  # the same in another replica
        self.caches: dict[int, tuple] = {}  # by the id of the object: a cache and a reference to the object
        models.loaders.add(self)

    def __getstate__(self) -> dict:
        return {**vars(self), "caches": {}}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        models.loaders.add(self)

    def cache_for(self, replica: Any) -> Optional[Cache]:
        """The cache of the loader for a model that comes from another replica. That is the one of the object of the replica, made if need be, or the only cache that there is. None for a loader of
        several other objects: the node does not know which of them had the model.
        """
        if not self.method:
            return self.cache(None)
        if any(getattr(value, "_helve_loader", None) is self for kind in type(replica).__mro__ for value in list(vars(kind).values())):
            return self.cache(replica)
        return next(iter(self.caches.values()))[0] if len(self.caches) == 1 else None

    def arguments(self, args: tuple, kwargs: dict) -> tuple:
        """The object, or None, and the model id."""
        owner = None
        if self.method and args:
            owner, args = args[0], args[1:]
        if not args and list(kwargs) == [self.name]:
            args = (kwargs[self.name],)
        elif len(args) != 1 or kwargs:
            given = ", ".join([*(f"{type(a).__name__}" for a in args), *kwargs]) or "no arguments"
            raise TypeError(f"Functions decorated with `@serve.multiplexed` must take exactly one argument, the multiplexed model ID (str), but got {given}.")
        if not isinstance(args[0], str):
            raise TypeError("The model ID must be a string.")
        if not args[0]:
            raise ValueError("The model ID cannot be empty. Calls give it with handle.options(multiplexed_model_id=...) or the header serve_multiplexed_model_id.")
        return owner, args[0]

    def cache(self, owner: Any) -> Cache:
        found = self.caches.get(id(owner))
        if found is not None:
            return found[0]
        if _runtime.replica is None and request_info.get() is None:  # a call in local testing mode has no replica, but a request
            raise RuntimeError("`@serve.multiplexed` can only be used within a deployment (failed to retrieve Serve replica context).")
        key = id(owner)
        load: Any = self.fn
        reference: Any = None
        if self.method:
            try:
                reference = weakref.ref(owner, lambda _: self.forget(key))
            except TypeError:  # an object that cannot be referred to weakly is kept
                reference = functools.partial(lambda o: o, owner)
            load = lambda model_id: self.fn(reference(), model_id)  # noqa: E731
        cache = Cache(load, self.limit, asyncio.get_running_loop(), self.title)
        self.caches[key] = cache, reference
        models.caches.add(cache)
        return cache

    def forget(self, key: int) -> None:
        cache, _ = self.caches.pop(key)
        models.caches.discard(cache)
        models.report()


@overload
def multiplexed(func: "F", /) -> "F": ...
@overload
def multiplexed(func: None = None, max_num_models_per_replica: int = 3) -> "Callable[[F], F]": ...
def multiplexed(func: Optional[Callable] = None, max_num_models_per_replica: int = 3) -> Callable:
    """Keeps the models that an async function or method loads by their ids: each is loaded once, and the last ones stay:

        @serve.multiplexed(max_num_models_per_replica=2)
        async def get_model(self, model_id: str) -> Model: ...

        async def __call__(self, request: Request) -> str:
            model = await self.get_model(serve.get_multiplexed_model_id())

    Calls with a model id go to a replica that has the model, if there is one: `handle.options(multiplexed_model_id="a")`, or the HTTP header
    `serve_multiplexed_model_id`. The least recently used model makes room for a new one: its `__del__` is called, which may be async.

    Args:
        func: The loader, an async function or method with one parameter, the model id.
        max_num_models_per_replica: Largest number of loaded models of one loader and object; -1 for no limit.

    Returns:
        The loader, which gives the kept model.

    Raises:
        TypeError: A loader that is not async or has other parameters, or a number that is no int.
        ValueError: A number that is neither positive nor -1.
        RuntimeError: The loader is called outside of a deployment.
    """
    if func is not None:
        check_loader(func)
    if not isinstance(max_num_models_per_replica, int):
        raise TypeError("max_num_models_per_replica must be an integer.")
    if max_num_models_per_replica != -1 and max_num_models_per_replica <= 0:
        raise ValueError("max_num_models_per_replica must be positive, or -1 for no limit.")

    def decorate(fn: Callable) -> Callable:
        check_loader(fn)
        loader = Loader(fn, int(max_num_models_per_replica))

        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            owner, model_id = loader.arguments(args, kwargs)
            return await loader.cache(owner).get(model_id)

        wrapper._serve_multiplexed_function = True  # type: ignore[attr-defined]
        wrapper._helve_loader = loader  # type: ignore[attr-defined]
        return wrapper

    return decorate(func) if func is not None else decorate


def check_loader(fn: Any) -> None:
    if not callable(fn):
        raise TypeError("The `multiplexed` decorator must be used with a function or method.")
    if not inspect.iscoroutinefunction(fn):
        raise TypeError("@serve.multiplexed can only be used to decorate async functions or methods.")
    params = list(inspect.signature(fn).parameters.values())
    method = bool(params) and params[0].name in ("self", "cls")
    if not 1 + method <= len(params) <= 2 or any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in params):
        raise TypeError("@serve.multiplexed can only be used to decorate functions or methods with at least one 'model_id: str' argument, and no others.")


__all__ = ["get_multiplexed_model_id", "multiplexed"]
