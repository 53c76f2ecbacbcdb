"""serve.ingress against a node of the tests: routes on classes, and what FastAPI and Starlette have around them."""

import json
import pickle
from typing import Generic, Optional, TypeVar

import cloudpickle
import fastapi
import pydantic
import pytest
from fake_node import Node, head
from fastapi import APIRouter, BackgroundTasks, Cookie, Depends, FastAPI, Header, HTTPException, Query, Request, WebSocket, WebSocketDisconnect
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from helve import _http as http
from helve import serve
from helve.serve.deployment import Graph, http_mistake, methods_of
from helve.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException


@pytest.fixture
def node():
    """Makes nodes. Their classes travel as they do to a replica: by cloudpickle."""
    made = []

    def make(target, *args, **kwargs):
        target = getattr(target, "func_or_class", target)
        made.append(Node(cloudpickle.loads(cloudpickle.dumps(target)), *args, **kwargs))
        return made[-1]

    yield make
    for n in made:
        n.stop()


def get(n, path="/", method="GET", **kwargs):
    a = n.request(method, path, **kwargs)
    assert a.error is None, a.error
    return a.status, json.loads(a.text) if a.text else None


# ---- routes on classes


def test_class_based_views(node):
    app = FastAPI()

    @app.get("/other")
    def other():
        return "other"

    @serve.deployment
    @serve.ingress(app)
    class A:
        """Counts."""

        def __init__(self, start: int):
            self.value = start

        @app.get("/calc/{i}")
        def plus(self, i: int):
            return i + self.value

        @app.post("/calc/{i}")
        async def minus(self, i: int):
            return i - self.value

        def method(self, text):
            return text

    cls = A.func_or_class
    assert (cls.__name__, cls.__qualname__, cls.__module__, cls.__doc__) == ("A", "test_class_based_views.<locals>.A", __name__, "Counts.")
    assert [m["name"] for m in methods_of(cls)] == ["method", "minus", "plus", "__call__"] and http_mistake("A", cls) == ""
    n = node(A, 1)
    assert get(n, "/calc/41") == (200, 42)
    assert get(n, "/calc/41", "POST") == (200, 40)
    assert get(n, "/other") == (200, "other")
    assert get(n, "/calc/x")[0] == 422
    assert get(n, "/none") == (404, {"detail": "Not Found"})
    assert get(n, "/calc/1", "DELETE")[0] == 405
    assert n.worker.instance.method("a") == "a" and cls(1).plus(2) == 3


def test_one_name_for_two_routes(node):
    app = FastAPI()

    @serve.ingress(app)
    class A:
        @app.get("/")
        def method(self):
            return "get"

        @app.post("/")
        def method(self):  # noqa: F811
            return "post"

    n = node(A)
    assert (get(n), get(n, method="POST")) == ((200, "get"), (200, "post"))


def test_several_classes_of_one_application(node):
    app = FastAPI()

    @app.get("/shared")
    def shared():
        return "shared"

    @serve.ingress(app)
    class First:
        @app.get("/")
        def root(self):
            return "first"

        @app.get("/one")
        def one(self):
            return 1

    @serve.ingress(app)
    class Second:
        @app.get("/")
        def root(self):
            return "second"

    @app.get("/late")
    def late():
        return "late"

    first, second = node(First), node(Second)
    assert (get(first), get(second)) == ((200, "first"), (200, "second"))
    assert (get(first, "/one")[0], get(second, "/one")[0]) == (200, 404)
    assert get(first, "/shared") == get(second, "/shared") == (200, "shared")
    assert (get(first, "/late")[0], get(second, "/late")[0]) == (404, 404)


def test_a_class_that_is_made_twice(node):
    app, made = FastAPI(), []
    for answer in ("old", "new"):

        @serve.ingress(app)
        class A:
            text = answer

            @app.get("/")
            def root(self):
                return self.text

        made.append(A)
    assert [get(node(cls))[1] for cls in made] == ["old", "new"]


