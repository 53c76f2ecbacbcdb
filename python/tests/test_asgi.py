"""Exchanges of ASGI applications and plain deployments, against a node of the tests: what the application may do, and what reaches the wire."""

import asyncio
import random

import pytest
from fake_node import BODY_KINDS, Node, head, pairs, raw
from starlette.requests import ClientDisconnect

from helve import _http as http
from helve import _wire as wire
from helve import serve
from helve.serve.exceptions import BackPressureError, DeploymentUnavailableError


def answering(*messages):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            for message in messages:
                await send(message)

    return raw(app)


START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
DONE = {"type": "http.response.body", "body": b"done"}


# ---- heads


def test_scope_of_a_request(node):
    seen = {}

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        seen.update(scope, message=await receive())
        await send(START)
        await send(DONE)

    n = node(raw(app))
    a = n.request("POST", "/api/a%20b/%E2%82%AC", b"body", query="x=1&y=%20", root="/api", headers=[("x-a", "1"), ("x-a", "2"), ("content-length", "4")])
    assert (a.status, a.body, a.error) == (200, b"done", None)
    assert seen["type"] == "http" and seen["asgi"]["version"] == "3.0"
    assert (seen["method"], seen["path"], seen["raw_path"]) == ("POST", "/api/a b/€", b"/api/a%20b/%E2%82%AC")
    assert (seen["root_path"], seen["query_string"], seen["http_version"], seen["scheme"]) == ("/api", b"x=1&y=%20", "1.1", "http")
    assert seen["headers"] == [(b"host", b"localhost"), (b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"4")]
    assert (seen["client"], seen["server"]) == (("127.0.0.1", 5000), ("127.0.0.1", 8000))
    assert seen["message"] == {"type": "http.request", "body": b"body", "more_body": False}


@pytest.mark.parametrize("raw_path, root, path, whole", [
    (b"/a", "", "/a", b"/a"),
    (b"/api", "/api", "/api", b"/api"),
    (b"/api/a", "/x/api", "/x/api/a", b"/x/api/a"),
    (b"/a", "/x", "/x/a", b"/x/a"),
    (b"/x/a", "/x", "/x/a", b"/x/a"),
    (b"/xy", "/x", "/x/xy", b"/x/xy"),
    (b"/%00", "", "/\0", b"/%00"),
    (b"/a%2Fb", "", "/a/b", b"/a%2Fb"),
])
def test_paths(raw_path, root, path, whole):
    assert http.whole_path(raw_path, root) == (path, whole)


@pytest.mark.parametrize("data", [b"", b"GET", b"\0" * 8, b"\0" * 10, b"\0".join([b"x"] * 11)])
def test_malformed_heads_fail_their_call(node, data):
    n = node(answering(START, DONE))
    a = n.ended(n.call(data))
    assert a.error["reason"] == "bad_input" and "malformed" in a.error["message"]
    assert n.request().status == 200


def test_random_heads_never_end_the_connection(node):
    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            await send(START)
            await send(DONE)

    n, rng = node(raw(app)), random.Random(7)
    for _ in range(300):
        data = bytearray(head("GET", "/a", headers=[("a", "b")]))
        for _ in range(rng.randrange(6)):
            data[rng.randrange(len(data))] = rng.choice([0, 37, 255, rng.randrange(256)])
        n.ended(n.call(bytes(data[: rng.randrange(len(data) + 1)])))
    assert n.request().status == 200 and not n.closed


def test_random_bytes_are_refused_or_taken_as_parts(node):
    rng = random.Random(11)
    for _ in range(100):
        n = Node(raw(reads_all))
        id = n.call(head("POST"), more=True)
        data = rng.randbytes(rng.randrange(60)) if rng.random() < 0.5 else b"".join(
            http.PART.pack(rng.randrange(8), rng.choice(BODY_KINDS)) + rng.randbytes(rng.randrange(9)) for _ in range(3)
        )
        n.feed(wire.HEADER.pack(len(data), 0, wire.UPLOAD, 0, id) + data)
        n.turn(2)
        n.cancel(id)
        if not n.closed:
            n.ended(id)
        n.stop()


async def reads_all(scope, receive, send):
    if scope["type"] == "http":
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        await send(START)
        await send({"type": "http.response.body", "body": body})


