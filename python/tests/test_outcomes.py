"""Exceptions as the outcome of a call: exceptions that would end the reader's loop or task, exceptions that refuse
attributes, and the objects that a caught exception keeps.
"""

import asyncio
import concurrent.futures
import dataclasses
import gc
import weakref

import pytest

from helve import _encoding as encoding
from helve import serve
from helve.serve.exceptions import RayServeException
from helve.serve.handle import DeploymentHandle

RAISED = {
    "StopIteration": lambda: StopIteration("s"), "StopAsyncIteration": lambda: StopAsyncIteration("s"),
    "CancelledError": lambda: asyncio.CancelledError("s"), "GeneratorExit": lambda: GeneratorExit("s"),
    "futures.CancelledError": lambda: concurrent.futures.CancelledError("s"), "futures.TimeoutError": lambda: concurrent.futures.TimeoutError("s"),
    "InvalidStateError": lambda: asyncio.InvalidStateError("s"),
}
STOPS = ("StopIteration", "StopAsyncIteration")


class Hostile:
    """Raises as it is pickled (at 1) or unpickled (at 2)."""

    def __init__(self, what, at):
        self.what, self.at = what, at

    def __reduce__(self):
        if self.at == 1:
            raise RAISED[self.what]() if self.what in RAISED else SystemExit("s")
        return unpickled, (self.what,)


def unpickled(what):
    raise RAISED[what]() if what in RAISED else SystemExit("s")


@serve.deployment(max_ongoing_requests=100)
class Raises:
    def sync(self, what):
        raise RAISED[what]()

    async def plain(self, what):  # `async def` itself makes a RuntimeError of a StopIteration
        raise RAISED[what]()

    def items(self, what):
        yield 1
        raise RAISED[what]()

    async def async_items(self, what):
        yield 1
        raise RAISED[what]()

    async def hostile(self, what):
        return Hostile(what, 2)

    async def hostile_items(self, what):
        yield 1
        yield Hostile(what, 2)
        yield 2

    async def echo(self, x):
        return x


@serve.deployment(max_ongoing_requests=100)
class Reader:
    """The ways of reading that a replica has."""

    def __init__(self, raises: DeploymentHandle):
        self.raises = raises

    async def read(self, how, method, what):
        h = getattr(self.raises, method)
        return await outcome_of(WAYS[how], h, self.raises, method, what)


async def outcome_of(way, h, handle, method, what):
    task = asyncio.ensure_future(way(h, handle, method, what))
    await asyncio.wait([task], timeout=20)
    if not task.done():
        return "nothing"
    if task.cancelled():
        return "the task was cancelled"
    return described(task.exception()) if task.exception() else f"gave {task.result()!r}"


def described(e):
    return f"{type(e).__name__}: {e}" if isinstance(e, Exception) else f"no Exception: {e!r}"


async def awaited(h, handle, method, what):
    return await h.remote(what)


async def gathered(h, handle, method, what):
    return await asyncio.gather(h.remote(what), handle.echo.remote(1))


async def passed(h, handle, method, what):
    return await handle.echo.remote(h.remote(what))


async def broadcast(h, handle, method, what):
    return await handle.broadcast(method, what).results_async()


async def iterated(h, handle, method, what):
    return [item async for item in h.options(stream=True).remote(what)]


async def by_anext(h, handle, method, what):
    stream, got = h.options(stream=True).remote(what), []
    while True:
        try:
            got.append(await stream.__anext__())
        except StopAsyncIteration:
            return got


WAYS = {"await": awaited, "gather": gathered, "argument": passed, "broadcast": broadcast, "async for": iterated, "anext": by_anext}
UNARY, STREAM = ("await", "gather", "argument", "broadcast"), ("async for", "anext")


def blocking(h, handle, method, what):
    """The ways outside of event loops."""
    if "items" in method:
        yield "for", lambda: list(h.options(stream=True).remote(what))
    else:
        yield "result", lambda: h.remote(what).result(timeout_s=20)
        yield "map", lambda: list(map(lambda r: r.result(timeout_s=20), [h.remote(what)]))
        yield "argument", lambda: handle.echo.remote(h.remote(what)).result(timeout_s=20)
        yield "broadcast", lambda: handle.broadcast(method, what).results(timeout_s=20)
        yield "object ref", lambda: h.remote(what)._to_object_ref_sync().result(timeout_s=20)


def raised(fn):
    try:
        return f"gave {fn()!r}"
    except BaseException as e:
        return described(e)


@pytest.fixture(scope="module")
def reader():
    serve.start(http_options={"port": None})
    yield serve.run(Reader.bind(Raises.bind()), route_prefix=None)
    serve.shutdown()


@pytest.fixture
def raises(reader):
    return serve.get_deployment_handle("Raises", "default")


@pytest.mark.parametrize("what", RAISED)
@pytest.mark.parametrize("method", ["sync", "plain", "items", "async_items"])
def test_what_a_method_raises_is_an_error_in_every_way_of_reading(reader, raises, method, what):
    h, said = getattr(raises, method), {}
    for name in STREAM if "items" in method else UNARY:
        said[name] = asyncio.run(outcome_of(WAYS[name], h, raises, method, what))
        said["inside, " + name] = reader.read.remote(name, method, what).result(timeout_s=60)
    for name, read in blocking(h, raises, method, what):
        said[name] = raised(read)
    for name, text in said.items():
        assert text != "nothing" and not text.startswith(("gave", "no Exception", "the task")), (name, text)
        if what in STOPS:
            assert text.startswith("RuntimeError: ") and ("raised" in text), (name, text)
        elif what.startswith("futures") or what == "InvalidStateError":
            assert text == f"{type(RAISED[what]()).__name__}: s", (name, text)
    assert len(set(said.values())) == 1 or what == "CancelledError", said  # the message names the request


