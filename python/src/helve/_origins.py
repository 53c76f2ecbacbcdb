"""The request for which code runs that is not the method of a call: a thread that the method has started, a function that it has given to a pool of
threads, a task that has failed. It is for logs and traces: a call that a thread makes is in the trace of the
request, and a request of its own, because it may go on when the method has answered.

For example, a method starts a thread, and answers. What the thread prints, and the exception that ends it, have the id of the method's request.
A thread of a pool has the request of the function that it runs, and none between two functions.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import gc
import threading
from typing import Any

from helve import _guard
from helve._frames import request_info

origin: contextvars.ContextVar[Any] = contextvars.ContextVar("helve_origin", default=None)  # of this thread
about: contextvars.ContextVar[Any] = contextvars.ContextVar("helve_about", default=None)  # of the record that is being logged


def current() -> Any:
    return request_info.get() or origin.get()


def follow() -> None:
    """Has the threads of this process note their requests, and the exceptions that end them logged as records."""
    start, submit = threading.Thread.start, concurrent.futures.ThreadPoolExecutor.submit

    @functools.wraps(start)
    def started(self: threading.Thread) -> None:
        info = current()
        if info is not None and not _pooled(self):
            run = self.run

            @functools.wraps(run)
            def of_request() -> None:
                origin.set(info)  # in the context of the thread, so it is not reset
                vars(self).pop("run", None)
                run()

            self.run = of_request  # type: ignore[method-assign]
        start(self)

    @functools.wraps(submit)
    def submitted(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        info = current()
        if info is None:
            return submit(self, fn, *args, **kwargs)

        @functools.wraps(fn, updated=())
        def of_request(*args: Any, **kwargs: Any) -> Any:
            token = origin.set(info)
            try:
                return fn(*args, **kwargs)
            finally:
                origin.reset(token)

        return submit(self, of_request, *args, **kwargs)

    threading.Thread.start = started  # type: ignore[method-assign]
    concurrent.futures.ThreadPoolExecutor.submit = submitted  # type: ignore[method-assign]
    threading.excepthook = of_thread


def _pooled(thread: threading.Thread) -> bool:
    """Whether a thread runs the functions of many requests."""
    modules = [type(thread).__module__, getattr(getattr(thread, "_target", None), "__module__", "")]
    return any(str(module).startswith(("concurrent.futures", "anyio", "helve")) for module in modules)


def of_thread(args: Any) -> None:
    """threading.excepthook: the exception that ends a thread is a record."""
    from helve import _logging

    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    thread = args.thread.name if args.thread is not None else ""
    _logging.uncaught(f"Exception in thread {thread}", args.exc_value)


def of_loop(loop: Any, context: dict) -> None:
    """The loop's handler of exceptions: that of a task is logged for the task's request."""
    token = about.set(_guard.guarded(lambda: _of_task(context.get("task") or context.get("future")), lambda e: None))
    try:
        loop.default_exception_handler(context)
    finally:
        about.reset(token)


def _of_task(task: Any) -> Any:
    """The request in whose context a task runs; None for none."""
    if task is None:
        return None
    get = getattr(task, "get_context", None)
    contexts = [get()] if get is not None else [c for c in gc.get_referents(task) if type(c) is contextvars.Context]  # before Python 3.12
    for context in contexts:
        info = context.get(request_info) or context.get(origin)
        if info is not None:
            return info
    return None


__all__ = ["about", "current", "follow", "of_loop", "of_thread", "origin"]