# ---- answers


def test_a_small_answer_is_one_write(node):
    a = node(answering(START, DONE)).request()
    assert a.writes == 1 and a.kinds() == [http.HEAD, http.BODY]
    assert a.headers == [("content-type", "text/plain")]


def test_an_answer_in_chunks(node):
    a = node(answering(START, {"type": "http.response.body", "body": b"a", "more_body": True}, DONE)).request()
    assert (a.status, a.body, a.error) == (200, b"adone", None)


def test_a_large_answer_waits_for_credit(node):
    n = node(answering(START, {"type": "http.response.body", "body": b"x" * (3 << 20)}))
    id = n.call(head())
    n.turn(5)
    a = n.answers[id]
    assert not a.ended and len(a.body) <= (1 << 20) + http.MOST
    while not a.ended:
        n.credit(id, 256, 1 << 20)
        n.turn(3)
    assert len(a.body) == 3 << 20 and a.error is None and max(len(d) for _, d in a.parts) <= http.MOST


def test_a_body_whose_send_was_cancelled_is_never_complete(node):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(START)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(send({"type": "http.response.body", "body": b"x" * (3 << 20), "more_body": True}), 0.01)
            await send(DONE)

    n = node(raw(app))
    id = n.call(head())
    n.until(lambda: n.answers[id].ended)
    assert "a part of the body is missing" in n.answers[id].error["message"]


def test_head_requests_have_no_body(node):
    a = node(answering({**START, "headers": [(b"content-length", b"4")]}, DONE)).request("HEAD")
    assert a.kinds() == [http.HEAD] and a.headers == [("content-length", "4")] and a.error is None


@pytest.mark.parametrize("status", [204, 304])
def test_empty_answers(node, status):
    a = node(answering({**START, "status": status}, DONE)).request()
    assert (a.status, a.kinds(), a.error) == (status, [http.HEAD], None)


@pytest.mark.parametrize("status", [200, 418, 599, 999])
def test_statuses(node, status):
    assert node(answering({**START, "status": status}, DONE)).request().status == status


def test_trailers_and_early_hints(node):
    a = node(answering(
        {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}, {**START, "trailers": True}, DONE,
        {"type": "http.response.trailers", "headers": [(b"X-Sum", b"1")], "more_trailers": True}, {"type": "http.response.trailers", "headers": [(b"x-end", b"2")]},
    )).request()
    assert a.kinds() == [http.INFORM, http.HEAD, http.BODY, http.TRAILERS, http.TRAILERS]
    assert pairs(a.parts[0][1][2:]) == [("link", "</a.css>; rel=preload")] and pairs(a.parts[3][1]) == [("x-sum", "1")]
    assert a.error is None


def test_a_head_without_a_body_is_sent_soon(node):
    go = asyncio.Event()

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(START)
            await go.wait()
            await send(DONE)

    n = node(raw(app))
    id = n.call(head())
    n.until(lambda: n.answers[id].parts)
    assert n.answers[id].kinds() == [http.HEAD]
    go.set()
    assert n.ended(id).body == b"done"


# ---- breaks of the protocol