def test_the_error_of_a_stop_keeps_its_remote_traceback(raises):
    with pytest.raises(RuntimeError, match="Raises.sync raised StopIteration: s") as e:
        raises.sync.remote("StopIteration").result()
    assert "RAISED[what]()" in str(e.value.__cause__)


@pytest.mark.parametrize("what", ["StopIteration", "StopAsyncIteration", "CancelledError", "GeneratorExit", "SystemExit"])
def test_a_value_whose_pickle_raises_is_an_error(raises, what):
    """On the way to the method, and in this process, where the result comes: the thread that receives goes on."""
    for name, read in {
        "result": lambda: raises.hostile.remote(what).result(timeout_s=20),
        "await": lambda: asyncio.run(outcome_of(WAYS["await"], raises.hostile, raises, "hostile", what)),
        "broadcast": lambda: raises.broadcast("hostile", what).results(timeout_s=20),
    }.items():
        assert "RuntimeError: the call raised " + what in raised(read), name
    if what.startswith("Stop"):  # the others end remote(), on the thread that called it
        assert "raised " + what in raised(raises.echo.remote(Hostile(what, 1)).result)
    stream = raises.options(stream=True).hostile_items.remote(what)
    assert next(stream) == 1
    with pytest.raises(RuntimeError):
        next(stream)
    assert next(stream) == 2 and list(stream) == []
    assert raises.echo.remote(1).result(timeout_s=20) == 1


# ---- exceptions that refuse attributes

class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Refuses(Exception):
    def __setattr__(self, name, value):
        raise TypeError("no attributes")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int

    def __str__(self):
        return f"code {self.code}"


class Hidden(Exception):
    """An exception whose attributes all raise."""

    def __getattr__(self, name):
        raise KeyError(name)


class Says(Exception):
    def __init__(self, used):
        super().__init__(f"{used} used")
        self.used = used


class Opaque(Exception):
    @property
    def __dict__(self):
        raise RuntimeError("no dict")

    @property
    def __cause__(self):
        raise RuntimeError("no cause")


def test_an_exception_that_cannot_even_be_looked_at_answers_its_call():
    for e in (encoding.decode_error(encoding.encode_error(raised_at_once(Opaque("text")))), encoding.Failure(raised_at_once(Opaque("text"))).exception()):
        assert type(e) is Opaque and str(e) == "text"


def raised_at_once(exc):
    try:
        raise exc
    except BaseException as e:
        return e


@pytest.mark.parametrize("make", [lambda: Slotted(3), lambda: Refuses("three"), lambda: Frozen(3), lambda: Hidden("three"), lambda: Says(3)])
def test_an_exception_keeps_its_type_and_text_whatever_its_class_refuses(make):
    exc = make()
    for _ in range(2):  # from a replica to another, and on to the driver
        data = encoding.encode_error(raised_at_once(exc))
        exc = encoding.decode_error(data)
        assert type(exc) is type(make()) and str(exc) == str(make())
        assert "raised_at_once" in str(exc.__cause__)
        assert getattr(type(exc), "code", None) is None or exc.code == 3
    assert encoding.Failure(raised_at_once(make())).exception().args == make().args


def test_builtin_exceptions_are_given_again_whole():
    for exc in (OSError(2, "no file", "name"), UnicodeDecodeError("utf-8", b"x", 0, 1, "why"), KeyError("k"), SyntaxError("s")):
        again = encoding.Failure(raised_at_once(exc)).exception()
        assert again is not exc and type(again) is type(exc) and str(again) == str(exc) and again.args == exc.args


# ---- the objects that a caught exception keeps

class Held:
    """An object that a reader holds beside its response, as a stream whose generator has a slot."""


def by_result(raises, held):
    r = raises.sync.remote("InvalidStateError")
    r.result()


def by_result_twice(raises, held):
    r = raises.sync.remote("StopIteration")
    with pytest.raises(RuntimeError):
        r.result()
    r.result()


def by_iteration(raises, held):
    stream = raises.options(stream=True).items.remote("InvalidStateError")
    list(stream)


def by_broadcast(raises, held):
    r = raises.broadcast("plain", "InvalidStateError")
    r.results()


def by_argument(raises, held):
    upstream = raises.sync.remote("InvalidStateError")
    r = raises.echo.remote(upstream)
    r.result()


def by_cancel(raises, held):
    while True:  # an answer may be faster than its cancel
        r = raises.echo.remote(1)
        r.cancel()
        r.result()


def by_pickling(raises, held):
    r = raises.echo.remote(Hostile("StopIteration", 1))
    r.result()


def by_await(raises, held):
    asyncio.run(awaits(raises.plain.remote("InvalidStateError"), held))
    raise RuntimeError("it was caught inside")


async def awaits(response, held):
    try:
        await response
    except asyncio.InvalidStateError:
        pass


@pytest.mark.parametrize("read", [by_result, by_result_twice, by_iteration, by_broadcast, by_argument, by_cancel, by_pickling, by_await])
def test_what_a_reader_of_an_error_held_is_gone_with_it(raises, read):
    """Without the cyclic collector, which may run much later."""
    gc.collect()
    gc.disable()
    try:
        held = Held()
        alive = weakref.ref(held)
        try:
            read(raises, held)
        except Exception:
            pass
        else:
            raise AssertionError("it raised nothing")
        del held
        assert alive() is None
    finally:
        gc.enable()
