"""Large values and references between Python deployments, drivers and Go over a real node."""

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import threading

import pytest
from eventually import eventually

from helve import serve
from helve.serve.exceptions import RayServeException
from helve.serve.handle import ObjectRef


class Tensor:
    """A buffer that pickles out of band, as numpy's do."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Tensor, (pickle.PickleBuffer(self.data),)


def pattern(n: int) -> bytes:
    return (b"0123456789abcdef" * (n // 16 + 1))[:n]


@serve.deployment(max_ongoing_requests=50)
class Maker:
    def __init__(self):
        self.kept = None

    def make(self, n: int) -> bytes:
        return pattern(n)

    def tensor(self, n: int) -> Tensor:
        return Tensor(bytearray(pattern(n)))

    def text(self, n: int) -> str:
        return pattern(n).decode()

    def size(self, value, *, also=b"") -> tuple:
        if isinstance(value, Tensor):
            value = bytes(value.data)
        if isinstance(value, str):
            value = value.encode()
        assert value == pattern(len(value))
        return len(value), len(also), os.getpid()

    def echo(self, value):
        return value

    def keep(self, value) -> None:
        self.kept = value

    def look(self) -> bytes:
        return bytes(self.kept.data)

    def readonly(self, t: Tensor) -> bool:
        return memoryview(t.data).readonly

    def items(self, n: int):
        for i in range(n):
            yield i

    async def never(self):
        await asyncio.Event().wait()

    async def fail(self, value):
        raise ValueError(f"{len(value)} bytes")


@serve.deployment
class Chain:
    def __init__(self, first, second):
        self.first, self.second = first, second

    async def pass_on(self, n: int, method: str, by_reference) -> tuple:
        h = self.first.options(method_name=method)
        if by_reference is not None:
            h = h.options(_by_reference=by_reference)
        made = h.remote(n)
        got = await self.second.size.remote(made, also=made if method == "make" else b"")
        read = made._call.reading is True  # whether the value came here on its way
        value = await made
        again = await made
        assert value is again
        value = bytes(value.data) if isinstance(value, Tensor) else value if isinstance(value, bytes) else value.encode()
        return got[:2], read, value == pattern(n)

    async def pass_failure(self) -> str:
        try:
            await self.second.size.remote(self.first.fail.remote(pattern(300_000)))
        except ValueError as e:
            return str(e)

    async def refs(self, n: int) -> list:
        ref = await self.first.make.remote(n)._to_object_ref()
        out = [type(ref) is ObjectRef, (await self.second.size.remote(ref))[0], len(await ref)]
        try:
            self.first.make.remote(n)._to_object_ref_sync()
        except RuntimeError as e:
            out.append(str(e))
        try:
            await self.first.options(_by_reference=False).make.remote(n)._to_object_ref()
        except RuntimeError as e:
            out.append(str(e))
        return out


@pytest.fixture(scope="module")
def chain():
    handle = serve.run(Chain.bind(Maker.options(name="First").bind(), Maker.options(name="Second").bind()), name="large", route_prefix=None)
    yield handle
    serve.shutdown()


def first():
    return serve.get_deployment_handle("First", "large")


SIZES = [0, 1, 100_000, 131_071, 131_072, 300_000, 1 << 20, 5_000_000]


@pytest.mark.parametrize("method", ["make", "tensor", "text"])
@pytest.mark.parametrize("by_reference", [None, True, False])
def test_results_pass_from_replica_to_replica(chain, method, by_reference):
    for n in SIZES:
        sizes, read, same = chain.pass_on.remote(n, method, by_reference).result()
        assert sizes == (n, n if method == "make" else 0) and same
        if n > 300_000 and by_reference is not False or by_reference and n > 0:
            assert not read, f"{n} bytes were read by the caller"


def test_the_driver_sends_and_reads_large_values(chain):
    h = first()
    for n in SIZES:
        assert h.echo.remote(pattern(n)).result() == pattern(n)
        assert bytes(h.echo.remote(Tensor(bytearray(pattern(n)))).result().data) == pattern(n)
        r = h.options(_by_reference=True).make.remote(n)
        assert r.result() == r.result() == pattern(n) and r.by_reference
        assert h.size.remote(r).result()[0] == n
    h.keep.remote(Tensor(bytearray(pattern(200_000)))).result()
    for _ in range(50):  # calls that would overwrite a buffer of another
        h.echo.remote(pattern(200_000)[::-1]).result()
    assert h.look.remote().result() == pattern(200_000)


def test_large_buffers_are_read_only(chain):
    h = first()
    assert h.readonly.remote(Tensor(bytearray(pattern(200_000)))).result()


def test_other_codecs(chain):
    for codec in ("pickle", "msgpack", "orjson", "raw"):
        h = first().options(request_serialization=codec, response_serialization=codec)
        value = pattern(400_000) if codec != "orjson" else pattern(400_000).decode()
        assert h.echo.remote(value).result() == value


def test_upstream_errors(chain):
    assert chain.pass_failure.remote().result() == "300000 bytes"


def test_object_refs(chain):
    got = chain.refs.remote(400_000).result()
    assert got[:3] == [True, 400_000, 400_000] and "event loop" in got[3] and "Converting by-value DeploymentResponses to ObjectRefs is not supported" in got[4]
    h = first()
    ref = h.make.remote(10)._to_object_ref_sync()
    assert ref.result() == pattern(10) and h.size.remote(ref).result()[0] == 10
    with pytest.raises(RuntimeError, match="by-value"):
        h.options(_by_reference=False).make.remote(1)._to_object_ref_sync()


def test_streams_as_object_refs(chain):
    h = first().options(stream=True)
    assert [r.result() for r in h.items.remote(5)._to_object_ref_gen_sync()] == list(range(5))

    async def read():
        return [await r async for r in await h.items.remote(5)._to_object_ref_gen()]

    assert asyncio.run(read()) == list(range(5))
    with pytest.raises(RuntimeError, match="by-value"):
        h.options(_by_reference=False).items.remote(1)._to_object_ref_gen_sync()


def test_a_shutdown_ends_the_wait_for_a_reference():
    """In a process of its own, whose node is shut down."""
    program = """
