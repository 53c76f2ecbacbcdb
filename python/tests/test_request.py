"""Plain deployments over HTTP, against a node of the tests: the request, and all kinds of answers."""

import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import uuid

import fastapi
import pydantic
import pytest
from fake_node import Node, head
from starlette.background import BackgroundTask
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from helve import _http as http
from helve import _request
from helve.serve.deployment import methods_of


@pytest.fixture
def node():
    made = []

    def make(target, *args, **kwargs):
        made.append(Node(target, *args, **kwargs))
        return made[-1]

    yield make
    for n in made:
        n.stop()


# ---- the request


@pytest.mark.parametrize("scope_first", [False, True])
def test_method_and_query_need_no_scope(node, scope_first):
    seen = {}

    class A:
        async def __call__(self, request: Request):
            if scope_first:
                request.scope["query_string"] = b"x=changed"
            seen.update(method=request.method, x=request.query_params.getlist("x"), same=request.query_params is request.query_params)
            seen["lazy"] = "scope" not in vars(request)
            seen["scope"] = request.scope["method"], request["query_string"]

    assert node(A).request("PUT", "/a", query="x=1&x=%20").error is None
    query = b"x=changed" if scope_first else b"x=1&x=%20"
    assert seen == {
        "method": "PUT", "x": ["changed"] if scope_first else ["1", " "], "same": True, "lazy": not scope_first, "scope": ("PUT", query),
    }


def test_the_request_is_starlettes(node):
    seen = {}

    class A:
        async def __call__(self, any_name):
            r = any_name
            seen.update(is_request=isinstance(r, Request), method=r.method, url=str(r.url), query=dict(r.query_params), header=r.headers["x-a"])
            r.state.a = 1
            seen.update(body=await r.body(), json=await r.json(), again=await r.body(), client=r.client.host, state=r.state.a, gone=await r.is_disconnected())
            return "ok"

    a = node(A).request("PATCH", "/api/a", b"[1]", query="x=1", root="/api", headers=[("x-a", "b")])
    assert (a.status, a.text, a.error) == (200, "ok", None)
    assert seen == {
        "is_request": True, "method": "PATCH", "url": "http://localhost/api/a?x=1", "query": {"x": "1"}, "header": "b", "body": b"[1]", "json": [1],
        "again": b"[1]", "client": "127.0.0.1", "state": 1, "gone": False,
    }


class Star:
    def __call__(self, *args):
        return len(args)


class Nothing:
    def __call__(self):
        return "none"


class Default:
    async def __call__(self, request=None):
        return request.method


class Untyped:
    @staticmethod
    def __call__(request):
        return request.method


async def function(request: Request):
    return request.method


def without(): return "without"


@pytest.mark.parametrize("target, text", [(Star, "1"), (Nothing, "none"), (Default, "GET"), (Untyped, "GET"), (function, "GET"), (without, "without")])
def test_shapes_of_call(node, target, text):
    a = node(target).request()
    assert (a.status, a.text, a.error) == (200, text, None)
    assert methods_of(target)[-1]["http"] == "request"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PURGE"])
def test_every_method(node, method):
    a = node(function).request(method)
    assert (a.status, a.text) == (200, "" if method == "HEAD" else method)


def test_a_stream_of_the_body(node):
    async def parts(request):
        return [len(part) async for part in request.stream()]

    n = node(parts)
    id = n.call(head("POST"), b"ab", more=True)
    n.turn()
    n.upload(id, (http.BODY, b"cde"))
    n.turn()
    n.upload(id, (http.BODY, b"f"), (http.LAST, b""))
    assert json.loads(n.ended(id).text) == [2, 3, 1, 0]


def test_starlette_is_imported_when_a_request_needs_it():
    program = """
import sys
sys.path.insert(0, {tests!r})
from fake_node import Node
import helve.serve
def method(request): return request.method
def query(request):
    from starlette.requests import Request
    return [isinstance(request, Request), request.query_params["x"], len(request["headers"])]
assert Node(method).request("PUT").text == "PUT"
assert not [m for m in sys.modules if m.partition(".")[0] in ("starlette", "anyio", "fastapi")], "imported too early"
print(Node(query).request(query="x=1").text)
print(Node(query).request(query="x=2").text)
""".format(tests=os.path.dirname(__file__))
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert out.stdout.split() == ['[true,"1",1]', '[true,"2",1]'], out.stderr


