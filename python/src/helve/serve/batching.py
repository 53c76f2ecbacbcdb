"""serve.batch: single calls that run together, as one call of a function of lists.

A batch forms from the first call that waits. It is due when it is full, or when its first call has waited for batch_wait_timeout_s, and
runs as soon as fewer than max_concurrent_batches run. Calls keep their order: a call that does not fit begins the next batch. For
example, with max_batch_size=10 and a batch_size_fn, calls of the sizes 4, 5 and 3 make a batch of the first two, and the third begins
another. Calls for different models are never in one batch.

A queue has no task while nothing runs, and is dropped when it is empty: it needs no end of its own when its object or its loop goes.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import time
import traceback
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, AsyncGenerator, AsyncIterator, Callable, Coroutine, List, Optional, overload

from helve import _measures, _runtime, _spans
from helve._errors import RayServeException
from helve._frames import request_info
from helve.serve._request_context import BatchInfo

if TYPE_CHECKING:
    from helve.serve._types import Batched, BatchedFunction, BatchedMethod, Batcher, One, R

logger = logging.getLogger("ray.serve")

AHEAD = 1024  # items of one stream that may wait for their reader; then the batch waits for it
EXITS = (SystemExit, KeyboardInterrupt)


@dataclass
class _RuntimeSummaryStatistics:
    """The times at which the running batches began, or the present steps of streamed ones: seconds since 1970."""

    start_times: List[float]

    @property
    def min_start_time(self) -> Optional[float]:
        return min(self.start_times, default=None)

    @property
    def mean_start_time(self) -> Optional[float]:
        return sum(self.start_times) / len(self.start_times) if self.start_times else None

    @property
    def max_start_time(self) -> Optional[float]:
        return max(self.start_times, default=None)

    @property
    def num_requests(self) -> int:
        return len(self.start_times)


# ---- arguments


class Signature:
    """Turns the arguments of calls into the arguments of their batch: each parameter becomes a list with a value of every call.
    Positional and keyword arguments are the same. For example, f(1, 2), f(3, b=4) and f(b=6, a=5) together are f([1, 3, 5], [2, 4, 6]).
    """

    def __init__(self, fn: Callable):
        self.fn = fn
        params = list(inspect.signature(fn).parameters.values())
        named = bool(params) and params[0].name in ("self", "cls")
        # A function in the body of a class, whose first parameter has another name, is a method or a static method: its first call shows.
        self.unclear = not named and "." in fn.__qualname__ and not fn.__qualname__.rpartition(".")[0].endswith("<locals>")
        self.take(params, named)

    def take(self, params: list, method: bool) -> None:
        if method:
            del params[0]
        self.method = method
        self.whole = inspect.Signature(params)
        self.simple = len(params) == 1 and params[0].kind in (params[0].POSITIONAL_ONLY, params[0].POSITIONAL_OR_KEYWORD)

    def owner(self, args: tuple) -> tuple:
        """The object of a method, None of a function, and the arguments without it."""
        if self.unclear and args:
            self.unclear, name = False, self.fn.__name__
            found = next((vars(c)[name] for c in type(args[0]).__mro__ if name in vars(c)), None)
            self.take(list(inspect.signature(self.fn).parameters.values()), found is not None and not isinstance(found, staticmethod))
        return (args[0], args[1:]) if self.method and args else (None, args)

    def value(self, args: tuple, kwargs: dict) -> Any:
        """The arguments of one call: the one argument itself, or a dictionary by the names of the parameters."""
        if self.simple and len(args) == 1 and not kwargs:
            return args[0]
        bound = self.whole.bind(*args, **kwargs)
        if self.simple:
            bound.apply_defaults()
            return next(iter(bound.arguments.values()))
        return bound.arguments

    def first(self, value: Any) -> Any:
        """The argument that batch_size_fn measures."""
        if self.simple:
            return value
        first = next(iter(value.values()), None)
        return first[0] if type(first) is tuple and next(iter(value)) not in self.whole.parameters else first

    def together(self, values: list) -> tuple:
        """The arguments of the batch, positional and by name."""
        if self.simple:
            return (values,), {}
        joined: dict[str, Any] = {}
        for name, p in self.whole.parameters.items():
            if not any(name in v for v in values):
                continue
            if p.kind is p.VAR_POSITIONAL:
                rest: Any = [v.get(name, ()) for v in values]
                if len({len(r) for r in rest}) > 1:
                    raise unlike()
                joined[name] = tuple(map(list, zip(*rest)))
            elif p.kind is p.VAR_KEYWORD:
                rest = [v.get(name, {}) for v in values]
                if any(r.keys() != rest[0].keys() for r in rest):
                    raise unlike()
                joined[name] = {k: [r[k] for r in rest] for k in rest[0]}
            else:  # a call without it has its default
                joined[name] = [v.get(name, p.default) for v in values]
        bound = inspect.BoundArguments(self.whole, joined)
        return bound.args, bound.kwargs


def unlike() -> Exception:
    return AssertionError("All batch requests should have the same number of parameters. Calls with other parameters belong to another function.")


# ---- the queue


class Item:
    """One call that waits for a batch or is in one."""

    __slots__ = ("value", "at", "info", "span", "context", "batch", "over", "future", "ready", "reader", "error")

    def __init__(self, value: Any, at: float):
        self.value, self.at = value, at
        self.info = request_info.get()
        self.span = self.info and _spans.above(self.info)
        self.context = contextvars.copy_context()
        self.batch: Optional[Batch] = None
        self.over = False
        self.future: Any = None  # the asyncio.Future of a single result
        self.ready: Any = None  # a deque with the items of a stream that wait for its reader
        self.reader: Optional[asyncio.Future] = None  # wakes the reader of a stream
        self.error: Optional[BaseException] = None  # ends the stream

    def end(self, error: Optional[BaseException] = None) -> None:
        """Ends a stream, or fails a single result. It does nothing the second time."""
        if self.over:
            return
        self.over = True
        if isinstance(error, StopIteration):  # futures and generators cannot raise it
            error = RuntimeError(f"StopIteration was raised: {error}")
        if self.ready is not None:
            self.error = error
            self.wake()
        elif not self.future.done():
            if isinstance(error, asyncio.CancelledError):
                self.future.cancel()
            else:
                self.future.set_exception(error)

    def left(self) -> bool:
        """Whether its caller was cancelled, also in this turn of the loop: then the caller's own code has not run yet."""
        waits = self.future if self.ready is None else self.reader
        return self.over or waits is not None and waits.cancelled()

    def wake(self) -> None:
        if self.reader is not None and not self.reader.done():
            self.reader.set_result(None)


