"""Profiles of a worker: where its threads and tasks spend CPU time, where they wait, where they are now, and which lines hold memory. A thread of
the worker looks at the stacks of all other threads, in periods (docs/profiles.md, docs/control.md ``profile``). It costs at most SHARE of one CPU: after a look that took 1 ms,
the next one comes 50 ms later at the earliest.

For example, a look every 10 ms finds that the main thread has used 8 ms of CPU time since the last one, and is in score() called by handle() now: 8 ms are added to that stack.
Most looks at an event loop with little to do find it in select(), where it waits: the CPU time since the look before was spent elsewhere, and is added to the next stack that computes. For
example, 1 ms of each 20 ms is spent in score(): of 100 looks, 95 find select() and 5 find score(), which gets all of the 50 ms.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from types import CodeType, FrameType
from typing import Any, Callable, Iterator, Optional

PERIOD = 0.01  # seconds between two looks, at least
BLOCK_PERIOD = 0.05
SHARE = 0.02  # of one CPU
SWITCH = 0.0002  # seconds that the sampler waits for the interpreter, in place of 5 ms
DEPTH = 128  # frames of a stack, the innermost ones
MOST = 10_000  # number of stacks; the time of others is that of one stack
HEAP_DEPTH = 16  # frames that tracemalloc keeps of each allocation
MOST_SECONDS = 300.0
KINDS = ("cpu", "heap", "stacks", "block")

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARY = os.path.dirname(os.path.abspath(threading.__file__)) + os.sep
# Files whose functions wait for work: a stack of these alone waits for nothing of the user's.
_IDLE = tuple(_LIBRARY + name for name in ("threading.py", "queue.py", "selectors.py", "runpy.py", "asyncio" + os.sep, "concurrent" + os.sep))

# Files with the functions in which a thread waits for a lock or a file descriptor. An event loop of uvloop has no frame: it waits where the function main of the worker is.
_WAITS = tuple(_LIBRARY + name for name in ("threading.py", "queue.py", "selectors.py"))
_MAIN = _HERE + "_worker.py"


class Stacks:
    """Stacks with the values that were added to each."""

    def __init__(self) -> None:
        self.functions: list = []
        self.numbers: dict = {}  # code or (file, line) -> number of the function
        self.values: dict[tuple, list] = {}  # (thread, function, line, ...) -> [value, count]

    def function(self, key: Any, name: str, file: str, line: int) -> int:
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.functions)
            self.functions.append([name, file, line])
        return number

    def frame(self, frame: FrameType) -> tuple:
        code: CodeType = frame.f_code
        number = self.numbers.get(code)
        if number is None:
            name = getattr(code, "co_qualname", code.co_name)  # from Python 3.11 on with the class
            module = frame.f_globals.get("__name__")
            number = self.function(code, f"{module}.{name}" if isinstance(module, str) else name, code.co_filename, code.co_firstlineno)
        return number, frame.f_lineno or code.co_firstlineno

    def of_frame(self, frame: Optional[FrameType]) -> list:
        stack: list = []
        while frame is not None and len(stack) < 2 * DEPTH:
            stack.extend(self.frame(frame))
            frame = frame.f_back
        return stack

    def of_task(self, task: asyncio.Task) -> list:
        """The coroutines that wait for each other, the innermost one first."""
        places: list = []
        at: Any = task.get_coro()
        while at is not None and len(places) < DEPTH:
            frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None) or getattr(at, "ag_frame", None)
            if frame is None:
                break
            places.append(self.frame(frame))
            at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None) or getattr(at, "ag_await", None)
        return [n for place in reversed(places) for n in place]

    def idle(self, stack: list) -> bool:
        """No function of the user's is in the stack."""
        return all(self.functions[n][1].startswith(_IDLE) or self.functions[n][1].startswith((_HERE, "<frozen")) for n in stack[::2])

    def add(self, thread: str, stack: list, value: int, count: int = 1) -> None:
        key = (thread, *stack)
        values = self.values.get(key)
        if values is None:
            if len(self.values) >= MOST:
                key = ("", self.function(None, "(other stacks)", "", 0), 0)
            values = self.values.setdefault(key, [0, 0])
        values[0] += value
        values[1] += count

    def shown(self) -> list:
        return [{"value": v, "count": n, "thread": key[0], "frames": key[1:]} for key, (v, n) in self.values.items()]


