"""The parts that need no node: names, tasks, frames, graphs, errors."""

import asyncio
import contextvars
import hashlib
import json
import pickle
import random
import warnings

import pytest

from helve import _encoding as encoding
from helve import _wire as wire
from helve import serve
from helve._hooks import digest, raw_field
from helve._names import match_name, snake_case
from helve._tasks import make_eager
from helve.serve import exceptions
from helve.serve.deployment import Graph, http_kind, methods_of
from helve.serve.handle import DeploymentHandle


@pytest.mark.parametrize("go, python", [
    ("SayHi", "say_hi"), ("GetURL", "get_url"), ("HTTPServer", "http_server"), ("UserID2", "user_id2"), ("X", "x"), ("", ""), ("say_hi", "say_hi"),
])
def test_names(go, python):
    assert snake_case(go) == python
    assert match_name(go, [python]) == python
    assert match_name("other", [python]) is None


def test_names_that_several_methods_may_be():
    have = ["GetURL", "GetUrl", "getIP", "get_ip"]
    assert [match_name(n, have) for n in ("get_url", "GetUrl", "GetIP", "getIP")] == [None, "GetUrl", "get_ip", "getIP"]


# ---- eager tasks: the identity of a task from its first step on

var = contextvars.ContextVar("var", default=0)


async def current_task_is_one():
    first = asyncio.current_task()
    await asyncio.sleep(0)
    assert first is not None and asyncio.current_task() is first


async def wait_for_works():
    assert await asyncio.wait_for(asyncio.sleep(0, 5), 10) == 5


async def timeout_ends():
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.001)


async def shield_and_gather():
    assert await asyncio.gather(asyncio.shield(asyncio.sleep(0, 1)), asyncio.sleep(0, 2)) == [1, 2]


async def context_is_its_own():
    var.set(7)
    await asyncio.sleep(0)
    assert var.get() == 7


async def children_inherit():
    var.set(8)

    async def child():
        return var.get()

    assert await asyncio.create_task(child()) == 8


async def threads_inherit():
    var.set(9)
    assert await asyncio.to_thread(var.get) == 9


async def cancels_itself():
    asyncio.current_task().cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)


async def timeout_block():
    if hasattr(asyncio, "timeout"):
        async with asyncio.timeout(10):
            await asyncio.sleep(0)


async def task_group():
    if hasattr(asyncio, "TaskGroup"):
        async with asyncio.TaskGroup() as g:
            t = g.create_task(asyncio.sleep(0, 3))
        assert t.result() == 3


CHECKS = [
    current_task_is_one, wait_for_works, timeout_ends, shield_and_gather, context_is_its_own, children_inherit, threads_inherit,
    cancels_itself, timeout_block, task_group,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda f: f.__name__)
def test_eager_task_is_a_real_task(check):
    loop = asyncio.new_event_loop()
    eager, started = make_eager(loop), []

    async def main():
        done = loop.create_future()

        def callback():  # eager tasks are started from plain callbacks
            async def run():
                started.append(1)
                await check()

            task = eager(run())
            assert started == [1], "the first step was not run at once"
            task.add_done_callback(lambda t: done.set_exception(t.exception()) if t.exception() else done.set_result(None))

        loop.call_soon(callback)
        await done
        assert var.get() == 0, "the context leaked"

    loop.run_until_complete(main())
    loop.close()


def test_eager_falls_back():
    async def main():
        eager = make_eager(asyncio.get_running_loop())
        task = eager(asyncio.sleep(0, "inside of a task"))
        assert await task == "inside of a task"

    asyncio.run(main())
    loop = asyncio.new_event_loop()
    made = []
    loop.set_task_factory(lambda l, c, **k: made.append(1) or asyncio.Task(c, loop=l, **k))
    eager = make_eager(loop)
    loop.run_until_complete(eager(asyncio.sleep(0)))
    loop.close()
    assert made, "a task factory was passed by"


# ---- frames

class Recorder:
    def __init__(self):
        self.calls, self.cancels, self.lost = [], [], None

    def on_call(self, id, meta, body):
        route, want, info, slots = wire.parse_call(meta)
        self.calls.append((id, route, want, wire.parse_args(slots, body)))

    def on_cancel(self, id):
        self.cancels.append(id)

    def on_lost(self, error):
        self.lost = error


class Transport:
    def __init__(self):
        self.data, self.aborted = [], False

    def write(self, data):
        self.data.append(bytes(data))

    def abort(self):
        self.aborted = True

    close = abort

    def set_write_buffer_limits(self, high):
        self.high = high


def connection(loop, server):
    conn, transport = wire.Connection(loop, server), Transport()
    conn.connection_made(transport)
    return conn, transport


def feed(conn, data, cuts):
    """Delivers data in reads of the sizes that cuts gives, through the buffers of the protocol."""
    while data:
        buffer = conn.get_buffer(-1)
        n = min(len(data), len(buffer), next(cuts))
        buffer[:n] = data[:n]
        conn.buffer_updated(n)
        data = data[n:]