def test_inheritance(node):
    app = FastAPI()

    class Base:
        name = "base"

        @app.get("/name")
        def get_name(self):
            return self.name

        @app.get("/kept")
        def kept(self):
            return "base"

        @app.get("/replaced")
        def replaced(self):
            return "base"

    @serve.ingress(app)
    class Left(Base):
        name = "left"

        def replaced(self):
            return super().replaced() + " left"

    @serve.ingress(app)
    class Right(Base):
        @app.get("/right")
        def right(self):
            return "right"

    left, right = node(Left), node(Right)
    assert (get(left, "/name")[1], get(right, "/name")[1]) == ("left", "base")
    assert (get(left, "/kept")[1], get(left, "/replaced")[1], get(right, "/replaced")[1]) == ("base", "base left", "base")
    assert (get(left, "/right")[0], get(right, "/right")[0]) == (404, 200)


def test_a_generic_class(node):
    app = FastAPI()
    T = TypeVar("T")

    class Store(Generic[T]):
        def __init__(self, item: T):
            self.item = item

        @app.get("/item")
        def get_item(self):
            return self.item

    @serve.ingress(app)
    class Ints(Store[int]):
        pass

    assert get(node(Ints, 7), "/item") == (200, 7)


def test_a_route_without_self():
    app = FastAPI()
    with pytest.raises(RayServeException, match="must have `self`"):

        @serve.ingress(app)
        class A:
            @app.get("/")
            def root():
                return 1


# ---- FastAPI's own features


class Nested(pydantic.BaseModel):
    val: int


class Item(pydantic.BaseModel):
    name: str
    price: float = pydantic.Field(gt=1.0)
    nests: Nested


class Out(pydantic.BaseModel):
    ok: bool
    values: list


def test_features(node):
    done = []
    app = FastAPI(openapi_url="/my_api.json", dependencies=[Depends(lambda: done.append("application"))])

    @app.middleware("http")
    async def stamp(request: Request, call_next):
        response = await call_next(request)
        response.headers["x-stamp"] = request.url.path
        return response

    async def database():
        done.append("open")
        yield "db"
        done.append("closed")

    async def common(q: Optional[str] = None):
        return {"q": q}

    @app.exception_handler(ValueError)
    async def on_value_error(request: Request, error: ValueError):
        return JSONResponse({"custom": str(error)}, status_code=500)

    class ApiKey:
        def __call__(self, x_key: str = Header()):
            if x_key != "secret":
                raise HTTPException(401, "wrong key")
            return x_key

    router = APIRouter(prefix="/prefix", tags=["sub"])

    @router.get("/subpath")
    def subpath():
        return "ok"

    @serve.ingress(app)
    class A:
        def __init__(self):
            self.greeting = "hi"

        def find(self):
            return self.greeting

        @app.post("/{path_arg}", response_model=Out, status_code=201)
        async def func(
            self, path_arg: str, query_arg: str, item: Item, background: BackgroundTasks, do_error: bool = False, valid: Optional[str] = Query(None, min_length=3),
            cookie: Optional[str] = Cookie(None), user_agent: Optional[str] = Header(None), commons: dict = Depends(common), db=Depends(database),
        ):
            if do_error:
                raise ValueError("bad input")
            background.add_task(done.append, "background")
            return {"ok": True, "values": [path_arg, query_arg, item.price, item.nests.val, valid, cookie, user_agent, commons, db, self.find()], "hidden": 1}

        @app.get("/key", dependencies=[Depends(ApiKey())])
        def key(self):
            return "open"

    app.include_router(router)
    A = serve.ingress(app)(A.__mro__[1])  # with the router, which was included later
    target = cloudpickle.loads(cloudpickle.dumps((A, done)))
    n, done = Node(target[0]), target[1]
    body = json.dumps({"name": "serve", "price": 12, "nests": {"val": 1}}).encode()
    kind = [("content-type", "application/json")]
    assert get(n, "/a", "POST")[0] == 422
    status, value = get(n, "/a", "POST", query="query_arg=b&valid=abc&q=c", body=body, headers=[*kind, ("user-agent", "u"), ("cookie", "cookie=1")])
    assert (status, value) == (201, {"ok": True, "values": ["a", "b", 12.0, 1, "abc", "1", "u", {"q": "c"}, "db", "hi"]})
    n.until(lambda: "background" in done)
    assert done.count("application") == 2 and [d for d in done if d in ("open", "closed", "background")][-3:] == ["open", "background", "closed"] or "closed" in done
    assert get(n, "/a", "POST", query="query_arg=b&do_error=true", body=body, headers=kind) == (500, {"custom": "bad input"})
    assert get(n, "/key")[0] == 422
    assert get(n, "/key", headers=[("x-key", "no")]) == (401, {"detail": "wrong key"})
    assert get(n, "/key", headers=[("x-key", "secret")]) == (200, "open")
    assert get(n, "/prefix/subpath") == (200, "ok")
    assert ("x-stamp", "/none") in n.request("GET", "/none").headers
    schema = get(n, "/api/my_api.json", root="/api")[1]
    assert sorted(schema["paths"]) == ["/key", "/prefix/subpath", "/{path_arg}"] and schema["servers"] == [{"url": "/api"}]
    assert "self" not in json.dumps(schema["paths"])
    assert "/api/my_api.json" in n.request("GET", "/api/docs", root="/api").text
    n.stop()