def cpu_time(thread: threading.Thread) -> Optional[int]:
    """The CPU time of a thread in nanoseconds; None where the system does not tell. On Linux the number of a clock of CPU time is made of that of the
    thread (clock_getcpuclockid(3)), and a thread that has ended is an error: pthread_getcpuclockid would crash.
    """
    native = thread.native_id
    if native is None or sys.platform != "linux":
        return None
    try:
        return time.clock_gettime_ns((~native << 3) | 6)
    except OSError:
        return None


class Sampler:
    """Looks at all threads but its own, until stop is set or the time is over. Clocks and wait are parameters for tests."""

    def __init__(
        self, kind: str, seconds: float, loop: Optional[asyncio.AbstractEventLoop] = None, *,
        clock: Callable[[], float] = time.monotonic, cost: Callable[[], float] = time.thread_time, wait: Optional[Callable[[float], Any]] = None,
    ) -> None:
        self.kind, self.seconds, self.loop = kind, min(seconds, MOST_SECONDS), loop
        self.clock, self.cost_clock = clock, cost
        self.stop = threading.Event()
        self.wait = wait or self.stop.wait
        self.stacks = Stacks()
        self.samples, self.cost, self.elapsed = 0, 0.0, 0.0
        self.used: dict[int, Optional[int]] = {}  # CPU time of threads at the last look, by ident
        self.owed: dict[int, list] = {}  # of threads that were found waiting: [name, stack, CPU time that has no other stack yet], by ident
        self.process = time.process_time_ns()

    def run(self) -> None:
        """The sampler gets the interpreter's lock when another thread gives it up. In the 5 ms that it would wait for that a thread of an event loop gives it up in select(),
        and all CPU time would seem to be there; after SWITCH it is given up where the thread is.
        """
        interval = sys.getswitchinterval()
        if self.kind == "cpu":
            sys.setswitchinterval(min(interval, SWITCH))
        try:
            self.sample()
            self.settle()
        finally:
            if self.kind == "cpu":
                sys.setswitchinterval(interval)

    def sample(self) -> None:
        period = BLOCK_PERIOD if self.kind == "block" else PERIOD
        begun = last = self.clock()
        self.used = {ident: cpu_time(thread) for ident, thread in self.threads()}
        while True:
            before = self.cost_clock()
            now = self.clock()
            if self.samples:
                self.look(int((now - last) * 1e9))
            self.samples, last = self.samples + 1, now
            took = max(0.0, self.cost_clock() - before)
            self.cost += took
            self.elapsed = self.clock() - begun
            left = self.seconds - self.elapsed
            if self.stop.is_set() or left <= 0:
                return
            self.wait(max(took / SHARE, min(period, left)))

    def threads(self) -> Iterator[tuple]:
        me = threading.get_ident()
        return ((ident, thread) for ident, thread in list(threading._active.items()) if ident != me)  # type: ignore[attr-defined]

    def look(self, passed: int) -> None:
        """Adds the nanoseconds since the last look to the stacks of now."""
        frames = sys._current_frames()
        for ident, thread in self.threads():
            frame = frames.get(ident)
            if frame is None:
                continue
            now = cpu_time(thread)
            before = self.used.get(ident, 0)  # a thread that has begun since
            self.used[ident] = now
            used = 0 if now is None or before is None else max(0, now - before)
            if self.kind == "cpu":
                if now is None:  # the system does not tell: a thread that waits in no known function has used the time
                    stack = self.stacks.of_frame(frame)
                    used = 0 if self.stacks.functions[stack[0]][1].startswith(_IDLE) else passed
                if used > 0:
                    self.spent(ident, thread.name, self.stacks.of_frame(frame), used)
            elif passed - used > 0:
                stack = self.stacks.of_frame(frame)
                if not self.stacks.idle(stack):
                    self.stacks.add(thread.name, stack, passed - used)
        if self.kind == "block":
            self.tasks(passed)

    def spent(self, ident: int, name: str, stack: list, used: int) -> None:
        """Adds CPU time that a thread has used before it was found with a stack."""
        function, file, _ = self.stacks.functions[stack[0]]
        if file.startswith(_WAITS) or file == _MAIN and function.endswith(".main"):
            self.owed.setdefault(ident, [name, stack, 0])[2] += used
        else:
            self.stacks.add(name, stack, used + self.owed.pop(ident, (name, stack, 0))[2])

    def settle(self) -> None:
        """Adds the CPU time of threads that were never found anywhere but waiting."""
        for name, stack, used in self.owed.values():
            self.stacks.add(name, stack, used)
        self.owed.clear()

    def tasks(self, value: int) -> None:
        for task in all_tasks(self.loop):
            stack = self.stacks.of_task(task)
            if stack and not self.stacks.idle(stack):
                self.stacks.add("tasks", stack, value)