import threading
from helve import serve

@serve.deployment(graceful_shutdown_timeout_s=0.1)
class Never:
    async def __call__(self):
        import asyncio
        await asyncio.Event().wait()

serve.start(http_options={"port": None})
ref = serve.run(Never.bind(), route_prefix=None).remote()._to_object_ref_sync()
def wait():
    try:
        print("got", ref.result())
    except Exception as e:
        print("ended", type(e).__name__)
t = threading.Thread(target=wait)
t.start()
serve.shutdown()
t.join()
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert out.stdout.startswith("ended"), out


def test_other_threads_and_loops(chain):
    h, got = first(), []

    def read():
        r = h.make.remote(500_000)
        got.append(r.result() == pattern(500_000))

    async def read_async():
        r = h.make.remote(500_000)
        got.extend(v == pattern(500_000) for v in await asyncio.gather(*(wait(r) for _ in range(3))))

    async def wait(r):
        return await r

    threads = [threading.Thread(target=read) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    asyncio.run(read_async())
    assert got == [True] * 7


def test_nothing_is_left(chain):
    h = first()
    made = [h.options(_by_reference=True).make.remote(300_000) for _ in range(10)]
    for r in made:
        r.result()
    kept = references()
    assert kept["results"] >= 10
    del made, r
    gc.collect()
    h.keep.remote(None).result()
    eventually(lambda: chain.pass_on.remote(1000, "make", None).result() and not references().get("results") and not memory()["buffers"])
    assert memory()["rejected"] == 0


def status():
    from helve import _runtime

    conn = _runtime.current()
    return asyncio.run_coroutine_threadsafe(_wait(conn), conn.loop).result()


async def _wait(conn):
    return await conn.control("status")


def references():
    return status().get("references") or {}


def memory():
    return status()["applications"]["large"]["shared_memory"]


def test_a_killed_worker_leaks_nothing(chain):
    """The extents that a worker has leased, published and received are free when its process is gone; the references
    of others stay valid.
    """
    h = first()
    made = [h.make.remote(400_000) for _ in range(5)]  # the driver has these by reference
    pid = h.size.remote(b"").result()[2]
    h.keep.remote(Tensor(bytearray(pattern(2_000_000)))).result()
    assert [r.result() for r in made] == [pattern(400_000)] * 5
    os.kill(pid, 9)
    second = serve.get_deployment_handle("Second", "large")
    assert [second.size.remote(r).result()[0] for r in made] == [400_000] * 5
    while True:
        try:
            if h.size.remote(b"").result()[2] != pid:
                break
        except RayServeException:  # the call was under way
            pass
    del made
    gc.collect()
    eventually(lambda: chain.pass_on.remote(1000, "make", None).result() and not memory()["buffers"] and not references().get("results"))
    assert memory()["rejected"] == 0


def test_broadcasts_of_large_values(chain):
    h = first()
    value = Tensor(bytearray(pattern(300_000)))
    got = h.broadcast("echo", value).results()
    assert [bytes(v.data) for v in got] == [pattern(300_000)]
    assert h.broadcast("make", 300_000).results() == [pattern(300_000)]


def test_a_worker_with_little_address_space_gets_large_values_inline(tmp_path):
    """Its interpreter limits it, or the program that started the test does, and the node with it."""
    limited = tmp_path / "python"
    limited.write_text(f"#!/bin/sh\nulimit -v 3000000\nexec {sys.executable} \"$@\"\n")
    limited.chmod(0o700)
    program = tmp_path / "main.py"
    program.write_text(f"""
import sys
from helve import serve

if sys.argv[1] == "worker":
    sys.executable = {str(limited)!r}

@serve.deployment
class Down:
    def size(self, value):
        return len(value)

    def make(self, n):
        return b"x" * n

    def mapped(self):
        return "helve-arena" in open("/proc/self/maps").read()

@serve.deployment
class Up:
    def __init__(self, down):
        self.down = down

    async def __call__(self, n):
        value = await self.down.make.remote(n)
        return await self.down.size.remote(value), await self.down.size.remote(self.down.make.remote(n)), await self.down.mapped.remote()

serve.start(http_options={{"port": None}})
up = serve.run(Up.bind(Down.bind()), route_prefix=None)
print([up.remote(n).result(timeout_s=30) for n in (300_000, 3_000_000)])
""")
    for who, limit in ("worker", "unlimited"), ("all", "4000000"):
        done = subprocess.run(
            ["sh", "-c", f'ulimit -v {limit}; exec "$@"', "sh", sys.executable, str(program), who], capture_output=True, text=True, timeout=60,
        )
        assert done.stdout.strip() == "[(300000, 300000, False), (3000000, 3000000, False)]", done.stderr