def test_routers_with_methods(node):
    app, router = FastAPI(), APIRouter(prefix="/r", dependencies=[Depends(lambda: None)])

    class A:
        value = 3

        @router.get("/value")
        def get_value(self):
            return self.value

    app.include_router(router, prefix="/v1")
    assert get(node(serve.ingress(app)(A)), "/v1/r/value") == (200, 3)
    assert get(node(serve.ingress(router)(A)), "/r/value") == (200, 3)


def test_mounted_applications(node):
    app, sub = FastAPI(), FastAPI()

    @sub.get("/hi")
    def hi(request: Request):
        return request.scope["root_path"]

    app.mount("/mounted", sub)
    app.mount("/raw", Starlette(routes=[Route("/x", lambda request: PlainTextResponse("raw"))]))

    @serve.ingress(app)
    class A:
        pass

    n = node(A)
    assert get(n, "/api/mounted/hi", root="/api") == (200, "/api/mounted")
    assert n.request("GET", "/raw/x").text == "raw"


def test_starlette(node):
    async def home(request):
        return JSONResponse({"path": request.url.path, "item": str(request.url_for("item", id=3))})

    app = Starlette(routes=[Route("/", home), Mount("/items", routes=[Route("/{id}", home, name="item")])])

    @serve.ingress(app)
    class A:
        pass

    assert get(node(A), "/api/", root="/api")[0] == 200


