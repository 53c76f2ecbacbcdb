"""A value of any type and size that a program passes in is an exception at its line or of the one call; it never
ends the connection that all calls share.
"""

import asyncio
import json
import math
import random
import re

import pytest

from helve import _encoding as encoding
from helve import _limits, serve
from helve import _wire as wire
from helve._errors import BackPressureError, RayServeException, TooLargeError
from helve.serve.config import HTTPOptions
from helve.serve.handle import DeploymentHandle

from transport import Transport


# ---- options

class Odd(str):
    """Text that compares and hashes in a way of its own."""

    def __eq__(self, other):
        raise RuntimeError("compared")

    def __hash__(self):
        raise RuntimeError("hashed")


class Unshown:
    def __repr__(self):
        raise RuntimeError("shown")


WRONG = {
    "infinity": math.inf, "minus infinity": -math.inf, "not a number": math.nan, "a boolean": True, "bytes": b"1", "a list": [1],
    "an object": Unshown(), "a huge integer": 10**6000, "negative": -2, "complex": 1j, "surrogates": "\ud800", "a class": int, "huge": 1e300,
}
INTEGERS = ("num_replicas", "max_ongoing_requests", "max_queued_requests", "max_constructor_retry_count")
TIMES = (
    "graceful_shutdown_timeout_s", "graceful_shutdown_wait_loop_s", "health_check_period_s", "health_check_timeout_s",
    "construct_timeout_s", "unresponsive_after_s", "max_unresponsive_s", "request_routing_stats_period_s", "request_routing_stats_timeout_s",
)