class Batch:
    """A batch that runs, or is about to: its members are chosen in the first step of its task, so that calls that come in the same turn of
    the loop are in it.
    """

    __slots__ = ("task", "began", "at", "left", "room")

    def __init__(self) -> None:
        self.task: Any = None
        self.began = False
        self.at = 0.0
        self.left = 0  # number of members that still want their result
        self.room: Optional[asyncio.Future] = None  # wakes the batch when a reader has read, or left

    def take(self, items: deque, n: int) -> list:
        """Makes the first n items the members of the batch."""
        members, self.left = [items.popleft() for _ in range(n)], n
        for item in members:
            item.batch = self
        return members

    def deliver(self, members: list, step: Any) -> bool:
        """Gives each stream its item of a step. It returns false when all streams have ended."""
        for item, value in zip(members, step):
            if item.over:
                continue
            if value is StopIteration or value is StopAsyncIteration:
                item.end()
                self.left -= 1
                continue
            item.ready.append(value)
            item.wake()
        return not all(item.over for item in members)

    def wake(self) -> None:
        if self.room is not None and not self.room.done():
            self.room.set_result(None)


class Group:
    """The waiting calls for one model."""

    __slots__ = ("model", "items", "fit", "full", "pending")

    def __init__(self, model: str):
        self.model = model
        self.items: deque = deque()
        self.fit = 0  # number of first items that were measured and fit into one batch
        self.full = False  # the item behind these does not fit
        self.pending: Optional[Batch] = None  # the batch that takes the first items in its first step


