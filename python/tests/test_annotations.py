"""Annotations that are strings, of programs whose classes and functions travel to a replica by value."""

import json
import subprocess
import sys

import pytest

from helve._annotations import named

SCRIPT = '''
from __future__ import annotations
import enum, sys, threading
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, Optional, TypeVar, Union
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, Query, Request, WebSocket
from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict
from helve import serve
from helve._pickling import dumps

lock = threading.Lock()  # cannot be pickled, and no annotation means it
app, router, inner = FastAPI(), APIRouter(prefix="/router"), APIRouter(prefix="/inner")
T = TypeVar("T")

class Color(enum.Enum):
    RED = "red"

class Order(BaseModel):
    items: list[Item]
    color: Color = Color.RED
    parent: Optional[Order] = None

class Item(BaseModel):
    name: str

@dataclass
class Point:
    x: Number
    item: Optional[Item] = None

Number = int

class Row(TypedDict):
    item: Item

class Page(BaseModel, Generic[T]):
    content: list[T]

Items = list[Item]
Key = Annotated[str, Query(min_length=2)]

class Settings:
    limit = 3

def settings() -> Settings:
    return Settings()

def user(s: Annotated[Settings, Depends(settings)], x_key: Annotated[Optional[str], Header()] = None) -> str:
    return f"{x_key}/{s.limit}"

class Filter:
    def __init__(self, q: Key, s: Settings = Depends(settings)):
        self.q = q

@app.post("/free")
async def free(item: Item) -> Item:
    return item

@inner.post("/item")
async def inside(item: Item, user: Annotated[str, Depends(user)]) -> Item:
    return item

@router.post("/item")
async def outside(item: Item, request: Request) -> Item:
    return item

router.include_router(inner)
app.include_router(router)

@serve.ingress(app)
class Api:
    @app.post("/item")
    async def item(self, item: Item) -> Item:
        return item
    @app.post("/items")
    async def items(self, items: Items) -> Page[Item]:
        return Page[Item](content=items)
    @app.post("/order")
    async def order(self, order: Order) -> Order:
        return order
    @app.post("/point")
    async def point(self, point: Point) -> Point:
        return point
    @app.post("/row")
    async def row(self, row: Row) -> Item:
        return row["item"]
    @app.post("/union")
    async def union(self, value: Union[Point, Item, None] = None) -> Optional[Union[Item, Point]]:
        return value
    @app.post("/quoted")
    async def quoted(self, item: "Optional[Item]", n: "Number" = 1) -> "list[Item]":
        return [item] * n
    @app.get("/request")
    async def request(self, request: Request, tasks: BackgroundTasks, kind: Literal["lock"] = "lock") -> str:
        return request.method + kind
    @app.get("/depends")
    async def depends(self, user: Annotated[str, Depends(user)], f: Annotated[Filter, Depends()]) -> dict[str, str]:
        return {"user": user, "q": f.q}
    @app.get("/adapter")
    async def adapter(self) -> Items:
        return TypeAdapter(Items).validate_python([{"name": "adapted"}])
    @app.websocket("/ws")
    async def ws(self, ws: WebSocket, q: Key, user: str = Depends(user)):
        await ws.accept()
        await ws.send_text(q + user)
        await ws.close()

if __name__ == "__main__":
    sys.stdout.buffer.write(dumps(Api))
'''

REPLICA = """
import asyncio, json, sys, warnings
warnings.simplefilter("ignore")
from helve._pickling import loads
from helve._hooks import DEFINITION
cls = loads(sys.stdin.buffer.read())
app = asyncio.run(getattr(cls, DEFINITION).build(cls()))
from starlette.testclient import TestClient
client = TestClient(app)
out = {}
for name, method, path, body in json.loads(sys.argv[1]):
    if method == "WS":
        with client.websocket_connect(path) as ws:
            out[name] = [101, ws.receive_text()]
        continue
    r = client.request(method, path, json=body)
    out[name] = [r.status_code, r.json()]
print(json.dumps(out))
"""