class Options:
    python, request_codec, response_codec, model, session, plain = True, encoding.CLOUDPICKLE, encoding.CLOUDPICKLE, "", "", False
    by_reference = None


@pytest.mark.parametrize("seed", range(20))
def test_frames_survive_any_chunking(seed):
    rng = random.Random(seed)
    loop = asyncio.new_event_loop()
    out, transport = connection(loop, Recorder())
    args = []
    for i in range(rng.randrange(1, 30)):
        value = rng.randbytes(rng.choice([0, 1, 100, 5000, 70_000, 130_000, 300_000]))
        options = Options()
        options.request_codec = rng.choice([encoding.CLOUDPICKLE, encoding.PICKLE, encoding.MSGPACK])
        options.model = rng.choice(["", "m:1"])
        call = wire.Call(out, wire.new_request())
        out.start(call, ("a", "d", str(i % 3)), None, options, (i, value), {"k": "v"})
        args.append((i, value))
    out.flush()
    data = b"".join(transport.data)
    server = Recorder()
    conn, _ = connection(loop, server)
    server.on_route = lambda n, r: None
    sizes = [1, 7, 16, 100, 4096, 65536, 1 << 20]
    feed(conn, memoryview(data), iter(lambda: rng.choice(sizes) if len(data) < 200_000 else rng.choice(sizes[3:]), None))
    assert [(a, k) for _, _, _, (a, k) in server.calls] == [(a, {"k": "v"}) for a in args]
    loop.close()


@pytest.mark.parametrize("seed", range(30))
def test_garbage_ends_the_connection_or_is_ignored(seed):
    rng = random.Random(1000 + seed)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    conn, transport = connection(loop, Recorder())
    for _ in range(20):
        kind = rng.choice([1, 3, 4, 5, 6, 16, 17, 18, 99])
        meta, body = rng.randbytes(rng.randrange(0, 100)), rng.randbytes(rng.randrange(0, 200))
        feed(conn, memoryview(wire.HEADER.pack(len(body), len(meta), kind, rng.randrange(4), rng.randrange(9)) + meta + body), iter(lambda: 64, None))
        if transport.aborted:
            break
    loop.close()


def test_a_bad_answer_fails_its_call_alone():
    loop = asyncio.new_event_loop()
    conn, _ = connection(loop, Recorder())
    calls = []
    for _ in range(3):
        call = wire.Call(conn, wire.new_request())
        conn.start(call, ("a", "d", ""), None, Options(), (), {})
        calls.append(call)
    good = pickle.dumps("ok")
    for call, body in zip(calls, [good, b"not a pickle", good]):
        feed(conn, memoryview(wire.END_FRAME.pack(len(body), 2, wire.END, 0, call.id, encoding.CLOUDPICKLE, 0) + body), iter(lambda: 9, None))
    assert calls[0].value == calls[2].value == "ok"
    assert isinstance(calls[1].error, pickle.UnpicklingError)
    conn.connection_lost(None)
    loop.close()


def test_errors_round_trip():
    e = encoding.decode_error(encoding.encode_error(ValueError("x")))
    assert type(e) is ValueError and str(e) == "x"
    again = encoding.decode_error(encoding.encode_error(e))
    assert type(again) is ValueError

    class Local(Exception):
        def __init__(self, a, b):
            super().__init__(a)

    e = encoding.decode_error(encoding.encode_error(Local("one", "two")))  # the exception does not unpickle
    assert isinstance(e, exceptions.RayServeException) and "Local: one" in str(e)
    for reason, cls in (("backpressure", exceptions.BackPressureError), ("deadline", TimeoutError), ("bad_input", TypeError), ("new", exceptions.RayServeException)):
        assert type(encoding.decode_error(encoding.envelope({"reason": reason, "message": "m", "unknown": "k"}))) is cls
    with pytest.raises(ValueError):
        encoding.parse_envelope(b"\x06reason\xff\xff\xff\xffuser")


@pytest.mark.parametrize("name", exceptions.__all__)
def test_our_exceptions_pass_through_methods(name):
    cls = getattr(exceptions, name)
    again = pickle.loads(pickle.dumps(cls("a text")))
    assert type(again) is cls and str(again) == "a text"
    assert type(encoding.decode_error(encoding.encode_error(exceptions.DataLossError("m")))) is exceptions.DataLossError


def test_plain_answers():
    assert encoding.encode(encoding.PLAIN, "é") == (encoding.TEXT, "é".encode())
    assert encoding.encode(encoding.PLAIN, b"x") == (encoding.RAW, b"x")
    assert encoding.encode(encoding.PLAIN, None) == (encoding.NONE, b"")
    assert encoding.encode(encoding.PLAIN, {"a": [1]}) == (encoding.JSON, b'{"a":[1]}')
    with pytest.raises(TypeError):
        encoding.encode(encoding.PLAIN, object())


# ---- graphs