# ---- answers


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date


class Model(pydantic.BaseModel):
    a: int
    when: datetime.datetime


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    pass


@pytest.mark.parametrize("value, kind, text", [
    (None, "text/plain", ""),
    ("é", "text/plain; charset=utf-8", "é"),
    (Text("t"), "text/plain; charset=utf-8", "t"),
    (b"\x01", "application/octet-stream", "\x01"),
    (bytearray(b"a"), "application/octet-stream", "a"),
    (1, "application/json", "1"),
    (True, "application/json", "true"),
    ({"a": ["é", None, 1.5]}, "application/json", '{"a":["é",null,1.5]}'),
    ((1, 2), "application/json", "[1,2]"),
    ({1}, "application/json", "[1]"),
    (Point(1, datetime.date(2026, 1, 2)), "application/json", '{"x":1,"when":"2026-01-02"}'),
    ([Model(a=1, when=datetime.datetime(2026, 1, 2))], "application/json", '[{"a":1,"when":"2026-01-02T00:00:00"}]'),
    ({"c": Colour.RED, "u": uuid.UUID(int=1), "p": pathlib.Path("/a"), "d": decimal.Decimal("1.5"), "q": collections.deque([1])}, "application/json",
     '{"c":"red","u":"00000000-0000-0000-0000-000000000001","p":"/a","d":1.5,"q":[1]}'),
])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_values(node, value, kind, text, asynchronous):
    async def later(request):
        return value

    a = node(later if asynchronous else lambda request: value).request()
    assert (a.status, dict(a.headers)["content-type"], a.text, a.error) == (200, kind, text, None)
    assert a.writes == 1


def test_server_sent_events(node):
    from helve import Event

    def items(request):
        yield "a\nb"
        yield {"x": 1}
        yield b"\0"
        yield Event({"b": [1]}, event="token", id="5", retry=1.5)
        if request.query_params:
            raise ValueError("private")

    n = node(items)
    accept = [("accept", "text/html, text/event-stream;q=0.5")]
    text = 'data: a\ndata: b\n\ndata: {"x":1}\n\ndata: AA==\n\nid: 5\nevent: token\nretry: 1500\ndata: {"b":[1]}\n\n'
    a = n.request(headers=accept)
    assert (a.text, dict(a.headers)["content-type"]) == (text + "event: end\ndata:\n\n", "text/event-stream; charset=utf-8")
    a = n.request(headers=accept, query="x=1")
    assert a.text.startswith(text + 'event: error\ndata: {"code":"Unknown","reason":"user","message":"the request failed') and "private" not in a.text
    assert json.loads(a.text.rpartition("data: ")[2])["request_id"] and a.error["message"] == "private"
    assert node(nothing_for).request(headers=accept).text == "event: end\ndata:\n\n"
    assert n.request().text.endswith('{"id":"5","event":"token","retry":1500,"data":{"b":[1]}}\n')


@pytest.mark.parametrize("fails", [False, True])
def test_heartbeats_of_events(node, monkeypatch, fails):
    from helve import _heartbeat

    monkeypatch.setattr(_heartbeat, "PERIOD", 0.01)
    beats = []

    class Counted(_heartbeat.Heartbeat):
        def __init__(self, begin, send):
            async def counted(data):
                await send(data)
                beats.append(data)

            super().__init__(begin, counted)

    monkeypatch.setattr(_request, "Heartbeat", Counted)

    async def items(request):
        while len(beats) < 2:
            await asyncio.sleep(0)
        if fails:
            raise ValueError("private")
        yield "a"

    a = node(items).request(headers=[("accept", "text/event-stream")])
    assert (a.status, dict(a.headers)["content-type"]) == (200, "text/event-stream; charset=utf-8")
    last = 'event: error\ndata: {"code":"Unknown"' if fails else "data: a\n\nevent: end\ndata:\n\n"
    assert a.text.startswith(":\n\n:\n\n") and re.sub(r"(?m)^:\n\n", "", a.text).startswith(last), a.text


