"""Answers of the node that programs compare with Ray Serve's, from Python applications."""

import asyncio
import os
import select
import socket
import threading

import fastapi
import httpx
import pytest

from faults import until
from ports import free_port
from helve import _driver, serve

app = fastapi.FastAPI()


@serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
class Plain:
    async def __call__(self, request):
        what = request.query_params.get("do")
        if what == "fail":
            raise ValueError("private")
        if what == "hang":
            await asyncio.sleep(3600)
        if what == "die":
            os._exit(1)
        from starlette.responses import PlainTextResponse

        return PlainTextResponse("ok", headers={"X-Request-ID": "of the replica"})


@serve.deployment
class Text:
    def __call__(self, body: str) -> str:
        raise ValueError("private")


@serve.deployment
@serve.ingress(app)
class Fast:
    @app.get("/fail")
    def fail(self):
        raise ValueError("private")


@pytest.fixture(scope="module")
def url():
    port = free_port()
    serve.start(http_options={"port": port})
    serve.run(Plain.bind(), name="plain", route_prefix="/plain")
    serve.run(Text.bind(), name="text", route_prefix="/text")
    serve.run(Fast.bind(), name="fast", route_prefix="/fast")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    _driver._http = None


def get(url, **headers):
    return httpx.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=60)


def test_failures_are_internal_server_errors(url):
    """The text says nothing of the exception; the header has the id under which the log has it."""
    for path in ("/plain?do=fail", "/fast/fail", "/plain?do=die"):
        r = get(url + path, X_Request_ID="mine")
        assert (r.status_code, r.text, r.headers["x-request-id"]) == (500, "Internal Server Error", "mine"), path
    r = httpx.post(url + "/text", content="x", timeout=60)
    assert (r.status_code, r.text) == (500, "Internal Server Error") and len(r.headers["x-request-id"]) == 36
    r = get(url + "/plain?do=fail", Accept="application/json", X_Request_ID="mine")
    assert r.json()["error"]["request_id"] == "mine" and r.json()["error"]["reason"] == "user" and "private" not in r.text


def test_unknown_paths(url):
    assert get(url + "/x").text == "Path '/x' not found. Ping http://.../-/routes for available routes."
    assert get(url + "/-/routes").json() == {"/plain": "plain", "/text": "text", "/fast": "fast"}
    assert get(url + "/-/healthz").text == "success"


def test_times(url):
    r = get(url + "/plain?do=hang", X_Request_ID="mine", X_Request_Timeout_Seconds="0.2")
    assert (r.status_code, r.text) == (408, "Request mine timed out after 0.2s.")


def test_backpressure(url):
    """One request is executed and one waits: the next one is refused."""
    with httpx.Client(timeout=60) as client:
        ends = [threading.Event() for _ in range(2)]

        def hang(end):
            while not end.is_set():  # a request that is refused, because the client below has the place in the queue, is sent again
                with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as s:
                    s.sendall(b"GET /plain?do=hang HTTP/1.1\r\nHost: x\r\n\r\n")
                    while not end.is_set() and not select.select([s], [], [], 0.05)[0]:
                        pass

        threads = [threading.Thread(target=hang, args=(end,)) for end in ends]
        for t in threads:
            t.start()
        try:
            r = until(lambda: (r := client.get(url + "/plain", headers={"X-Request-Timeout-Seconds": "0.2"})).status_code == 503 and r, "a request is refused")
            assert r.text == "Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1)."
        finally:
            for end, t in zip(ends, threads):
                end.set()
                t.join()
    until(lambda: get(url + "/plain").status_code == 200, "the slots are free")


def test_the_id_of_a_request_is_the_nodes(url):
    r = until(lambda: (r := get(url + "/plain", X_Request_ID="mine")).status_code == 200 and r, "the replica is free")
    assert r.headers.get_list("x-request-id") == ["mine"]


def test_connect_is_refused(url):
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as s:
        s.sendall(b"CONNECT example.com:80 HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
        with s.makefile("rb") as f:
            assert f.readline() == b"HTTP/1.1 405 Method Not Allowed\r\n"


def test_a_certificate_that_is_missing(tmp_path):
    """The advice is about the file, and not about the port."""
    serve.shutdown()
    before = _driver._http
    try:
        serve.start(http_options={"port": free_port(), "ssl_keyfile": str(tmp_path / "none.pem"), "ssl_certfile": str(tmp_path / "none.pem")})
        with pytest.raises(Exception, match="none.pem") as e:
            serve.run(Text.bind(), name="secure", route_prefix=None)
        assert "choose another" not in str(e.value)
    finally:
        serve.shutdown()
        _driver._http = before
