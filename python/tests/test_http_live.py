"""HTTP to Python replicas through a real node: requests, answers, FastAPI, WebSockets, clients that leave, redeploys."""

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from typing import Optional

import httpx
import pydantic
import pytest
import websockets
from eventually import eventually
from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, StreamingResponse
from websockets.sync.client import connect

from ports import free_port
from helve import _driver, serve
from helve.serve.exceptions import BackPressureError
from helve.serve.handle import DeploymentHandle


@serve.deployment(max_ongoing_requests=100)
class Plain:
    async def __call__(self, request: StarletteRequest):
        what = request.query_params.get("what", "")
        if what == "json":
            return {"method": request.method, "path": request.url.path, "root": request.scope["root_path"], "body": (await request.body()).decode()}
        if what == "none":
            return None
        if what == "bytes":
            return b"\x00\x01"
        if what == "response":
            response = PlainTextResponse("made", 201, {"x-a": "1"})
            response.set_cookie("a", "1")
            response.set_cookie("b", "2")
            return response
        if what == "stream":
            return StreamingResponse(iter(["a", "b", "c"]), media_type="text/event-stream")
        if what == "generator":
            return (f"{i}," for i in range(5))
        if what == "fail":
            raise ValueError("private text")
        if what == "backpressure":
            raise BackPressureError("the queue is full")
        if what == "size":
            n = 0
            async for part in request.stream():
                n += len(part)
            return n
        if what == "large":
            return b"x" * int(request.query_params["n"])
        return "hello"


@serve.deployment
class Nothing:
    def __call__(self):
        return "nothing"


@serve.deployment
def function(*args):
    return args[0].method


@serve.deployment
class Counter:
    def __init__(self):
        self.counts = {}

    def add(self, name: str, n: int = 1):
        self.counts[name] = self.counts.get(name, 0) + n

    def get(self, name: str):
        return self.counts.get(name, 0)

    async def words(self, n: int):
        for i in range(n):
            yield f"word{i} "

    def full(self):
        raise BackPressureError("too many")


class Item(pydantic.BaseModel):
    name: str
    price: float = pydantic.Field(gt=0)


@asynccontextmanager
async def lifespan(app):
    yield {"started": os.getpid()}


api = FastAPI(title="shop", lifespan=lifespan)


def page(limit: int = 10, q: Optional[str] = None):
    return {"limit": limit, "q": q}


@api.get("/outside")
def outside():
    return "outside"


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(api)
class Shop:
    def __init__(self, counter: DeploymentHandle, greeting: str):
        self.counter, self.greeting = counter, greeting
        self.hangs, self.gone = 0, []

    @api.get("/hello/{name}")
    async def hello(self, name: str, request: Request, page: dict = Depends(page)):
        await self.counter.add.remote("hello")
        return {"text": f"{self.greeting} {name}", **page, "pid": request.state.started == os.getpid(), "count": await self.counter.get.remote("hello")}

    @api.post("/items", status_code=201)
    async def create(self, item: Item, tasks: BackgroundTasks) -> Item:
        tasks.add_task(self.later, item.name)
        return item

    async def later(self, name):
        await self.counter.add.remote(f"created {name}")

    @api.get("/words")
    async def words(self, n: int = 3):
        stream = self.counter.options(stream=True).words.remote(n)
        return StreamingResponse(stream, media_type="text/plain")

    @api.get("/full")
    async def full(self):
        return await self.counter.full.remote()

    @api.get("/hang")
    async def hang(self, request: Request):
        self.hangs += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.gone.append(await request.is_disconnected())
            raise

    @api.get("/gone")
    def get_gone(self):
        return self.hangs, self.gone

    @api.get("/cookies")
    def cookies(self, response: Response):
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return 1

    @api.websocket("/ws")
    async def ws(self, websocket: WebSocket):
        await websocket.accept(subprotocol="chat" if "chat" in websocket.scope["subprotocols"] else None)
        try:
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message["code"])
                if message.get("text") == "close":
                    await websocket.close(4001, "asked")
                    return
                if message.get("text") is not None:
                    await websocket.send_text(message["text"] * 2)
                else:
                    await websocket.send_bytes(message["bytes"])
        except WebSocketDisconnect as e:
            await self.counter.add.remote(f"left {e.code}")

    def method(self, text):
        return text