class BatchQueue:
    """The waiting calls of one function or method, on one object and one loop. It belongs to that loop."""

    def __init__(self, batches: "Batches", key: tuple, loop: asyncio.AbstractEventLoop, owner: Any):
        self.batches, self.key, self.loop, self.owner = batches, key, loop, owner
        self.groups: list[Group] = []
        self.running: set[Batch] = set()
        self.timer: Optional[asyncio.TimerHandle] = None

    def add(self, value: Any, stream: bool) -> Item:
        item = Item(value, self.loop.time())
        if stream:
            item.ready = deque()
        else:
            item.future = self.loop.create_future()
        model = item.info.model if item.info is not None else ""
        for g in self.groups:
            if g.model == model:
                break
        else:
            g = Group(model)
            self.groups.append(g)
        g.items.append(item)
        batches = self.batches
        if batches.batch_size_fn is not None:
            self.measure(g)
        elif g.pending is not None or len(self.running) >= batches.max_concurrent_batches:
            return item  # the batch looks again, in its first step or at its end
        elif len(g.items) < batches.max_batch_size and self.timer is not None and self.timer.when() <= item.at + batches.batch_wait_timeout_s:
            return item
        self.schedule()
        return item

    def measure(self, g: Group) -> None:
        """Finds the items of the next batch among the first ones. An item that is too large for any batch fails."""
        most, fn = self.batches.max_batch_size, self.batches.batch_size_fn
        if fn is None:
            g.fit, g.full = min(len(g.items), most), len(g.items) >= most
            return
        first = self.batches.signature.first
        while g.fit < len(g.items) and not g.full:
            item = g.items[g.fit]
            try:
                size = fn([first(g.items[i].value) for i in range(g.fit + 1)])
                if size > most:
                    alone = size if g.fit == 0 else fn([first(item.value)])
                    if alone <= most:
                        g.full = True
                        return
                    raise RuntimeError(
                        f"Size of item is greater than max_batch_size. Please increase the max_batch_size or check the implementation of the "
                        f"batch_size_fn. The item has the size {alone}, max_batch_size is {most}."
                    )
            except Exception as e:
                del g.items[g.fit]
                item.end(e)
                continue
            g.fit += 1
            g.full = size == most

    def forget(self, g: Group) -> None:
        """Measures again from the first item on."""
        g.fit, g.full = 0, False

    def schedule(self) -> None:
        """Starts the batches that are due, and sets the timer for the next one."""
        due = None
        wait, most = self.batches.batch_wait_timeout_s, self.batches.max_concurrent_batches
        groups = self.groups
        if len(groups) > 1:
            groups = self.groups = sorted((g for g in groups if g.items), key=lambda g: g.items[0].at)
        elif groups and not groups[0].items:
            groups.clear()
        if len(self.running) < most:
            now = self.loop.time()
            for g in list(groups):
                if g.pending is not None or len(self.running) >= most:
                    continue
                self.measure(g)
                if not g.items:  # its calls were refused
                    self.groups = [other for other in self.groups if other is not g]
                    continue
                at = g.items[0].at + wait
                if g.full or at <= now:
                    self.start(g)
                elif due is None or at < due:
                    due = at
        # A timer that is too early does no harm: it looks again. To set another one for each call was measured, and took as long as the rest.
        if due is not None and len(self.running) < most and (self.timer is None or due < self.timer.when()):
            self.stop_timer()
            self.timer = self.loop.call_at(due, self.on_timer)
        if not self.groups and not self.running:
            self.stop_timer()
            if self.batches.queues.get(self.key) is self:  # a late caller of an old queue may come here again
                del self.batches.queues[self.key]

    def on_timer(self) -> None:
        self.timer = None
        self.schedule()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def start(self, g: Group) -> None:
        b = g.pending = Batch()
        self.running.add(b)
        b.task = g.items[0].context.run(self.loop.create_task, self.run(g, b))
        b.task.add_done_callback(lambda _: None if b.began else self.never_ran(g, b))

    def never_ran(self, g: Group, b: Batch) -> None:
        """Begins again when the task was cancelled before its first step, as a task that cancels all tasks does."""
        g.pending = None
        g.items = deque(item for item in g.items if not item.left())
        self.forget(g)
        self.running.discard(b)
        self.schedule()

    async def run(self, g: Group, b: Batch) -> None:
        b.began, b.at, g.pending = True, time.time(), None
        self.measure(g)
        if any(item.left() for item in islice(g.items, g.fit)):
            g.items = deque(item for item in g.items if not item.left())
            self.forget(g)
            self.measure(g)
        members = b.take(g.items, g.fit)
        self.forget(g)
        self.schedule()
        info = BatchInfo([item.info for item in members], g.model)
        info.task = b.task
        request_info.set(info)
        measures: Any = self.batches.measures
        begun = self.loop.time()
        if members:
            measures.began([begun - item.at for item in members], self.batches.max_batch_size, sum(len(g.items) for g in self.groups))
        try:
            if members:
                with _spans.BatchSpan(getattr(self.batches.fn, "__name__", "function"), [(item.info, item.span) for item in members], info):
                    await self.call(b, members)
        except BaseException as e:
            fail(members, e)
            if isinstance(e, asyncio.CancelledError):
                info.cancel_children()
            elif b.left == 0 and isinstance(e, EXITS):  # no caller is there to end the process
                raise
        finally:
            if members:
                measures.ended(self.loop.time() - begun)
            members.clear()  # an exception refers to this frame: its objects would live until the cyclic collector runs
            self.running.discard(b)
            self.schedule()

    async def call(self, b: Batch, members: list) -> None:
        args, kwargs = self.batches.signature.together([item.value for item in members])
        if self.batches.signature.method:
            args = (self.owner, *args)
        if members[0].ready is not None:
            await self.stream(b, members, self.batches.fn(*args, **kwargs))
            return
        results = await self.batches.fn(*args, **kwargs)
        check_length(results, members)
        for item, value in zip(members, results):
            if not item.over:
                item.over = True
                if not item.future.done():
                    item.future.set_result(value)

    async def stream(self, b: Batch, members: list, steps: AsyncGenerator) -> None:
        try:
            async for step in steps:
                b.at = time.time()
                check_length(step, members)
                if not b.deliver(members, step):
                    break
                while any(len(item.ready) >= AHEAD and not item.over for item in members):
                    b.room = self.loop.create_future()
                    await b.room
        finally:
            await steps.aclose()
        for item in members:
            item.end()

    def leave(self, item: Item) -> None:
        """Takes out the item of a caller that has given up. A batch without a member is cancelled."""
        if item.over:
            return
        item.over = True
        if self.loop.is_closed():
            return
        b = item.batch
        if b is None:
            for g in self.groups:
                if item in g.items:
                    g.items.remove(item)
                    self.forget(g)
                    break
            self.schedule()
            return
        b.left -= 1
        if b.left == 0:
            b.task.cancel()
        else:
            b.wake()