@pytest.mark.parametrize("messages, text", [
    ([], "without an answer"),
    ([START], "before the end of its answer"),
    ([DONE], "before http.response.start"),
    ([START, START], "twice"),
    ([{**START, "status": "200"}], "status must be an integer"),
    ([{**START, "status": 101}], "from 200 to 999"),
    ([{**START, "status": 1000}], "from 200 to 999"),
    ([{**START, "headers": [("a", "b")]}], "pairs of bytes"),
    ([{**START, "headers": [(b"a",)]}], "pairs of bytes"),
    ([{**START, "headers": [(b"a", None)]}], "pairs of bytes"),
    ([{**START, "headers": 1}], "pairs of bytes"),
    ([{**START, "headers": [(b"a", b"x\0y")]}], "NUL or a line break"),
    ([{**START, "headers": [(b"a", b"x\r\ny: z")]}], "NUL or a line break"),
    ([{**START, "headers": [(b"a b", b"x")]}], "no name of a header"),
    ([{**START, "headers": [(b"", b"x")]}], "no name of a header"),
    ([{**START, "headers": [(b"a\r\nb", b"x")]}], "no name of a header"),
    ([{**START, "headers": [(b"a", b"x" * (1 << 20))]}], "bytes of headers"),
    ([{**START, "headers": [(b"content-length", b"x")]}], "content-length must be a number"),
    ([{**START, "headers": [(b"content-length", b"2")]}, DONE], "longer than content-length"),
    ([{**START, "headers": [(b"content-length", b"9")]}, DONE], "shorter than content-length"),
    ([START, {"type": "http.response.body", "body": "text"}], "body must be bytes"),
    ([{"type": "websocket.accept"}], "no message that an http application sends"),
    ([{"type": "http.response.trailers"}], "without an announcement"),
    ([START, {"type": "http.response.early_hint"}], "after http.response.start"),
])
def test_breaks_of_the_protocol_before_the_head_is_sent(node, messages, text):
    n = node(answering(*messages))
    a = n.request()
    assert a.parts == [] and a.error["reason"] == "user"
    assert a.error["type"] == "RuntimeError" and text in a.error["message"]
    assert n.request().error["message"] == a.error["message"]  # the replica goes on


def test_a_body_after_the_end(node, caplog):
    a = node(answering(START, DONE, DONE)).request()
    assert (a.status, a.body, a.error) == (200, b"done", None)
    assert "after the end of the body" in caplog.text


def test_an_exception_before_the_head(node):
    async def app(scope, receive, send):
        raise ValueError("no head")

    a = node(raw(app)).request()
    assert a.parts == [] and (a.error["type"], a.error["message"]) == ("ValueError", "no head") and "no head" in a.error["traceback"]


