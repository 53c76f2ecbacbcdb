"""The FastAPI example (examples/fastapi), asked as a client does, through a real node."""

import importlib
import pathlib
import sys

import httpx
import pytest
from websockets.sync.client import connect

from ports import free_port
from helve import serve

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "fastapi"
KEY = {"X-Key": "letmein"}


@pytest.fixture(scope="module")
def address():
    sys.path.insert(0, str(EXAMPLE))  # replicas import the module by its name
    example = importlib.import_module("app")
    port = free_port()
    serve.shutdown()
    serve.start(http_options={"port": port})
    serve.run(example.texts)
    yield f"127.0.0.1:{port}"
    serve.shutdown()
    sys.path.remove(str(EXAMPLE))
    del sys.modules["app"]


def test_dependency_and_composition(address):
    def ask(text, **headers):
        return httpx.post(f"http://{address}/score", json={"text": text}, headers=headers)

    assert ask("a fine day", **KEY).json() == {"score": 0.3}
    assert ask("a", **{"X-Key": "other"}).status_code == 403
    assert ask("a").status_code == 422
    assert ask(5, **KEY).status_code == 422


def test_stream(address):
    with httpx.stream("GET", f"http://{address}/tokens", params={"text": "hello"}) as r:
        pieces = list(r.iter_text())
    assert "".join(pieces) == "hello, and so on, and so forth " and len(pieces) > 1, pieces


def test_websocket(address):
    with connect(f"ws://{address}/chat") as s:
        for question in ("one", "two"):
            s.send(question)
            assert "".join(iter(s.recv, "")) == f"{question}, and so on, and so forth "


def test_documentation(address):
    assert set(httpx.get(f"http://{address}/openapi.json").json()["paths"]) == {"/score", "/tokens"}
    assert "swagger" in httpx.get(f"http://{address}/docs").text
