"""An argument arrives with the value that it had when remote() was called, although its caller changes it after
that.
"""

import asyncio
import os
import threading

import pytest

from helve import serve
from helve.serve.handle import DeploymentHandle

LARGE = 200_000  # bytes: they travel outside of the pickle


class Buffer:
    """As an array of numpy: its bytes are pickled out of band."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        import pickle

        return Buffer, (pickle.PickleBuffer(self.data),)


def same(value):
    """A form of a value that can be compared after the value was changed."""
    if isinstance(value, Buffer):
        return bytes(value.data)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (list, tuple)):
        return [same(v) for v in value]
    if isinstance(value, dict):
        return {k: same(v) for k, v in value.items()}
    return value


def change(value):
    if isinstance(value, Buffer):
        change(value.data)
    elif isinstance(value, bytearray):
        value[:] = b"\xff" * len(value)
    elif isinstance(value, list):
        for v in value:
            change(v)
        value.clear()
    elif isinstance(value, dict):
        for v in value.values():
            change(v)
        value.clear()


VALUES = {
    "list": lambda: [1, 2, 3],
    "bytearray": lambda: bytearray(b"abc"),
    "large bytearray": lambda: bytearray(LARGE),
    "buffer out of band": lambda: Buffer(bytearray(LARGE)),
    "nested": lambda: {"a": [bytearray(LARGE), {"b": [1]}]},
}


@serve.deployment(max_ongoing_requests=100)
class Echo:
    def __init__(self):
        self.go = asyncio.Event()

    async def echo(self, *args, **kwargs):
        return same(args), same(kwargs)

    async def items(self, *args, **kwargs):
        yield same(args), same(kwargs)

    async def later(self, value):
        await self.go.wait()
        return value

    async def let_go(self):
        self.go.set()
        await asyncio.sleep(0)
        self.go = asyncio.Event()

    async def pid(self):
        return os.getpid()


def reads(h):
    """The ways of a call; each returns a function that reads the method's argument."""

    def broadcast(*args, **kwargs):
        r = h.broadcast("echo", *args, **kwargs)
        return lambda: r.results(timeout_s=20)[0]

    def dispatch(*args, **kwargs):
        with h.echo.choose_replica() as selection:
            r = h.dispatch(selection, *args, **kwargs)
        return lambda: r.result(timeout_s=20)

    def stream(*args, **kwargs):
        r = h.options(stream=True).items.remote(*args, **kwargs)
        return lambda: next(r)

    def unary(*args, **kwargs):
        r = h.echo.remote(*args, **kwargs)
        return lambda: r.result(timeout_s=20)

    return {"unary": unary, "stream": stream, "broadcast": broadcast, "dispatch": dispatch}


def raced(h, way):
    """The mistakes in calls whose arguments change as soon as they were made."""
    wrong = []
    call = reads(h)[way]
    for name, make in VALUES.items():
        for _ in range(10):
            value, by_name = make(), make()
            read = call(value, key=by_name)
            change(value)
            change(by_name)
            got = read()
            if (list(got[0]), got[1]) != ([same(make())], {"key": same(make())}):
                wrong.append((way, name))
    return wrong


def raced_beside_a_response(h):
    """The same, beside a response that is still to come."""
    wrong = []
    for name, make in VALUES.items():
        value, by_name = make(), make()
        upstream = h.later.remote("upstream")
        r = h.echo.remote(value, upstream, key=by_name)
        change(value)
        change(by_name)
        while True:  # until the upstream's method has begun, and was let go
            h.let_go.remote().result(timeout_s=20)
            try:
                args, kwargs = r.result(timeout_s=0.05)
                break
            except TimeoutError:
                pass
        if (list(args), kwargs) != ([same(make()), "upstream"], {"key": same(make())}):
            wrong.append(name)
    return wrong


