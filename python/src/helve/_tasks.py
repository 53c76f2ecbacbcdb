"""Eager real tasks: every call has one real asyncio.Task of its own, whose first step is run instead of scheduled.

Running the coroutine's first step without a task was tried and rejected: current_task(), asyncio.timeout, TaskGroup and
anyio all depend on one task with one identity from the first step on.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Callable, Coroutine, Optional


# The tasks that loops execute. Before 3.12 current_task() is a function in Python around this dictionary.
tasks: Optional[dict] = getattr(asyncio.tasks, "_current_tasks", None) if sys.version_info < (3, 12) else None


def make_eager(loop: asyncio.AbstractEventLoop) -> Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]:
    """Returns a function that starts a coroutine on loop, as a task, and runs its first step at once.

    It falls back to loop.create_task where a task is being executed already, and where a task factory is set, whose
    hooks would otherwise miss the call.
    """
    current = tasks.get if tasks is not None else asyncio.current_task
    factory = loop.get_task_factory

    if sys.version_info >= (3, 12):

        def eager(coro):
            if factory() is not None or current(loop) is not None:
                return loop.create_task(coro)
            return asyncio.Task(coro, loop=loop, eager_start=True)

        return eager

    # Before 3.12 Task.__init__ schedules its first step through loop.call_soon: it is caught there, and run.
    caught: list = []

    def capture(callback, *args, context=None):
        caught.append((callback, args, context))

    def eager(coro):
        if factory() is not None or current(loop) is not None:
            return loop.create_task(coro)
        loop.call_soon = capture
        try:
            task = asyncio.Task(coro, loop=loop)
        finally:
            del loop.call_soon
        callback, args, context = caught.pop()
        context.run(callback, *args)
        return task

    return eager