def fail(members: list, error: BaseException) -> None:
    for item in members:
        item.end(error)


def check_length(results: Any, members: list) -> None:
    try:
        n = len(results)
    except TypeError as e:
        raise TypeError(f"{e}: a function with @serve.batch returns a list with one result for each item of its batch") from None
    if n != len(members):
        raise RayServeException(
            f"Batched function doesn't preserve batch size. The input list has length {len(members)} but the returned list has length {n}."
        )


class Seat:
    """The reader's hold on the item of a stream. A stream that is dropped before its first step runs no code of its own, but its seat is
    dropped with it.
    """

    __slots__ = ("queue", "item")

    def __init__(self, queue: BatchQueue, item: Item):
        self.queue, self.item = queue, item

    def __del__(self) -> None:
        if not self.item.over:
            try:
                self.queue.loop.call_soon_threadsafe(self.queue.leave, self.item)
            except RuntimeError:  # the loop is closed
                pass


async def read(take: Callable[[], Seat]) -> AsyncGenerator:
    """The items of one stream."""
    seat = take()
    queue, item = seat.queue, seat.item
    ready = item.ready
    try:
        while True:
            while ready:
                value = ready.popleft()
                if len(ready) == AHEAD - 1 and item.batch is not None:
                    item.batch.wake()
                yield value
            if item.over:
                if item.error is None:
                    return
                try:
                    raise item.error
                finally:
                    item.error = None
            item.reader = queue.loop.create_future()
            await item.reader
    finally:
        queue.leave(item)