@pytest.mark.parametrize("name", [*INTEGERS, *TIMES, "request_router", "runtime_env", "limits", "version"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_option_is_named_where_it_is_passed(name, wrong):
    if name == "version" and wrong == "negative":
        return
    with pytest.raises((TypeError, ValueError), match=name):
        serve.deployment(**{name: WRONG[wrong]})
    with pytest.raises((TypeError, ValueError), match=f"deployment 'D': {name}"):
        D.options(**{name: WRONG[wrong]})


@serve.deployment
class D:
    def __call__(self):
        pass

    def reconfigure(self, config):
        pass


@pytest.mark.parametrize("config", [
    math.inf, {"a": [math.nan]}, b"x", {1, 2}, Unshown(), [[]] * 2 + [Unshown()],
], ids=lambda v: type(v).__name__)
def test_a_user_config_that_is_not_json(config):
    with pytest.raises((TypeError, ValueError), match="user_config"):
        D.options(user_config=config)


def test_a_user_config_that_is_nested_without_end():
    config = []
    for _ in range(100_000):
        config = [config]
    with pytest.raises((TypeError, ValueError), match="user_config"):
        D.options(user_config=config)
    config = []
    for _ in range(600):
        config = [config]
    with pytest.raises(ValueError, match="user_config: must be at most 500 lists and dicts deep"):
        D.options(user_config={"a": "[[" * 1000, "b": config})


def test_an_option_is_what_it_was_when_it_was_passed():
    config, env = {"a": [1]}, {"env_vars": {"A": "1"}}
    d = D.options(user_config=config, runtime_env=env, version=Odd("v"))
    config["a"].clear()
    env["env_vars"]["B"] = 2
    assert d._options["user_config"] == {"a": [1]} and d._options["runtime_env"] == {"env_vars": {"A": "1"}}
    assert type(d._options["version"]) is str


@pytest.mark.parametrize("env", [
    {"env_vars": {"A=B": "1"}}, {"env_vars": {"": "1"}}, {"env_vars": {"A": "\ud800"}}, {"env_vars": {"A": "x\0"}}, {"env_vars": {"A": None}},
    {"working_dir": "\ud800"}, {"working_dir": "a\0b"}, {"working_dir": b"/"}, {b"working_dir": "/"}, {"env_vars": [("A", "1")]},
])
def test_a_wrong_environment(env):
    with pytest.raises((TypeError, ValueError), match="runtime_env"):
        serve.deployment(runtime_env=env)


@pytest.mark.parametrize("limits", [
    {"memory": math.inf}, {"memory": 1}, {"memory": 1 << 70}, {"num_cpus": math.nan}, {"num_cpus": math.inf}, {"num_cpus": -1},
    {"num_cpus": True}, {"open_files": 1}, {"open_files": 1 << 40}, {7: 1},
])
def test_wrong_limits_of_processes(limits):
    with pytest.raises((TypeError, ValueError), match="limits"):
        serve.deployment(limits=limits)


@pytest.mark.parametrize("router, message", [
    ({"policy": "custom"}, "request_router.policy: must be power_of_two_choices, round_robin or consistent_hash, is 'custom'"),
    ({"policy": 7}, "request_router.policy: must be text"), ({"virtual_nodes": 0}, "request_router.virtual_nodes: must be at least 1, is 0"),
    ({"fallbacks": 1}, "request_router: unknown key 'fallbacks'; there are policy, virtual_nodes, fallback_replicas"),
])
def test_a_wrong_request_router(router, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(f"deployment 'D': {message}")):
        D.options(request_router=router)
    D.options(request_router={"policy": "consistent_hash", "virtual_nodes": 10, "fallback_replicas": 0})


@pytest.mark.parametrize("name", [7, b"D", "", " ", "a\nb", "a\u00a0b", "é" * 65, "x" * 129, "\ud800", "a\0", True, Unshown()])
def test_a_wrong_name(name):
    for attempt in (lambda: serve.deployment(name=name), lambda: D.options(name=name), lambda: serve.run(D.bind(), name=name)):
        with pytest.raises((TypeError, ValueError, RayServeException), match="name"):
            attempt()


@pytest.mark.parametrize("what", [D, 7, "D", None])
def test_what_is_no_class_or_function(what):
    with pytest.raises(TypeError, match="classes and functions"):
        serve.deployment(name="D")(what)


@pytest.mark.parametrize("prefix", [7, b"/", "", "a", "/a/", "\ud800", True, "/\0", "/" + "x" * 20_000])
def test_a_wrong_route_prefix(prefix):
    with pytest.raises((TypeError, ValueError), match="route_prefix"):
        serve.run(D.bind(), route_prefix=prefix)


@pytest.mark.parametrize("http", [
    {"port": math.inf}, {"port": "8000"}, {"port": True}, {"port": -1}, {"port": 65536}, {"port": 10**6000}, {"port": 8000.0},
    {"host": 7}, {"host": b"x"}, {"host": "\ud800"}, {"host": "a\0"}, "x", 7, True, [("port", 1)],
])
def test_wrong_http_options(http):
    with pytest.raises((TypeError, ValueError), match="http_options: "):
        serve.start(http_options=http)


def test_http_options_that_were_changed_to_something_wrong():
    options = HTTPOptions()
    options.port = math.nan
    with pytest.raises(TypeError, match="http_options: port"):
        serve.start(http_options=options)


HANDLE = DeploymentHandle("D", "default")


@pytest.mark.parametrize("option", ["method_name", "multiplexed_model_id", "session_id"])
@pytest.mark.parametrize("wrong", [None, True, 7, b"x", math.inf, "\ud800", Unshown(), ["x"]], ids=lambda v: type(v).__name__)
def test_a_text_of_a_handle_that_is_no_text(option, wrong):
    with pytest.raises((TypeError, ValueError), match=option):
        HANDLE.options(**{option: wrong})


@pytest.mark.parametrize("option", ["multiplexed_model_id", "session_id"])
def test_an_id_of_a_handle_that_is_over_a_limit(option):
    for wrong in ("x\0", "x" * 17_000, "é" * 9_000):
        with pytest.raises(ValueError, match=option):
            HANDLE.options(**{option: wrong})
    assert HANDLE.options(**{option: "x" * 16_000})


@pytest.mark.parametrize("option", ["stream", "_by_reference", "_prefer_local_routing"])
@pytest.mark.parametrize("wrong", [None, 1, "yes", math.nan, Unshown()], ids=lambda v: type(v).__name__)
def test_a_switch_of_a_handle_is_true_or_false(option, wrong):
    with pytest.raises(TypeError, match=option):
        HANDLE.options(**{option: wrong})


@pytest.mark.parametrize("option", ["request_serialization", "response_serialization"])
@pytest.mark.parametrize("wrong", [None, 1, "xml", "x" * 10**6, "\ud800", Unshown()], ids=lambda v: type(v).__name__)
def test_a_codec_of_a_handle(option, wrong):
    with pytest.raises(ValueError, match=option) as e:
        HANDLE.options(**{option: wrong})
    assert len(str(e.value)) < 500


def test_text_of_a_class_of_its_own_is_taken_as_the_text():
    h = HANDLE.options(method_name=Odd("m"), session_id=Odd("s"), multiplexed_model_id=Odd("i"), request_serialization=Odd("RAW"))
    o = h._options
    assert [type(v) for v in (o.method, o.session, o.model)] == [str] * 3 and o.request_codec == encoding.RAW


@pytest.mark.parametrize("names", [(7, "a"), (b"d", "a"), ("d", None), ("d" * 200, "a"), ("\ud800", "a"), ("d", True)])
def test_names_of_a_handle(names):
    with pytest.raises((TypeError, ValueError), match="_name: "):
        DeploymentHandle(*names)


@pytest.mark.parametrize("timeout, limit", [(None, None), (math.inf, None), (1e300, None), (0, 0), (1.5, 1.5), (10**400, None)])
def test_a_time_to_wait(timeout, limit):
    assert _limits.wait("timeout_s", timeout) == limit


@pytest.mark.parametrize("timeout", [-1, math.nan, -math.inf, True, "1", b"", 1j, Unshown(), -(10**400)], ids=lambda v: type(v).__name__)
def test_a_wrong_time_to_wait(timeout):
    with pytest.raises((TypeError, ValueError), match="timeout_s: "):
        _limits.wait("timeout_s", timeout)


def test_a_handle_does_not_keep_every_name_that_it_was_asked_for():
    h = DeploymentHandle("D", "default")
    for i in range(1000):
        getattr(h, f"name{i}")
    assert len(vars(h)) < 100


# ---- the connection

class Line:
    """A connection, and the frames that its node would get."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.conn, self.transport = wire.Connection(self.loop, self), Transport()
        self.conn.connection_made(self.transport)

    def on_lost(self, error):
        pass

    def call(self, method="m", args=(), kwargs=None, options=None):
        call = wire.Call(self.conn, wire.new_request())
        self.conn.start(call, ("a", "d", method), None, options or HANDLE._options, args, kwargs or {})
        return call

    def came(self, kind, id, body=b"", meta=b"\0\0", flags=0):
        data = wire.HEADER.pack(len(body), len(meta), kind, flags, id) + meta + body
        self.conn.get_buffer(0)[: len(data)] = data
        self.conn.buffer_updated(len(data))

    def sent(self):
        self.turn()
        return self.transport.take()

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


@pytest.fixture
def line():
    line = Line()
    yield line
    assert not line.transport.closed
    line.conn.connection_lost(None)
    line.loop.close()


def test_as_many_calls_as_a_node_takes_are_under_way(line, monkeypatch):
    monkeypatch.setattr(wire, "MAX_CALLS", 10)
    calls = [line.call() for _ in range(10)]
    assert not any(c.done for c in calls)
    with pytest.raises(BackPressureError, match="10 calls are under way"):
        raise line.call().error
    calls[0].cancel()  # the call is under way until its end has come
    assert type(line.call().error) is BackPressureError
    line.came(wire.END, calls[0].id)
    assert not line.call().done
    assert type(line.call().error) is BackPressureError
    line.came(wire.END, calls[1].id)
    assert not line.call().done and calls[1].done


def test_calls_fail_while_a_node_does_not_read(line):
    line.conn.pause_writing()
    line.transport.waiting = 1 << 20
    assert not line.call().done
    line.transport.waiting = (1 << 30) + 1
    assert type(line.call().error) is BackPressureError
    line.conn.resume_writing()
    assert not line.call().done


def test_routes_that_nothing_has_use_up_no_numbers(line):
    numbers, told = set(), {}
    for i in range(3 * _limits.ROUTES):
        for name in (f"x{i}", "known"):
            line.call(name)
        for kind, _, id, meta, body in line.sent():
            if kind == wire.ROUTE:
                told[id] = json.loads(body)["method"]
                numbers.add(id)
            else:
                last = told[wire.CALL_META.unpack_from(meta)[0]]
        assert last == "known"
    assert max(numbers) <= _limits.ROUTES and len(line.conn.routes) <= _limits.ROUTES


def test_routes_are_bounded_in_bytes(line):
    kept: dict = {}
    for i in range(4000):
        line.call(f"{i:04}" + "\0" * 1000)  # six bytes each, as JSON
        for kind, _, id, _, body in line.sent():
            if kind == wire.ROUTE:
                kept[id] = len(body)
        assert sum(kept.values()) < 16 << 20


@pytest.mark.parametrize("name", ["x" * 1025, "é" * 600, "x" * (17 << 20)], ids=len)
def test_a_name_that_no_method_has(line, name):
    error = line.call(name).error
    assert type(error) is RayServeException and "has no method" in str(error) and len(str(error)) < 300
    assert encoding.parse_envelope(encoding.encode_error(error))["reason"] == "no_method"  # for the caller of the method that made the call
    assert line.sent() == [] and not line.conn.routes


class CallOptions:
    python, request_codec, response_codec, by_reference, plain = False, encoding.MSGPACK, encoding.MSGPACK, None, False

    def __init__(self, **options):
        self.model = self.session = ""
        for name, value in options.items():
            setattr(self, name, value)


@pytest.mark.parametrize("options, args, kwargs", [
    ({}, (1,) * 70_000, {}), ({}, (1,) * 9_000, {}), ({}, (), {"k" * 70_000: 1}), ({}, (), {"\ud800": 1}), ({}, (), {f"k{i}": 1 for i in range(9_000)}),
    ({"model": "m" * 70_000}, (), {}), ({"session": "\ud800"}, (), {}), ({"request_codec": 99}, (1,), {}),
])
def test_what_does_not_fit_into_a_call_is_its_error(line, options, args, kwargs):
    assert isinstance(line.call(args=args, kwargs=kwargs, options=CallOptions(**options)).error, (TypeError, ValueError))
    assert not line.conn.pending and line.conn.under_way == 0
    assert not line.call().done


def test_control_requests_over_the_limit_wait_for_the_others(line, monkeypatch):
    asked = [line.conn.control("release", lease=i) for i in range(_limits.MAX_CONTROLS + 10)]
    assert [f[0] for f in line.sent()] == [wire.CONTROL] * _limits.MAX_CONTROLS
    for n in range(1, 11):
        line.came(wire.REPLY, n, b"{}", b"")
        [(kind, _, id, _, _)] = line.sent()
        assert kind == wire.CONTROL and id == _limits.MAX_CONTROLS + n and asked[n - 1].done()
    for n in range(11, _limits.MAX_CONTROLS + 11):
        line.came(wire.REPLY, n, b"{}", b"")
    assert all(f.done() for f in asked) and not line.sent() and line.conn.control_bytes == 0


def test_control_requests_are_bounded_in_bytes(line, monkeypatch):
    monkeypatch.setattr(wire, "MAX_CONTROL_BYTES", 2000)
    line.conn.max_body = 1000
    asked = [line.conn.control("deploy", app="x" * 900) for _ in range(5)]
    for n in range(1, 6):
        sent = line.sent()
        assert len(sent) == (2 if n == 1 else 1 if n < 5 else 0)
        line.came(wire.REPLY, n, b"{}", b"")
    assert all(f.done() for f in asked)


def test_control_requests_that_wait_end_with_the_node(line):
    asked = [line.conn.control("status") for _ in range(_limits.MAX_CONTROLS + 10)]
    line.conn.connection_lost(None)
    assert all(f.exception() is not None for f in asked)


@pytest.mark.parametrize("value", [math.inf, math.nan, b"x", {1}, Unshown()], ids=lambda v: type(v).__name__)
def test_a_control_request_that_is_not_json(line, value):
    with pytest.raises((TypeError, ValueError)):
        line.conn.control("deploy", app=value)
    assert not line.sent() and not line.conn.controls


@pytest.mark.parametrize("config", ["1" * 5000, "[" * 90_000 + "]" * 90_000], ids=["digits", "depth"])
def test_a_request_that_this_interpreter_does_not_read_is_answered(line, config):
    line.conn.server.on_control = lambda id, request, raw: None
    line.came(wire.CONTROL, 1, f'{{"op":"reconfigure","user_config":{config}}}'.encode(), b"")
    for kind, _, id, _, body in line.sent():  # no frames where the node reads them
        assert (kind, id) == (wire.REPLY, 1) and json.loads(body)["error"]["reason"] == "bad_input"


def test_the_middle_of_a_long_error_is_left_out():
    class Long(Exception):
        pass

    e = encoding.parse_envelope(encoding.encode_error(Long("begin" + "x" * (5 << 20) + "end")))
    assert e["message"].startswith("begin") and e["message"].endswith("end") and len(e["message"]) < 300_000
    assert f"{(5 << 20) + 8} bytes" in e["message"] and len(e["traceback"]) < 300_000 and e["type"] == "Long"


# ---- with a node

@serve.deployment
class Target:
    def __init__(self):
        self.kept = 0

    async def echo(self, *args, **kwargs):
        return args, kwargs

    async def fails(self, n):
        raise ValueError("x" * n)

    async def items(self, n):
        yield b"x" * n

    async def names(self, n, inside):
        """Calls of n methods that there are not, all at once."""
        h = serve.get_deployment_handle(inside)
        calls = [h.options(method_name=f"x{i}").remote() for i in range(n)]
        return {str(e).partition("Available")[2] for e in await asyncio.gather(*map(_awaited, calls), return_exceptions=True)}

    async def chooses(self, n, inside):
        h = serve.get_deployment_handle(inside)
        for _ in range(n):
            async with h.echo.choose_replica():
                pass
        return n


async def _awaited(response):
    return await response


@pytest.fixture(scope="module")
def target():
    serve.start(http_options={"port": None})
    inner = Target.options(name="Inner", max_ongoing_requests=1000)
    handle = serve.run(Asks.bind(Target.bind(), inner.bind()), name="limits", route_prefix=None)
    assert handle is not None
    yield serve.get_deployment_handle("Target", "limits")
    serve.shutdown()


@serve.deployment
class Asks:
    def __init__(self, *targets):
        pass


def test_names_that_there_are_not_leave_replica_and_node_as_they_were(target):
    assert target.names.remote(10_000, "Inner").result(timeout_s=100) == {" methods: ['chooses', 'echo', 'fails', 'items', 'names']. The deployment is Inner."}
    inner = serve.get_deployment_handle("Inner", "limits")
    assert inner.echo.remote(1).result(timeout_s=20) == ((1,), {})
    for name in ("x" * (1 << 20), "a\0b", "é" * 600):
        with pytest.raises(RayServeException, match="call a method|has no method"):
            inner.options(method_name=name).remote().result(timeout_s=20)
        with pytest.raises(RayServeException, match="call a method|has no method"):
            inner.broadcast(name).results(timeout_s=20)


def test_selections_that_are_given_back_one_after_another(target):
    assert target.chooses.remote(200, "Inner").result(timeout_s=60) == 200


def test_an_error_that_is_too_long_arrives_without_its_middle(target):
    with pytest.raises(Exception, match="bytes, of which the middle is left out") as e:
        target.fails.remote(20 << 20).result(timeout_s=60)
    assert len(str(e.value)) < 300_000


def test_a_user_config_that_is_too_large_is_an_error_of_the_run(target):
    with pytest.raises(TooLargeError, match="application 'large'"):
        serve.run(D.options(user_config="x" * (257 << 20)).bind(), name="large", route_prefix=None)
    assert target.echo.remote(1).result(timeout_s=20) == ((1,), {})


TEXTS = ["", "x", "m:1", "é", "\ud800", "x\0", "x" * 300, "x" * 17_000, "\x1f", "a/b", "y" * 70_000, 7, None, b"x"]
VALUES = [None, 0, -1, 2**70, math.inf, math.nan, "x", "\ud800", b"x" * 200_000, [1], {"k": [None]}, {1: 2}, Unshown, object(), "z" * 300_000]


@pytest.mark.parametrize("seed", range(6))
def test_nothing_that_is_passed_in_ends_the_connection(target, seed):
    """Random calls through random options, kept by their seed: the node and the replica go on after each."""
    rng = random.Random(seed)
    inner = serve.get_deployment_handle("Inner", "limits")
    mine = inner.echo.remote().result(timeout_s=20)
    pending = []
    for _ in range(300):
        names = rng.sample(["method_name", "multiplexed_model_id", "session_id", "request_serialization", "response_serialization", "stream", "_by_reference"], rng.randint(0, 3))
        options = {}
        for name in names:
            options[name] = rng.choice(
                ["cloudpickle", "pickle", "msgpack", "orjson", "raw", "xml"] if name.endswith("serialization")
                else [True, False, None] if name in ("stream", "_by_reference") else TEXTS
            )
        args = [rng.choice(VALUES) for _ in range(rng.choice([0, 1, 2, 200]))]
        kwargs = {str(rng.choice(TEXTS)): rng.choice(VALUES) for _ in range(rng.randint(0, 2))}
        try:
            h = inner.options(**{"method_name": "echo", **options})
            if rng.random() < 0.1:
                h.broadcast(rng.choice(["echo", "items", *TEXTS]), *args, **kwargs)
            elif rng.random() < 0.1:
                with h.choose_replica() as selection:
                    pending.append(h.dispatch(selection, *args, **kwargs))
            else:
                pending.append(h.remote(*args, **kwargs))
        except Exception as e:
            assert "node" not in str(e), e
    for r in pending:
        try:
            list(r) if isinstance(r, serve.handle.DeploymentResponseGenerator) else r.result(timeout_s=60)
        except Exception as e:
            assert "gone away" not in str(e) and "process ended" not in str(e), e
    assert inner.echo.remote().result(timeout_s=20) == mine
