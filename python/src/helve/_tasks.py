"""Eager real tasks: every call has one real asyncio.Task of its own, whose first step is run instead of scheduled. A task that waits for an
answer is stepped in the same way, inside the read that brings it.

Running the coroutine's first step without a task was tried and rejected: current_task(), asyncio.timeout, TaskGroup and
anyio all depend on one task with one identity from the first step on.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Callable, Coroutine, Optional


# The tasks that loops execute. Before 3.12 current_task() is a function in Python around this dictionary.
tasks: Optional[dict] = getattr(asyncio.tasks, "_current_tasks", None) if sys.version_info < (3, 12) else None
current_of: Callable[[Any], Any] = tasks.get if tasks is not None else asyncio.current_task

NAME = "call_soon"


def restore(attributes: dict, before: Any) -> None:
    """Gives a loop the call_soon back that it had before one was set: before is None if that was the method of its class. For example, the
    collector runs while a future is completed, and the __del__ of a user's class cancels a call, whose reader is woken inside of that.
    """
    if before is None:
        attributes.pop(NAME, None)
    else:
        attributes[NAME] = before


def make_eager(loop: asyncio.AbstractEventLoop) -> Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]:
    """Returns a function that starts a coroutine on loop, as a task, and runs its first step at once.

    It falls back to loop.create_task where a task is being executed already, and where a task factory is set, whose
    hooks would otherwise miss the call.
    """
    current, Task = current_of, asyncio.Task
    factory, attributes = loop.get_task_factory, vars(loop)

    if sys.version_info >= (3, 12):

        def eager(coro):
            if factory() is not None or current(loop) is not None:
                return loop.create_task(coro)
            return Task(coro, loop=loop, eager_start=True)

        return eager

    # Before 3.12 Task.__init__ schedules its first step through loop.call_soon: it is caught there, and run.
    caught: list = []

    def capture(callback, *args, context=None):
        caught.append((callback, args, context))

    def eager(coro):
        if factory() is not None or current(loop) is not None:
            return loop.create_task(coro)
        before = attributes.get(NAME)
        loop.call_soon = capture
        try:
            task = Task(coro, loop=loop)
        finally:
            restore(attributes, before)
        if len(caught) == 1:
            callback, args, context = caught.pop()
            context.run(callback, *args)
        else:
            run_caught(loop, caught, lambda callback, args: getattr(callback, "__self__", None) is task)
        return task

    return eager


def make_settle(loop: Any) -> Callable[[list, Any, Any], None]:
    """Returns a function that completes futures of loop, whose list it empties, with a value, or with exceptions of a helve._encoding.Failure. The tasks that wait for them are
    stepped right here, not in the next turn of the loop: a read callback runs outside of any task. While a task is executed they are scheduled.
    """
    current, attributes = current_of, vars(loop)
    caught: list = []

    def capture(callback, *args, context=None):
        caught.append((callback, args, context))

    def settle(futures: list, value, failure) -> None:
        for future in futures:
            if future.done():  # its task was cancelled
                continue
            here = current(loop) is None
            if here:
                before = attributes.get(NAME)
                loop.call_soon = capture
            try:
                if failure is None:
                    future.set_result(value)
                else:
                    future.set_exception(failure.exception())
                    future._log_traceback = False  # the reader may have gone
            finally:
                if here:
                    restore(attributes, before)
            if len(caught) == 1:
                callback, args, context = caught.pop()
                context.run(callback, *args)
            elif caught:
                run_caught(loop, caught, lambda callback, args: args == (future,))
        # An exception that a task has caught refers to the frames of the task, and these to the frame that has stepped it, which is this one: with
        # a future here, which refers to the exception, all of them would live until the cyclic collector runs.
        futures.clear()
        future = args = None

    return settle


def run_caught(loop: asyncio.AbstractEventLoop, caught: list, ours: Callable[[Any, tuple], bool]) -> None:
    """Runs those of the caught callbacks that are ours, and schedules the others. For example, the collector runs while a task is made, and the
    __del__ of a user's class calls loop.call_soon.
    """
    callbacks = caught[:]
    caught.clear()
    for callback, args, context in callbacks:
        if ours(callback, args):
            context.run(callback, *args)
        else:
            loop.call_soon(callback, *args, context=context)