@serve.deployment(max_ongoing_requests=10)
class Inside:
    """The same from inside of a replica: from a thread, and from a loop of that thread's own."""

    def __init__(self, echo: DeploymentHandle):
        self.echo = echo

    async def raced(self, way):
        return await asyncio.to_thread(raced, self.echo, way)

    async def beside(self):
        return await asyncio.to_thread(raced_beside_a_response, self.echo)

    async def on_other_loop(self):
        async def main():
            value = bytearray(LARGE)
            r = self.echo.echo.remote(value)
            change(value)
            return (await r)[0] == [bytes(LARGE)] or (await r)[0] == (bytes(LARGE),)

        return await asyncio.to_thread(asyncio.run, main())

    async def beside_on_own_loop(self):
        value = [1, 2, 3]
        upstream = self.echo.later.remote("upstream")
        r = self.echo.echo.remote(value, upstream)
        value.clear()
        task = asyncio.ensure_future(as_coroutine(r))
        while not task.done():
            await self.echo.let_go.remote()
        return list((await task)[0])


async def as_coroutine(response):
    return await response


@pytest.fixture(scope="module")
def inside():
    serve.start(http_options={"port": None})
    yield serve.run(Inside.bind(Echo.bind()), route_prefix=None)
    serve.shutdown()


@pytest.fixture
def echo(inside):
    return serve.get_deployment_handle("Echo", "default")


@pytest.mark.parametrize("way", ["unary", "stream", "broadcast", "dispatch"])
def test_an_argument_is_what_it_was_at_remote(echo, inside, way):
    assert raced(echo, way) == []
    assert inside.raced.remote(way).result(timeout_s=60) == []
    assert inside.on_other_loop.remote().result(timeout_s=60)


@pytest.mark.parametrize("codec", ["cloudpickle", "pickle", "msgpack", "orjson", "raw"])
def test_an_argument_is_what_it_was_at_remote_in_every_codec(echo, codec):
    h = echo.options(request_serialization=codec)
    make = (lambda: bytearray(LARGE)) if codec == "raw" else lambda: [list(range(1000))]
    for _ in range(50):
        value = make()
        r = h.echo.remote(value)
        change(value)
        assert list(r.result(timeout_s=20)[0]) == [same(make())]


def test_an_argument_beside_a_response_is_what_it_was_at_remote(echo, inside):
    assert raced_beside_a_response(echo) == []
    assert inside.beside.remote().result(timeout_s=60) == []
    assert inside.beside_on_own_loop.remote().result(timeout_s=60) == [[1, 2, 3], "upstream"]


@pytest.mark.parametrize("read_first", [True, False])
def test_a_response_passed_on_is_what_its_method_gave(echo, read_first):
    """Its value is in this process, and its reader may change it there while it is passed on."""
    upstream = echo.echo.remote([1, 2, 3])
    if read_first:
        upstream.result(timeout_s=20)
    r = echo.echo.remote(upstream)
    value = upstream.result(timeout_s=20)
    value[0][0].clear()
    assert r.result(timeout_s=20) == ([[[[1, 2, 3]], {}]], {})


def test_a_response_passed_on_in_another_codec_is_what_its_method_gave(echo):
    upstream = echo.echo.remote([1, 2, 3])
    r = echo.options(request_serialization="msgpack").echo.remote(upstream, upstream)
    upstream.result(timeout_s=20)[0][0].clear()
    assert r.result(timeout_s=20)[0][0] == [[[1, 2, 3]], {}]


def test_an_argument_that_cannot_be_encoded_is_the_calls_error(echo, inside):
    """In every thread alike: remote() itself does not raise."""
    for r in (echo.echo.remote(threading.Lock()), echo.echo.remote(echo.pid.remote(), threading.Lock())):
        with pytest.raises(TypeError, match="lock"):
            r.result(timeout_s=20)


def test_many_threads_send_what_they_have(echo):
    wrong = []

    def work(i):
        buffer = bytearray(1000)
        for n in range(50):
            buffer[:] = bytes([i]) * len(buffer)
            r = echo.echo.remote(buffer, n)
            buffer[:] = bytes(len(buffer))
            args, _ = r.result(timeout_s=30)
            if list(args) != [bytes([i]) * len(buffer), n]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i + 1,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