ITEM = {"name": "a"}
ORDER = {"items": [ITEM], "color": "red", "parent": None}
CASES = {
    "a function": ("POST", "/free", ITEM, 200, ITEM),
    "a method": ("POST", "/item", ITEM, 200, ITEM),
    "a method refuses": ("POST", "/item", {}, 422, None),
    "a list, and a generic model": ("POST", "/items", [ITEM], 200, {"content": [ITEM]}),
    "a model with forward references": ("POST", "/order", {"items": [ITEM], "parent": ORDER}, 200, {**ORDER, "parent": ORDER}),
    "a dataclass": ("POST", "/point", {"x": 1, "item": ITEM}, 200, {"x": 1, "item": ITEM}),
    "a dataclass refuses": ("POST", "/point", {"x": "one"}, 422, None),
    "a TypedDict": ("POST", "/row", {"item": ITEM}, 200, ITEM),
    "a union": ("POST", "/union", ITEM, 200, ITEM),
    "a string in a type": ("POST", "/quoted?n=2", ITEM, 200, [ITEM, ITEM]),
    "a request": ("GET", "/request", None, 200, "GETlock"),
    "dependencies": ("GET", "/depends?q=ab", None, 200, {"user": "None/3", "q": "ab"}),
    "a dependency refuses": ("GET", "/depends?q=a", None, 422, None),
    "a TypeAdapter": ("GET", "/adapter", None, 200, [{"name": "adapted"}]),
    "a WebSocket": ("WS", "/ws?q=ab", None, 101, "abNone/3"),
    "a router": ("POST", "/router/item", ITEM, 200, ITEM),
    "a router in a router": ("POST", "/router/inner/item", ITEM, 200, ITEM),
}


def answers(pickled: bytes, cwd, cases: dict) -> dict:
    asked = json.dumps([(name, *case[:3]) for name, case in cases.items()])
    done = subprocess.run([sys.executable, "-c", REPLICA, asked], input=pickled, capture_output=True, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def pickled(code: str, cwd) -> bytes:
    done = subprocess.run([sys.executable, "-W", "ignore", *code.split(" ", 1)], capture_output=True, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    (folder / "shop.py").write_text(SCRIPT)
    (folder / "quoted.py").write_text(SCRIPT.replace("from __future__ import annotations\n", "").replace("items: list[Item]", 'items: "list[Item]"').replace(
        "Optional[Order]", 'Optional["Order"]').replace("x: Number", 'x: "Number"').replace("item: Optional[Item] = None", 'item: "Optional[Item]" = None').replace(
        "item: Item)", 'item: "Item")').replace("point: Point)", 'point: "Point")'))
    (folder / "other.py").write_text("import sys, shop\nfrom helve import serve\nfrom helve._pickling import dumps\nshop.Api = serve.deployment(shop.Api)\n"
                                     "sys.stdout.buffer.write(dumps(shop.Api.func_or_class))\n")
    return folder


@pytest.mark.parametrize("program", ["shop.py", "quoted.py", "other.py"])
def test_annotations_that_are_strings_mean_the_same_in_a_replica(folder, program):
    out = answers(pickled(program, folder), folder, {**CASES, "the schema": ("GET", "/openapi.json", None)})
    status, schema = out.pop("the schema")
    assert status == 200 and schema["paths"]["/item"]["post"]["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Item"}
    for parameter in schema["paths"]["/depends"]["get"]["parameters"]:
        assert "example" not in parameter, parameter
    for name, (_, _, _, status, value) in CASES.items():
        assert out[name] == [status, out[name][1] if value is None else value], name


class Named:
    pass


def test_names_of_annotations():
    space = {"Named": Named, "items": list[int], "number": 3, "f": len}
    for annotation, want in (
        ("Named", {"Named"}), ("Optional['Named']", {"Named"}), ("Annotated[str, f(number)]", {"f", "number"}), ("Literal['number']", set()),
        ("Literal['Named', 'number']", {"Named"}), ("items", {"items"}), ("not an expression", set()), ("", set()), ("\0", set()), (int, set()),
        ("Annotated[int, lambda: number]", {"number"}), (list["Named"], {"Named"}), (None, set()), ("Named.inner", {"Named"}), ("(" * 1000, set()),
    ):
        assert set(named({"x": annotation}, space)) == want, annotation