def nothing_for(request):
    return nothing()


class Other:
    def __call__(self, request):
        return "call"

    def show(self, request):
        return "show " + request.method

    async def get_later(self):
        return "later"


@pytest.mark.parametrize("method, text", [("", "call"), ("__call__", "call"), ("show", "show GET"), ("GetLater", "later")])
def test_another_method_as_ingress(node, method, text):
    n = node(Other)
    n.worker.on_route(1, {"replica": "r", "method": method})
    assert n.request().text == n.request().text == text
    n.worker.on_route(1, {"replica": "r", "method": "none"})
    assert n.request().error["reason"] == "no_method"


@pytest.mark.parametrize("value, text", [(object(), "no value for JSON"), (float("nan"), "JSON"), ({(1, 2): 1}, "keys must be")])
def test_values_that_are_none(node, value, text):
    a = node(lambda request: value).request()
    assert a.parts == [] and a.error["reason"] == "user" and text in a.error["message"]


def test_a_large_value(node):
    n = node(lambda request: b"x" * (300 << 10))
    a = n.ended(n.call(head(), window=(256, 1 << 20)))
    assert len(a.body) == 300 << 10 and a.error is None


@pytest.mark.parametrize("value, status, headers, text", [
    (lambda: PlainTextResponse("a", 201, {"x-a": "1"}), 201, ("x-a", "1"), "a"),
    (lambda: JSONResponse({"a": 1}), 200, ("content-type", "application/json"), '{"a":1}'),
    (lambda: Response(status_code=204), 204, None, ""),
    (lambda: StreamingResponse(iter(["a", "b"]), media_type="text/event-stream"), 200, ("content-type", "text/event-stream; charset=utf-8"), "ab"),
    (lambda: FileResponse(__file__, media_type="text/x"), 200, ("content-type", "text/x; charset=utf-8"), pathlib.Path(__file__).read_text()),
])
def test_responses_of_starlette(node, value, status, headers, text):
    async def later(request):
        return value()

    for target in (later, lambda request: value()):
        a = node(target).request()
        assert (a.status, a.text, a.error) == (status, text, None)
        assert headers is None or headers in a.headers


def test_cookies_and_background_tasks(node):
    done = []

    def call(request):
        response = PlainTextResponse("a", background=BackgroundTask(done.append, 1))
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    n = node(call)
    a = n.request()
    n.until(lambda: done)
    assert [v.partition(";")[0] for k, v in a.headers if k == "set-cookie"] == ["a=1", "b=2"]


def numbers():
    yield 1
    yield {"a": "b"}


def texts():
    yield "a"
    yield b"b"
    yield 3


async def later_texts():
    yield "a"
    await asyncio.sleep(0)
    yield "b"


def nothing():
    return
    yield


@pytest.mark.parametrize("items, kind, text", [
    (numbers, "application/x-ndjson", '1\n{"a":"b"}\n'), (texts, "text/plain; charset=utf-8", "ab3\n"), (later_texts, "text/plain; charset=utf-8", "ab"),
    (nothing, "text/plain", ""),
])
@pytest.mark.parametrize("pool", [False, True])
def test_generators(node, items, kind, text, pool):
    async def returns(request):
        return items()

    def generator(request):
        yield from items()

    for target in [returns] + [generator] * (items is not later_texts):
        a = node(target, pool=pool).request()
        assert (a.status, dict(a.headers)["content-type"], a.text, a.error) == (200, kind, text, None)


def test_items_are_sent_as_they_come(node):
    go = asyncio.Event()

    async def items(request):
        yield "a"
        await go.wait()
        yield "b"

    n = node(items)
    id = n.call(head())
    n.until(lambda: n.answers[id].body == b"a")
    go.set()
    assert n.ended(id).body == b"ab"