def test_an_exception_after_the_head(node):
    async def app(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise ValueError("in the middle")

    a = node(raw(app)).request()
    assert a.kinds() == [http.HEAD, http.BODY] and a.error["message"] == "in the middle"


def test_an_exception_after_the_answer_is_logged(node, caplog):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(START)
            await send(DONE)
            raise ValueError("too late")

    a = node(raw(app)).request()
    assert (a.status, a.error) == (200, None) and "too late" in caplog.text


@pytest.mark.parametrize("error, reason", [(BackPressureError("full"), "backpressure"), (DeploymentUnavailableError("gone"), "deployment_unavailable")])
@pytest.mark.parametrize("plain", [False, True])
def test_errors_with_a_status_of_their_own(node, error, reason, plain):
    async def app(scope, receive, send):
        raise error

    async def call(request):
        raise error

    assert node(call if plain else raw(app)).request().error["reason"] == reason


# ---- the body of a request


def test_a_body_that_comes_in_parts(node):
    n = node(raw(reads_all))
    id = n.call(head("POST"), b"first ", more=True)
    n.turn()
    a = n.answers[id]
    assert a.allowed == list(http.ROOM)
    n.upload(id, (http.BODY, b"second "))
    n.upload(id, (http.BODY, b"third"), (http.TRAILERS, b"a\0b"), (http.LAST, b""))
    assert n.ended(id).body == b"first second third"


def test_a_body_that_is_not_read_gets_no_credit(node):
    n = node(answering(START, DONE))
    id = n.call(head("POST"), b"first", more=True)
    a = n.ended(id)
    assert a.body == b"done" and a.allowed == [0, 0]
    n.upload(id, (http.BODY, b"late"))  # crosses the end
    assert not n.closed


def test_credit_comes_in_halves_of_the_window(node):
    n = node(raw(reads_all))
    id = n.call(head("POST"), more=True)
    n.turn()
    a = n.answers[id]
    for _ in range(40):
        n.upload(id, (http.BODY, b"x" * http.MOST))
        n.turn(2)
        assert a.allowed[1] - sum([http.ROOM[1]]) <= 40 * http.MOST
    n.upload(id, (http.LAST, b""))
    while not a.ended:
        n.credit(id, 256, 1 << 20)
        n.turn(2)
    assert len(a.body) == 40 * http.MOST and a.allowed[1] > 40 * http.MOST


@pytest.mark.parametrize("more, parts", [(False, [(http.BODY, b"x")]), (True, [(http.BODY, b"x")] * 300), (True, [(http.LAST, b""), (http.BODY, b"x")])])
def test_parts_without_credit_end_the_connection(node, more, parts):
    go = asyncio.Event()

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await receive()
            await go.wait()

    n = node(raw(app))
    id = n.call(head("POST"), b"a" if not more else b"", more=more)
    n.turn()
    n.upload(id, *parts)
    assert n.closed


def test_a_body_that_breaks_off(node):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            seen.append((await receive())["type"])
            raise OSError("the body is not complete")

    n = node(raw(app))
    id = n.call(head("POST"), more=True)
    n.turn()
    n.upload(id, (http.BROKEN, (413).to_bytes(2, "little") + b"too large"))
    a = n.ended(id)
    assert seen == ["http.disconnect"] and (a.status, a.text, a.error) == (413, "too large", None)


# ---- the client leaves


def test_a_client_that_leaves(node):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await receive()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append((await receive())["type"])
                with pytest.raises(OSError):
                    await send(START)
                    await send({**DONE, "more_body": True})
                raise

    n = node(raw(app))
    id = n.call(head())
    n.turn()
    n.cancel(id)
    assert n.ended(id).error["reason"] == "cancelled" and seen == ["http.disconnect"]


def test_a_stream_whose_client_has_left_logs_nothing(node, caplog):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await receive()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ClientDisconnect() from None

    n = node(raw(app))
    id = n.call(head())
    n.turn()
    n.cancel(id)
    assert n.ended(id).error["reason"] == "cancelled" and caplog.text == ""


def test_receive_waits_for_the_end_and_then_says_disconnect(node):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await receive()
            watch = asyncio.create_task(receive())
            await asyncio.sleep(0)
            seen.append(watch.done())
            await send(START)
            await send(DONE)
            seen.append((await watch)["type"])

    n = node(raw(app))
    assert n.request().body == b"done"
    n.turn(3)
    assert seen == [False, "http.disconnect"]


def test_background_work_outlives_the_call_and_is_awaited_at_the_stop(node):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(START)
            await send(DONE)
            try:
                await asyncio.sleep(0.02)
                seen.append("worked")
            except asyncio.CancelledError:
                seen.append("cancelled")

    n = node(raw(app))
    id = n.call(head())
    assert n.answers[id].ended and not n.worker.running and not n.worker.flows
    n.cancel(id)
    n.run(n.worker.stop_replica(5))
    assert seen == ["worked"]


def test_exceptions_are_logged_once_in_one_form(node, caplog):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            raise ValueError("socket text")
        if scope["path"] != "/plain":
            await send({**START, "status": 500 if scope["path"] == "/starlette" else 200})
            await send({**DONE, "more_body": scope["path"] == "/stream"})
        raise ValueError("text")

    n = node(raw(app))
    for path, method, want in (
        ("/plain", "GET", "GET /plain 500: the request failed, id "),
        ("/starlette", "POST", "POST /starlette 500: the request failed, id "),  # its ServerErrorMiddleware raises again after its answer
        ("/late", "GET", "GET /late 200: the request was answered, and failed after that, id "),
        ("/stream", "GET", "GET /stream 200: the request was cut off in the middle of its answer, id "),
        ("/ws", "WS", "WebSocket /ws 101: the request was cut off in the middle of its answer, id "),
    ):
        caplog.clear()
        n.ended(n.socket(path) if method == "WS" else n.call(head(method, path)))
        n.turn(3)
        assert len(caplog.records) == 1, path
        message = f"{caplog.records[0].getMessage()}\n{caplog.records[0].exc_text}"
        assert message.startswith(want), message
        assert message.count("Traceback") == 1 and message.endswith("ValueError: " + ("socket text" if method == "WS" else "text"))


def test_an_application_without_lifespan_may_raise_in_its_call(node):
    class App:
        def __call__(self, scope, receive, send):
            assert scope["type"] == "http"
            return self.run(send)

        async def run(self, send):
            await send(START)
            await send(DONE)

    assert node(raw(App())).request().body == b"done"


def test_an_application_that_looks_for_its_client_ends_by_itself(node, monkeypatch):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        path = scope["path"]
        await receive()
        try:
            while path != "/blind":
                watch = asyncio.create_task(receive())
                done, _ = await asyncio.wait([watch], timeout=0.001)
                watch.cancel()
                if done:
                    seen.append((path, watch.result()["type"]))
                    if path == "/poll":
                        return
                    break
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append((path, "cancelled"))
            raise

    n = node(raw(app))
    for path, want in (
        ("/poll", ["http.disconnect"]),
        ("/stays", ["http.disconnect", "cancelled"]),  # it has looked, and waits for another thing
        ("/blind", ["cancelled"]),
    ):
        id = n.call(head(path=path))
        n.turn(3)
        flow = n.worker.flows[id]
        if path != "/blind":
            n.until(lambda: flow.watched)
        monkeypatch.setattr("helve._worker.LOOK", 60 if path != "/stays" else 0.01)
        n.cancel(id)
        n.cancel(id)
        assert n.ended(id).error["reason"] == "cancelled"
        assert [what for at, what in seen if at == path] == want
        assert len(flow.waiting) <= 1, "a poll leaves nothing behind"


def test_a_stop_ends_handlers_and_then_the_lifespan(node):
    seen = []

    async def app(scope, receive, send):
        kind = scope["type"]
        if kind == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            seen.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            seen.append((await receive())["code"])
            await asyncio.sleep(0.01)
            seen.append("closed")
        else:
            await receive()
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                seen.append("finally")

    class Api:
        async def method(self):
            try:
                await asyncio.sleep(60)
            finally:
                seen.append("method")

        def __del__(self):
            seen.append("del")

    n = node(serve.ingress(app)(Api))
    for _ in range(4):
        n.call(head())
        n.socket()
    n.turn(3)
    assert len(n.worker.running) == 8
    n.run(n.worker.stop_replica(1))
    assert not n.worker.running and seen.count("del") == 1
    assert sorted(map(str, seen[:-2])) == sorted(["finally"] * 4 + ["1001"] * 4 + ["closed"] * 4) and seen[-2:] == ["shutdown", "del"]


def test_a_stop_does_not_wait_for_handlers_that_ignore_their_cancel(node, caplog):
    seen, ends = [], asyncio.Event()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            seen.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        while not ends.is_set():
            try:
                await ends.wait()
            except asyncio.CancelledError:
                seen.append("ignored")

    n = node(raw(app))
    n.call(head())
    n.turn(3)
    n.run(n.worker.stop_replica(0.1))
    assert seen == ["ignored", "shutdown"] and "ignored their cancel" in caplog.text
    ends.set()
    n.until(lambda: not n.worker.running)


def test_a_replica_goes_on_at_the_next_node(node):
    seen = []

    class Plain:
        async def __call__(self, request):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

    n = node(Plain)
    former = n.worker
    n.call(head())
    former.conn.lost = ConnectionError()
    former.over = True
    for flow in former.flows.values():
        flow.leave()
    former.running[1].task.cancel()
    n.turn(3)
    assert seen == ["cancelled"] and not former.running
    heir = type(former)(n.loop, None, former)
    assert heir.ingress.worker is heir and heir.ingress.plains["__call__"].worker is heir


# ---- lifespan


def lifespan(startup, seen, state=None):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"].update(state or {})
            await startup(send)
            assert (await receive())["type"] == "lifespan.shutdown"
            seen.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
        else:
            seen.append(scope["state"])
            await send(START)
            await send(DONE)

    return raw(app)


def test_lifespan_with_state(node):
    seen = []
    n = node(lifespan(lambda send: send({"type": "lifespan.startup.complete"}), seen, {"db": 1}))
    n.request()
    n.request()
    assert seen == [{"db": 1}] * 2 and seen[0] is not seen[1]
    n.run(n.worker.stop_replica(1))
    assert seen[-1] == "shutdown"


def test_a_lifespan_that_fails(node):
    async def startup(send):
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="startup of the application's lifespan failed: no database"):
        Node(lifespan(startup, []))


def test_a_lifespan_that_raises():
    async def startup(send):
        raise ValueError("no database")

    with pytest.raises(ValueError, match="no database"):
        Node(lifespan(startup, []))


def test_an_application_without_lifespan(node):
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send(START)
        await send(DONE)

    assert node(raw(app)).request().status == 200