def all_tasks(loop: Optional[asyncio.AbstractEventLoop]) -> list:
    """The tasks of a loop, also from another thread: a task that begins meanwhile may be missing."""
    try:
        return [] if loop is None else list(asyncio.all_tasks(loop))
    except RuntimeError:
        return []


def stacks_now(stacks: Stacks, loop: Optional[asyncio.AbstractEventLoop], mine: Any) -> None:
    """Adds the stacks of all threads but this one, which answers a question, and of all tasks of the loop but mine, once each."""
    names = {t.ident: t.name for t in threading.enumerate()}
    threads = [(names.get(ident, str(ident)), frame) for ident, frame in sys._current_frames().items() if ident != threading.get_ident()]
    for name, frame in sorted(threads, key=lambda thread: thread[0].startswith("helve-")):  # Helve's own ones last
        stacks.add(name, stacks.of_frame(frame), 1)
    for task in all_tasks(loop):
        stack = stacks.of_task(task) if task is not mine else []
        if stack:
            stacks.add(f"task {task.get_name()}", stack, 1)


def heap(stacks: Stacks, seconds: float, stop: threading.Event) -> None:
    """Adds the memory that was allocated in the time of the profile and is in use at its end. Where the program traces its memory itself, it is all that its
    tracemalloc knows, and that goes on.
    """
    import tracemalloc

    own = not tracemalloc.is_tracing()
    if own:
        tracemalloc.start(HEAP_DEPTH)
    try:
        stop.wait(min(seconds, MOST_SECONDS))
        if not tracemalloc.is_tracing():  # the program has ended it
            return
        found = tracemalloc.take_snapshot()
    finally:
        if own:
            tracemalloc.stop()
    for statistic in found.statistics("traceback"):
        stack: list = []
        for at in reversed(statistic.traceback):  # tracemalloc has the innermost one last
            name = f"{os.path.basename(at.filename)}:{at.lineno}"
            stack.extend((stacks.function((at.filename, at.lineno), name, at.filename, at.lineno), at.lineno))
        if not (stack and stacks.functions[stack[0]][1] in (tracemalloc.__file__, __file__)):
            stacks.add("", stack, statistic.size, statistic.count)


class Profiler:
    """The profiles of this process, one at a time."""

    def __init__(self) -> None:
        self.stop: Optional[threading.Event] = None
        self.busy = ""

    def end(self) -> None:
        """Ends the profile that is being taken, because its client has gone."""
        if self.stop is not None:
            self.stop.set()

    async def take(self, loop: asyncio.AbstractEventLoop, kind: str, seconds: float) -> dict:
        """The answer to a request for a profile. It is called on the loop."""
        if kind not in KINDS:
            raise ValueError(f"there is no profile of the kind {kind!r}")
        if self.stop is not None:
            return {"busy": self.busy}
        sampler = Sampler(kind, seconds, loop)
        self.stop, self.busy = sampler.stop, f"{kind}, until {time.strftime('%H:%M:%S', time.localtime(time.time() + seconds))}"
        begun, ended = time.time(), loop.create_future()
        try:
            if kind == "stacks":
                stacks_now(sampler.stacks, loop, asyncio.current_task())
                sampler.samples = 1
            else:
                threading.Thread(target=self.work, args=(sampler, loop, ended), name="helve-profile", daemon=True).start()
                await ended
        finally:
            sampler.stop.set()
            self.stop = None
        return {"stacks": {
            "kind": kind, "start": begun, "seconds": time.time() - begun if kind == "heap" else sampler.elapsed, "samples": sampler.samples, "cost_s": sampler.cost,
            "functions": sampler.stacks.functions, "stacks": sampler.stacks.shown(),
        }}

    def work(self, sampler: Sampler, loop: asyncio.AbstractEventLoop, ended: asyncio.Future) -> None:
        failed: Optional[BaseException] = None
        try:
            if sampler.kind == "heap":
                heap(sampler.stacks, sampler.seconds, sampler.stop)
            else:
                sampler.run()
        except BaseException as e:
            failed = e

        def tell() -> None:
            if ended.done():
                return
            if failed is None:
                ended.set_result(None)
            else:
                ended.set_exception(failed)

        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop is closed
            pass


profiler = Profiler()  # a worker is one process, also with several nodes

__all__ = ["Profiler", "Sampler", "Stacks", "profiler"]