class Batches:
    """The options of one decorated function, and its queues."""

    def __init__(
        self, max_batch_size: int = 10, batch_wait_timeout_s: float = 0.0, max_concurrent_batches: int = 1, handle_batch_func: Any = None,
        batch_size_fn: Optional[Callable[[List], int]] = None,
    ):
        self.max_batch_size, self.batch_wait_timeout_s = checked_size(max_batch_size), batch_wait_timeout_s
        self.max_concurrent_batches, self.batch_size_fn = max_concurrent_batches, batch_size_fn
        self.fn = handle_batch_func
        self.signature = Signature(handle_batch_func)
        self.queues: dict[tuple, BatchQueue] = {}
        self.warned: Optional[tuple] = None  # the options that a warning was for
        self.measures: Optional[_measures.BatchMeasures] = None  # made with the first queue

    def __getstate__(self) -> dict:
        return {**vars(self), "queues": {}, "measures": None}  # a function that has served in a driver is deployed without its queues

    def queue(self, owner: Any) -> BatchQueue:
        """The queue of an object on the running loop."""
        loop = asyncio.get_running_loop()
        key = (loop, id(owner))
        q = self.queues.get(key)
        if q is None:
            for old in [k for k in list(self.queues) if k[0].is_closed()]:
                self.queues.pop(old, None)
            if self.measures is None:
                self.measures = _measures.BatchMeasures(self.fn.__name__)
            q = self.queues[key] = BatchQueue(self, key, loop, owner)
            self.warn()
        return q

    def warn(self) -> None:
        """Warns, once for the same options, of a max_ongoing_requests with which no batch is ever full."""
        limit = _runtime.max_ongoing_requests
        need = self.max_batch_size * self.max_concurrent_batches
        if self.batch_size_fn is not None or not limit or limit >= need or self.warned == (limit, need):
            return
        self.warned = limit, need
        logger.warning(
            "`max_batch_size` (%d) * `max_concurrent_batches` (%d) is larger than `max_ongoing_requests` (%d): the replica never has enough calls to "
            "fill the batches of %s. Please update `max_ongoing_requests` to be >= `max_batch_size` * `max_concurrent_batches`.",
            self.max_batch_size, self.max_concurrent_batches, limit, self.fn.__qualname__,
        )

    def add(self, args: tuple, kwargs: dict, stream: bool) -> tuple:
        owner, args = self.signature.owner(args)
        value = self.signature.value(args, kwargs)
        q = self.queue(owner)
        return q, q.add(value, stream)

    def changed(self) -> None:
        """Looks at every queue again, with the new options."""
        for q in list(self.queues.values()):
            def look(q: BatchQueue = q) -> None:
                for g in q.groups:
                    q.forget(g)
                q.schedule()
            try:
                q.loop.call_soon_threadsafe(look)
            except RuntimeError:  # the loop is closed
                pass

    def set_max_batch_size(self, new_max_batch_size: int) -> None:
        """Changes max_batch_size, from the next batch on."""
        self.max_batch_size = checked_size(new_max_batch_size)
        self.warn()
        self.changed()

    def set_batch_wait_timeout_s(self, new_batch_wait_timeout_s: float) -> None:
        """Changes batch_wait_timeout_s, also for the calls that wait."""
        check_wait(new_batch_wait_timeout_s)
        self.batch_wait_timeout_s = new_batch_wait_timeout_s
        self.changed()

    def get_max_batch_size(self) -> int:
        return self.max_batch_size

    def get_batch_wait_timeout_s(self) -> float:
        return self.batch_wait_timeout_s

    def running(self) -> list:
        return [b for q in list(self.queues.values()) for b in list(q.running) if b.began]

    def _get_curr_iteration_start_times(self) -> _RuntimeSummaryStatistics:
        return _RuntimeSummaryStatistics([b.at for b in self.running()])

    async def _is_batching_task_alive(self) -> bool:
        """True: there is no task that could end while calls wait."""
        return True

    async def _get_handling_task_stack(self) -> str:
        """The stacks of the batches that run."""
        lines = []
        for b in self.running():
            lines.append(f"{b.task!r}\n")
            inner = b.task.get_coro()
            while inner is not None:
                frame = getattr(inner, "cr_frame", None) or getattr(inner, "ag_frame", None)
                if frame is not None:
                    lines += traceback.format_list(traceback.extract_stack(frame, 1))
                inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
        return "".join(lines)


