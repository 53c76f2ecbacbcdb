"""Helpers that test-suites of programs for Ray Serve import from ray._common.test_utils."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any, Callable

from helve.raycompat.tasks import remote


class _Signal:
    def __init__(self) -> None:
        self.event, self.waiting = asyncio.Event(), 0

    def send(self, clear: bool = False) -> None:
        self.event.set()
        if clear:
            self.event.clear()

    async def wait(self, should_wait: bool = True) -> None:
        if should_wait:
            self.waiting += 1
            try:
                await self.event.wait()
            finally:
                self.waiting -= 1

    async def cur_num_waiters(self) -> int:
        return self.waiting


class _Semaphore:
    def __init__(self, value: int = 1) -> None:
        self.semaphore = asyncio.Semaphore(value=value)

    async def acquire(self) -> None:
        await self.semaphore.acquire()

    async def release(self) -> None:
        self.semaphore.release()

    async def locked(self) -> bool:
        return self.semaphore.locked()


_Signal.__name__ = _Signal.__qualname__ = "SignalActor"
_Semaphore.__name__ = _Semaphore.__qualname__ = "Semaphore"
SignalActor = remote(num_cpus=0)(_Signal)
Semaphore = remote(num_cpus=0)(_Semaphore)


def wait_for_condition(condition_predictor: Callable[..., Any], timeout: float = 10, retry_interval_ms: float = 100, raise_exceptions: bool = False, **kwargs: Any) -> None:
    """Waits until a function returns something true."""
    end, last = time.monotonic() + timeout, ""
    while time.monotonic() <= end:
        try:
            if condition_predictor(**kwargs):
                return
            last = ""
        except Exception as e:
            if raise_exceptions:
                raise
            last = f" Last exception: {type(e).__name__}: {e}"
        time.sleep(retry_interval_ms / 1000)
    raise RuntimeError(f"The condition wasn't met before the timeout expired.{last}")


async def async_wait_for_condition(condition_predictor: Callable[..., Any], timeout: float = 10, retry_interval_ms: float = 100, **kwargs: Any) -> None:
    """wait_for_condition on an event loop. The function may be async."""
    end, last = time.monotonic() + timeout, ""
    while time.monotonic() <= end:
        try:
            value = condition_predictor(**kwargs)
            if await value if inspect.isawaitable(value) else value:
                return
            last = ""
        except Exception as e:
            last = f" Last exception: {type(e).__name__}: {e}"
        await asyncio.sleep(retry_interval_ms / 1000)
    raise RuntimeError(f"The condition wasn't met before the timeout expired.{last}")


__all__ = ["Semaphore", "SignalActor", "async_wait_for_condition", "wait_for_condition"]