def test_middlewares(node):
    class Stamp(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            response = await call_next(request)
            response.headers["x-stamp"] = "1"
            return response

    app = FastAPI()
    app.add_middleware(Stamp)

    @serve.ingress(app)
    class A:
        @app.get("/")
        def root(self):
            return "a"

        @app.get("/items")
        def items(self):
            return StreamingResponse(iter(["a", "b"]))

    n = node(A, middlewares=[(Stamp, (), {})])
    a = n.request()
    assert (a.text, [v for k, v in a.headers if k == "x-stamp"]) == ('"a"', ["1"])
    assert n.request("GET", "/items").text == "ab"


def test_a_missing_deployment_is_named_in_the_log_alone(node, caplog):
    app = FastAPI()

    @serve.ingress(app)
    class A:
        @app.get("/")
        async def root(self):
            raise DeploymentUnavailableError("its constructor failed: secret")

    assert get(node(A)) == (503, {"detail": "a deployment that the request needs is not available"})
    assert "GET /: its constructor failed: secret" in caplog.text


def test_errors_of_other_deployments(node):
    def make(handled):
        app = FastAPI()
        if handled:

            @app.exception_handler(RayServeException)
            async def own(request, error):
                return PlainTextResponse("own", 429)

        @serve.ingress(app)
        class A:
            @app.get("/")
            async def root(self):
                raise BackPressureError("full")

        return A

    assert get(node(make(False))) == (503, {"detail": "full"})
    a = node(make(True)).request()
    assert (a.status, a.text) == (429, "own")


def test_an_exception_is_500_and_logged(node, caplog):
    app = FastAPI()

    @serve.ingress(app)
    class A:
        @app.get("/")
        def root(self):
            raise KeyError("private")

    a = node(A).request()
    assert (a.status, a.text, a.error) == (500, "Internal Server Error", None) and "private" in caplog.text


# ---- lifespan


def test_lifespan_runs_between_constructor_and_del(node):
    log = []

    async def lifespan(app):
        log.append("startup")
        yield {"db": "open"}
        log.append("shutdown")

    from contextlib import asynccontextmanager

    app = FastAPI(lifespan=asynccontextmanager(lifespan))

    @serve.ingress(app)
    class A:
        def __init__(self):
            log.append("init")

        def __del__(self):
            log.append("del")

        @app.get("/")
        def root(self, request: Request):
            return request.state.db

    n = Node(A)
    assert get(n) == (200, "open")
    n.run(n.worker.stop_replica(1))
    assert log == ["init", "startup", "shutdown", "del"]


def test_a_lifespan_that_fails():
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan(app):
        raise ValueError("no database")
        yield

    @serve.ingress(FastAPI(lifespan=lifespan))
    class A:
        pass

    with pytest.raises(ValueError, match="no database"):
        Node(A)


# ---- WebSockets


def test_websockets_of_a_class(node):
    app = FastAPI()

    @serve.ingress(app)
    class A:
        def __init__(self):
            self.prefix = "> "

        async def prefix_of(self):
            return self.prefix

        @app.websocket("/ws/{name}")
        async def ws(self, websocket: WebSocket, name: str, q: str = "", token: str = Depends(lambda: "token")):
            await websocket.accept()
            try:
                while True:
                    text = await websocket.receive_text()
                    if text == "stop":
                        await websocket.close(4002, "stopped")
                        return
                    await websocket.send_text(f"{self.prefix}{name} {q} {token} {text}")
            except WebSocketDisconnect as e:
                self.prefix = f"left {e.code}"

        @app.websocket("/careless")
        async def careless(self, websocket: WebSocket):
            await websocket.accept()
            await websocket.receive_text()

    n = node(A)
    id = n.call(head("GET", "/ws/me", "q=1"), kind=http.SOCKET)
    n.until(lambda: n.answers[id].allowed[0])
    n.upload(id, (http.TEXT, b"hello"))
    n.until(lambda: len(n.answers[id].parts) == 2)
    assert n.answers[id].parts == [(http.ACCEPT, b""), (http.TEXT, b"> me 1 token hello")]
    n.upload(id, (http.CLOSE, (1001).to_bytes(2, "little")))
    assert n.ended(id).error is None and n.worker.instance.prefix == "left 1001"
    id = n.socket("/ws/me")
    n.until(lambda: n.answers[id].allowed[0])
    n.upload(id, (http.TEXT, b"stop"))
    assert n.ended(id).parts[-1] == (http.CLOSE, (4002).to_bytes(2, "little") + b"stopped")
    id = n.socket("/careless")
    n.upload(id, (http.CLOSE, (1000).to_bytes(2, "little")))
    assert n.ended(id).error is None
    assert n.ended(n.socket("/none")).kinds() == [http.CLOSE]


# ---- functions that build an application, and classes that serve.ingress makes


def build():
    app = FastAPI()

    @app.get("/")
    def root():
        instance = app.state.instance if hasattr(app.state, "instance") else None
        return f"built {instance}"

    return app


async def build_later():
    return build()


@pytest.mark.parametrize("builder", [build])
def test_builders(node, builder):
    @serve.ingress(builder)
    class A:
        def method(self):
            return 1

    assert get(node(A)) == (200, "built None")
    assert get(node(serve.deployment(serve.ingress(builder)()))) == (200, "built None")


@pytest.mark.parametrize("app,path", [
    (FastAPI(), "/docs"), (FastAPI(docs_url="/manual"), "/manual"), (FastAPI(docs_url=None), ""), (FastAPI(openapi_url=None), ""), (APIRouter(), "/docs"), (build, ""),
])
def test_the_path_of_the_documentation_is_known_at_the_deploy(app, path):
    @serve.deployment
    class Other:
        pass

    @serve.deployment
    @serve.ingress(app)
    class A:
        def __init__(self, other):
            pass

    assert Graph(A.bind(Other.bind()), "a").docs_path() == path
    assert Graph(Other.bind(), "a").docs_path() == ""


def test_a_builder_that_builds_nothing():
    def nothing():
        return None

    with pytest.raises(TypeError, match="must return an ASGI application"):
        Node(serve.ingress(nothing)())


def test_ingress_without_a_class_keeps_arguments(node):
    app = FastAPI()

    @app.get("/")
    def root():
        return 1

    cls = serve.ingress(app)()
    assert cls.__name__ == "ASGIIngressDeployment" and get(node(cls, "a")) == (200, 1)


# ---- mistakes


class Callable:
    def __call__(self, request):
        return 1


@pytest.mark.parametrize("use, error, text", [
    (lambda: serve.ingress(Callable), TypeError, "above the class"),
    (lambda: serve.ingress(3), TypeError, "takes an ASGI application"),
    (lambda: serve.ingress(None), TypeError, "takes an ASGI application"),
    (lambda: serve.ingress(serve.deployment(Callable)), TypeError, "takes an ASGI application"),
    (lambda: serve.ingress(lambda x: x), TypeError, "must have no parameters"),
    (lambda: serve.ingress(FastAPI())(lambda: 1), ValueError, "must be used with a class"),
    (lambda: serve.ingress(FastAPI())(Callable), ValueError, "may not have __call__"),
    (lambda: serve.ingress(FastAPI())(serve.deployment(Callable)), ValueError, "below @serve.deployment"),
    (lambda: serve.ingress(FastAPI())(serve.ingress(FastAPI())()), ValueError, "twice"),
])
def test_mistakes(use, error, text):
    with pytest.raises(error, match=text):
        use()


def test_an_application_from_main_travels():
    """The application of a script is pickled with its routes, models and dependencies."""
    import subprocess
    import sys

    program = """
import cloudpickle, sys
import pydantic
from fastapi import FastAPI, Depends
from helve import serve
app = FastAPI(title="mine")
counter = {"n": 0}
class Item(pydantic.BaseModel):
    n: int
def dependency():
    counter["n"] += 1
    return counter["n"]
@app.get("/plain")
def plain(n: int = Depends(dependency)) -> Item:
    return Item(n=n)
@serve.deployment
@serve.ingress(app)
class A:
    def __init__(self, item): self.item = item
    @app.post("/")
    def root(self, item: Item, n: int = Depends(dependency)):
        return item.n + self.item.n + n
sys.stdout.buffer.write(cloudpickle.dumps((A.func_or_class, Item(n=1))))
"""
    out = subprocess.run([sys.executable, "-"], input=program.encode(), capture_output=True, timeout=60)
    assert out.returncode == 0, out.stderr.decode()
    cls, item = pickle.loads(out.stdout)
    n = Node(cls, item)
    assert get(n, "/plain") == (200, {"n": 1})
    assert get(n, method="POST", body=b'{"n":10}', headers=[("content-type", "application/json")]) == (200, 13)
    n.stop()


def test_fastapi_of_the_tests():
    assert fastapi.__version__


def test_a_root_path_of_fastapi_is_in_front_of_the_route_prefix(node):
    app = FastAPI(root_path="/proxy")

    @serve.ingress(app)
    class A:
        @app.get("/u")
        def u(self, request: Request):
            return [request.scope["root_path"], request.url_for("u").path]

    n = node(A)
    for root in ("/a", ""):
        a = n.request("GET", root + "/u", root=root)
        assert (a.status, json.loads(a.text)) == (200, ["/proxy" + root, f"/proxy{root}/u"])


def test_a_request_is_no_argument_of_a_call():
    from starlette.requests import Request as Plain

    from helve._pickling import dumps_call

    with pytest.raises(TypeError, match="a Request cannot be passed to another deployment"):
        dumps_call(False, (Plain({"type": "http"}),), {})


@pytest.mark.parametrize("prefix", ["/{x}", "/a/{b:path}", "/}"])
def test_a_route_prefix_has_no_parameters(prefix):
    from helve.serve.api import _prefix

    with pytest.raises(ValueError, match="route_prefix .*it is a plain path"):
        _prefix(prefix)