# ---- the decorator


def checked_size(size: Any) -> int:
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    if not isinstance(size, int):
        raise TypeError(f"max_batch_size must be integer >= 1, got {size}")
    if size < 1:
        raise ValueError(f"max_batch_size must be an integer >= 1, got {size}")
    return size


def check_wait(wait: Any) -> None:
    if not isinstance(wait, (int, float)):
        raise TypeError(f"batch_wait_timeout_s must be a float >= 0, got {wait}")
    if not wait >= 0:
        raise ValueError(f"batch_wait_timeout_s must be a float >= 0, got {wait}")


def check_function(fn: Any) -> None:
    if not callable(fn):
        raise TypeError("@serve.batch can only be used to decorate functions or methods.")
    if not inspect.iscoroutinefunction(fn) and not inspect.isasyncgenfunction(fn):
        raise TypeError(f"Functions decorated with @serve.batch must be 'async def'; {getattr(fn, '__qualname__', fn)} is not")


@overload
def batch(_func: Callable[[List[One]], Coroutine[Any, Any, List[R]]], /) -> "Batched[One, Coroutine[Any, Any, R]]": ...
@overload
def batch(_func: Callable[[List[One]], AsyncIterator[List[R]]], /) -> "Batched[One, AsyncGenerator[R, None]]": ...
@overload
def batch(_func: Callable[[Any, List[One]], Coroutine[Any, Any, List[R]]], /) -> "BatchedMethod[One, Coroutine[Any, Any, R]]": ...
@overload
def batch(_func: Callable[[Any, List[One]], AsyncIterator[List[R]]], /) -> "BatchedMethod[One, AsyncGenerator[R, None]]": ...
@overload
def batch(_func: Callable[..., Coroutine[Any, Any, List[R]]], /) -> "BatchedFunction[Coroutine[Any, Any, R]]": ...
@overload
def batch(_func: Callable[..., AsyncIterator[List[R]]], /) -> "BatchedFunction[AsyncGenerator[R, None]]": ...
@overload
def batch(
    _func: None = None, /, max_batch_size: int = 10, batch_wait_timeout_s: float = 0.01, max_concurrent_batches: int = 1,
    batch_size_fn: Optional[Callable[[List[Any]], int]] = None,
) -> "Batcher": ...
def batch(
    _func: Optional[Callable] = None, /, max_batch_size: int = 10, batch_wait_timeout_s: float = 0.01, max_concurrent_batches: int = 1,
    batch_size_fn: Optional[Callable[[List[Any]], int]] = None,
) -> Any:
    """Lets callers of an async function or method of lists give single values: calls that come together run as one call:

        @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.1)
        async def predict(self, texts: list[str]) -> list[int]:
            return self.model(texts)

        async def __call__(self, text: str) -> int:
            return await self.predict(text)

    The function returns a list with one result for each item. An async generator yields such lists: each caller has a stream of its own,
    and StopIteration in the place of its item ends it. An exception reaches every caller of the batch. A caller that is cancelled leaves
    the batch, which goes on for the others.

    Args:
        _func: The function, an `async def`.
        max_batch_size: Largest number of items in a batch, or their largest size by batch_size_fn.
        batch_wait_timeout_s: Seconds that the first item waits for others. With 0 a batch takes the items that are there.
        max_concurrent_batches: Number of batches of one object that run at a time.
        batch_size_fn: Function of the list of the items' first arguments that gives their size, for example the number of tokens.

    Returns:
        A function of one item. It has `set_max_batch_size(n)` and `set_batch_wait_timeout_s(s)`, for example for `reconfigure`.

    Raises:
        TypeError: A function that is not async, or an option of a wrong type.
        ValueError: max_batch_size below 1, or a negative time.
        RayServeException: At a call: the function has returned a list of another length.
    """
    if _func is not None:
        check_function(_func)
    checked_size(max_batch_size)
    check_wait(batch_wait_timeout_s)
    if not isinstance(max_concurrent_batches, int) or max_concurrent_batches < 1:
        raise TypeError(f"max_concurrent_batches must be an integer >= 1, got {max_concurrent_batches}")
    if batch_size_fn is not None and not callable(batch_size_fn):
        raise TypeError(f"batch_size_fn must be a callable or None, got {type(batch_size_fn)}")

    def decorate(fn: Callable) -> Callable:
        check_function(fn)
        batches = Batches(max_batch_size, batch_wait_timeout_s, max_concurrent_batches, fn, batch_size_fn)
        if inspect.isasyncgenfunction(fn):
            wrapper: Any = streamed(fn, batches)
        else:

            @functools.wraps(fn)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                q, item = batches.add(args, kwargs, False)
                try:
                    return await item.future
                except (asyncio.CancelledError, GeneratorExit):
                    q.leave(item)
                    raise
                finally:
                    del item  # an exception refers to this frame, and the item to the exception

        wrapper.set_max_batch_size = batches.set_max_batch_size
        wrapper.set_batch_wait_timeout_s = batches.set_batch_wait_timeout_s
        wrapper._get_max_batch_size = batches.get_max_batch_size
        wrapper._get_batch_wait_timeout_s = batches.get_batch_wait_timeout_s
        wrapper._get_curr_iteration_start_times = batches._get_curr_iteration_start_times
        wrapper._is_batching_task_alive = batches._is_batching_task_alive
        wrapper._get_handling_task_stack = batches._get_handling_task_stack
        return wrapper

    return decorate(_func) if _func is not None else decorate


def streamed(fn: Callable, batches: Batches) -> Callable:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        def take() -> Seat:
            return Seat(*batches.add(args, kwargs, True))

        try:
            asyncio.get_running_loop()
        except RuntimeError:  # a thread: the stream joins a batch in its first step, on the loop of its reader
            return read(take)
        seats = [take()]
        return read(seats.pop)

    return wrapper


_BatchQueue, _LazyBatchQueueWrapper = BatchQueue, Batches

__all__ = ["batch"]