class Live:
    def __init__(self, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def __getattr__(self, name):
        return getattr(self.client, name)


@pytest.fixture(scope="module")
def live():
    port = free_port()
    serve.shutdown()
    serve.start(http_options={"port": port})
    counter = Counter.bind()
    live = Live(port)
    live.shop = serve.run(Shop.bind(counter, "hi"), name="shop", route_prefix="/shop")
    live.counter = serve.get_deployment_handle("Counter", "shop")
    serve.run(Plain.bind(), name="plain", route_prefix="/plain")
    serve.run(Nothing.bind(), name="nothing", route_prefix="/nothing")
    serve.run(function.bind(), name="function", route_prefix="/function")
    yield live
    live.client.close()
    serve.shutdown()
    _driver._http = None


# ---- plain deployments


def test_answers(live):
    r = live.get("/plain")
    assert (r.status_code, r.text, r.headers["content-type"]) == (200, "hello", "text/plain; charset=utf-8") and "x-request-id" in r.headers
    r = live.get("/plain?what=none")
    assert (r.status_code, r.content) == (200, b"")
    r = live.get("/plain?what=bytes")
    assert (r.content, r.headers["content-type"], r.headers["content-length"]) == (b"\0\1", "application/octet-stream", "2")
    r = live.get("/plain?what=response")
    assert (r.status_code, r.text, r.headers["x-a"], r.headers.get_list("set-cookie")) == (201, "made", "1", ["a=1; Path=/; SameSite=lax", "b=2; Path=/; SameSite=lax"])
    assert live.get("/plain?what=stream").text == "abc" and live.get("/plain?what=generator").text == "0,1,2,3,4,"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"])
def test_every_method(live, method):
    r = live.request(method, "/plain/a%20b?what=json", content=b"body" if method != "GET" else None)
    assert r.json() == {"method": method, "path": "/plain/a b", "root": "/plain", "body": "body" if method != "GET" else ""}
    assert live.request(method, "/function").text == method


def test_head_and_no_argument(live):
    r = live.head("/plain")
    assert (r.status_code, r.content) == (200, b"")
    assert live.get("/nothing").text == live.post("/nothing", content=b"x").text == "nothing"


def test_large_bodies(live):
    for n in (100, 70_000, 5 << 20):
        assert live.post("/plain?what=size", content=b"x" * n).json() == n
        assert len(live.get(f"/plain?what=large&n={n}").content) == n

    def chunks():
        for _ in range(100):
            yield b"x" * 10_000

    assert live.post("/plain?what=size", content=chunks()).json() == 1_000_000


def test_errors(live):
    r = live.get("/plain?what=fail")
    assert r.status_code == 500 and "private" not in r.text
    r = live.get("/plain?what=backpressure")
    assert r.status_code == 503
    assert live.get("/none").status_code == 404
    assert live.get("/plain").status_code == 200


# ---- FastAPI


def test_routes_dependencies_and_handles(live):
    r = live.get("/shop/hello/you", params={"limit": 3})
    assert r.status_code == 200 and {**r.json(), "count": 0} == {"text": "hi you", "limit": 3, "q": None, "pid": True, "count": 0}
    assert live.get("/shop/hello/you", params={"limit": "x"}).status_code == 422
    assert live.get("/shop/outside").json() == "outside"
    assert live.get("/shop/none").json() == {"detail": "Not Found"}
    assert live.shop.method.remote("by handle").result() == "by handle"
    with pytest.raises(Exception, match="ASGI application"):
        live.shop.remote().result()
    assert live.get("/shop/cookies").cookies == {"a": "1", "b": "2"}
    r = live.get("/shop/full")
    assert r.status_code == 503 and "too many" in r.json()["detail"]


def test_models_and_background_tasks(live):
    r = live.post("/shop/items", json={"name": "a", "price": 1})
    assert (r.status_code, r.json()) == (201, {"name": "a", "price": 1.0})
    assert live.post("/shop/items", json={"name": "a", "price": -1}).status_code == 422
    eventually(lambda: live.counter.get.remote("created a").result() == 1)


def test_openapi_has_the_servers_path(live):
    schema = live.get("/shop/openapi.json").json()
    assert schema["info"]["title"] == "shop" and schema["servers"] == [{"url": "/shop"}] and "/hello/{name}" in schema["paths"]
    assert "/shop/openapi.json" in live.get("/shop/docs").text


def test_a_stream_of_a_handle(live):
    assert live.get("/shop/words", params={"n": 500}).text == "".join(f"word{i} " for i in range(500))


def test_a_client_that_leaves(live):
    with socket.create_connection(("127.0.0.1", live.port)) as client:
        client.sendall(b"GET /shop/hang HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: live.get("/shop/gone").json() == [1, []])
    eventually(lambda: live.get("/shop/gone").json() == [1, [True]])


# ---- WebSockets


def test_websockets(live):
    with connect(f"ws://127.0.0.1:{live.port}/shop/ws", subprotocols=["other", "chat"], max_size=None) as ws:
        assert ws.subprotocol == "chat"
        ws.send("é")
        assert ws.recv() == "éé"
        ws.send(b"\0\1")
        assert ws.recv() == b"\0\1"
        big = os.urandom(1 << 20)
        ws.send(big)
        assert ws.recv() == big
        text = "€" * 100_000
        ws.send([text[:7], text[7:]])  # fragments
        assert ws.recv() == text * 2
        ws.ping().wait(20)
        ws.send("close")
        with pytest.raises(websockets.ConnectionClosed) as e:
            ws.recv()
        assert (e.value.rcvd.code, e.value.rcvd.reason) == (4001, "asked")
    with connect(f"ws://127.0.0.1:{live.port}/shop/ws") as ws:
        ws.close(4005)
    eventually(lambda: live.counter.get.remote("left 4005").result() == 1)
    for path in ("/shop/none", "/plain"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{live.port}{path}")
        assert refused.value.response.status_code == 403


# ---- lifespans


@pytest.mark.parametrize("hangs, text", [(False, "no database"), (True, "construct_timeout_s .* the startup of its application's lifespan has not ended")])
def test_lifespans_that_fail_or_hang(live, hangs, text):
    @asynccontextmanager
    async def lifespan(app):
        if hangs:
            await asyncio.sleep(3600)
        raise ValueError("no database")
        yield

    @serve.deployment(construct_timeout_s=6 if hangs else 60, max_constructor_retry_count=1)
    @serve.ingress(FastAPI(lifespan=lifespan))
    class A:
        pass

    with pytest.raises(RuntimeError, match=text):
        serve.run(A.bind(), name="failing", route_prefix="/failing")