@serve.deployment
class A:
    def __init__(self, *handles):
        pass

    def __call__(self, x: str) -> str:
        return x

    async def other(self, x: bytes):
        pass

    def many(self, a, b):
        pass

    @staticmethod
    def static(x: str):
        pass

    def nothing(self):
        pass

    def _private(self):
        pass


def test_graph():
    leaf = A.options(name="Leaf", num_replicas=3).bind()
    graph = Graph(A.bind(leaf, [leaf, {"k": A.bind()}]), "app")
    assert graph.ingress == "A"
    assert [d["name"] for d in graph.deployments] == ["Leaf", "A_1", "A"]
    assert graph.deployments[0]["options"] == {"num_replicas": 3}
    assert graph.deployments[2]["uses"] == ["A_1", "Leaf"]
    _, args, _ = pickle.loads(graph.code["A"])
    assert isinstance(args[0], DeploymentHandle) and args[1][1]["k"].deployment_name == "A_1"
    with pytest.raises(TypeError, match=r"call .bind\(\)"):
        Graph(A, "app")


def test_names_that_do_not_exist():
    with pytest.raises(AttributeError, match="has no attribute 'deploymnt'"):
        serve.deploymnt  # noqa: B018


def test_deployment_options():
    with pytest.raises(TypeError, match="argument 'replicas'; did you mean 'num_replicas'"):
        serve.deployment(replicas=2)
    with pytest.raises(ValueError, match="num_replicas .* is 0; give at least 1"):
        A.options(num_replicas=0)
    assert A.options(max_ongoing_requests="5").max_ongoing_requests == 5
    with pytest.raises(ValueError, match="max_ongoing_requests"):
        A.options(max_ongoing_requests="five")
    with pytest.raises(ValueError, match=r"max_queued_requests: must be -1 \(no limit\) or at least 1, is 0"):
        A.options(max_queued_requests=0)
    with pytest.raises(ValueError, match="limits: unknown key 'memry'; there are memory, num_cpus, open_files, from_resources"):
        A.options(limits={"memry": 1})
    with pytest.raises(ValueError, match="limits.num_cpus: must be a number, is 'all'"):
        A.options(limits={"num_cpus": "all"})
    with pytest.raises(TypeError, match="'A' has the value 1"):
        A.options(runtime_env={"env_vars": {"A": 1}})
    A.options(runtime_env={"env_vars": None, "working_dir": "/"}, limits={"num_cpus": 1, "memory": 1 << 30})
    with pytest.raises(RuntimeError, match="cannot be constructed directly"):
        A()


def test_methods_and_their_http_kinds():
    kinds = {m["name"]: m["http"] for m in methods_of(A.func_or_class)}
    assert kinds == {"__call__": "str", "other": "bytes", "many": "request", "static": "str", "nothing": "request"}
    assert http_kind(lambda request: None, False) == "request"


def test_handle_options():
    h = DeploymentHandle("D", "app")
    assert h.options(method_name="m").options(multiplexed_model_id="x")._options.method == "m"
    assert h._options.method == ""
    with pytest.raises(TypeError):
        h.options(nonsense=1)
    assert h.options(stream=True)._options.stream and not h.options(stream=True).options(stream=False)._options.stream
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        h.options(use_new_handle_api=True)
    assert caught and "no effect" in str(caught[0].message)
    go = DeploymentHandle("D", "app", language="go")
    assert go._options.request_codec == encoding.MSGPACK  # the default: Go reads plain data only, in a pickle too
    assert go.options(request_serialization="Pickle")._options.request_codec == encoding.PICKLE
    assert go.options(response_serialization="raw")._options.response_codec == encoding.RAW
    with pytest.raises(exceptions.RayServeException, match="call serve.run"):
        h.remote()


# ---- hooks

@pytest.mark.parametrize("value", [{}, {"a": [1.0, "b c", {"x\\\" y": None}]}, "x", 5, None, [True]])
def test_the_text_of_a_field_and_its_digest(value):
    for indent, separators in ((None, (",", ":")), (2, None), (None, (" , ", " : "))):
        text = json.dumps({"op": "x, {", "user_config": value, "n": 1, "z": {"user_config": 7}}, indent=indent, separators=separators)
        raw = raw_field(text, "user_config")
        assert json.loads(raw) == value
        assert digest(raw) == hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
        assert raw_field(text, "not there") is None
    assert digest(None) == ""


def test_user_config_is_checked_before_the_run():
    class Plain:
        pass

    with pytest.raises(exceptions.RayServeException, match="Plain has no method reconfigure"):
        Graph(serve.deployment(Plain, user_config={"a": 1}).bind(), "app")
    with pytest.raises(exceptions.RayServeException, match="is a function"):
        Graph(serve.deployment(lambda: 1, name="f", user_config={"a": 1}).bind(), "app")
    with pytest.raises(ValueError, match="user_config: it must be JSON"):
        serve.deployment(user_config={1, 2})
    assert serve.deployment(max_queued_requests=-1, health_check_period_s=0.5)(Plain)