def test_a_generator_is_closed_when_the_client_leaves(node):
    closed = []

    async def items(request):
        try:
            while True:
                yield "x" * 1000
                await asyncio.sleep(0)
        finally:
            closed.append(1)

    n = node(items)
    id = n.call(head())
    n.until(lambda: n.answers[id].body)
    n.cancel(id)
    assert n.ended(id).error["reason"] == "cancelled" and closed == [1]


def test_a_generator_that_fails(node):
    def items(request):
        yield "a"
        raise ValueError("broken")

    def at_once(request):
        raise ValueError("broken")
        yield

    a = node(items).request()
    assert a.body == b"a" and a.error["message"] == "broken"
    a = node(at_once).request()
    assert a.parts == [] and a.error["message"] == "broken"


# ---- errors


def test_an_exception_is_the_calls_error(node):
    async def later(request):
        raise ValueError("bad")

    def now(request):
        raise ValueError("bad")

    for target in (later, now):
        a = node(target).request()
        assert a.parts == [] and (a.error["reason"], a.error["type"], a.error["message"]) == ("user", "ValueError", "bad")


def test_an_http_exception_keeps_its_status(node):

    async def starlette(request):
        raise HTTPException(418, "teapot", {"x-a": "1"})

    def fast(request):
        raise fastapi.HTTPException(404, {"no": "cup"})

    a = node(starlette).request()
    assert (a.status, a.text, a.error) == (418, "teapot", None) and ("x-a", "1") in a.headers
    a = node(fast).request()
    assert (a.status, json.loads(a.text)) == (404, {"detail": {"no": "cup"}})


def test_a_client_that_leaves_cancels_the_method(node):
    seen = []

    class A:
        async def __call__(self, request):
            try:
                await asyncio.sleep(60)
            finally:
                seen.append(await request.is_disconnected())

    n = node(A)
    id = n.call(head())
    n.cancel(id)
    assert n.ended(id).error["reason"] == "cancelled" and seen == [True]


# ---- middlewares


class Stamp:
    def __init__(self, app, name):
        self.app, self.name = app, name

    async def __call__(self, scope, receive, send):
        async def stamped(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-stamp", self.name)]}
            await send(message)

        await self.app(scope, receive, stamped)


@pytest.mark.parametrize("value, text", [("a", "a"), ({"a": 1}, '{"a":1}'), (lambda: PlainTextResponse("r"), "r"), (numbers, '1\n{"a":"b"}\n')])
def test_middlewares_around_a_plain_deployment(node, value, text):
    def call(request):
        return value() if callable(value) else value

    a = node(call, middlewares=[Middleware(Stamp, name=b"outer"), Middleware(Stamp, name=b"inner")]).request()
    assert (a.status, a.text, a.error) == (200, text, None)
    assert [v for k, v in a.headers if k == "x-stamp"] == ["inner", "outer"]


def test_a_refusal_below_middlewares(node):
    def call(request):
        raise fastapi.HTTPException(404, {"no": "cup"}, {"x-a": "1"})

    a, b = node(call, middlewares=[Middleware(Stamp, name=b"outer")]).request(), node(call).request()
    assert (a.status, a.text, a.error) == (b.status, b.text, None) == (404, '{"detail":{"no":"cup"}}', None)
    assert sorted(k for k, _ in a.headers) == ["content-type", "x-a", "x-stamp"]


def test_a_request_in_a_thread(node):
    def call(request):
        import threading

        assert threading.current_thread().name == "helve-sync"
        return request.query_params["x"]

    assert node(call, pool=True).request(query="x=1").text == "1"


def test_a_query_is_read_as_starlette_reads_it():
    _request.request_class(True)
    pieces = ["a=1", "a=2", "b", "=c", "", "b=1=2", "x=%20", "y=a+b", "\xe9=\xff", "c;d=1", "?", "#=", "%zz", " =\t"]
    for first, second, third in itertools.product(pieces, repeat=3):
        raw = f"{first}&{second}&{third}".encode("latin-1")
        ours, theirs = _request._state["query"](raw), QueryParams(raw)
        assert type(ours) is QueryParams and ours.multi_items() == theirs.multi_items() and dict(ours) == dict(theirs)


def test_the_names_of_this_module_are_there():
    assert set(_request.__all__) <= set(vars(_request))
