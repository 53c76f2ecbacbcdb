"""Event loops whose time passes only when nothing is left to do: tests of waits take no time, and are exact."""

import asyncio
import selectors


class _Selector(selectors.DefaultSelector):
    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:  # only a thread can wake the loop
            found = super().select(2)
            if not found:
                raise RuntimeError("all tasks wait, and no timer is set")
            return found
        self.now += timeout
        return found


class ClockLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self):
        return self.clock.now


def run(main):
    """Runs a coroutine function on a loop of its own."""
    loop = ClockLoop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def settle():
    """Lets all tasks run until each waits for a time or for another one."""
    for _ in range(20):
        await asyncio.sleep(0)


async def collect(stream):
    """The items of a stream, and the exception that ended it."""
    items = []
    try:
        async for x in stream:
            items.append(x)
    except Exception as e:
        return items, e
    return items, None


def spawn(coro):
    return asyncio.get_running_loop().create_task(coro)


def now():
    return asyncio.get_running_loop().time()
