"""What a deployment may return to HTTP, and what it sees of a request."""

import requests
import starlette
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, RedirectResponse, HTMLResponse


@serve.deployment
class D:
    async def __call__(self, request: starlette.requests.Request):
        kind = request.query_params["kind"]
        if kind == "json":
            return JSONResponse({"a": 1}, status_code=201, headers={"x-a": "b"})
        if kind == "plain":
            return PlainTextResponse("plain")
        if kind == "str":
            return "text"
        if kind == "bytes":
            return b"bytes"
        if kind == "dict":
            return {"b": [1, 2.5, None, True]}
        if kind == "list":
            return [1, 2]
        if kind == "int":
            return 3
        if kind == "none":
            return None
        if kind == "body":
            return {"body": (await request.body()).decode(), "json": (await request.json()), "method": request.method, "path": request.url.path, "headers": request.headers["x-h"]}
        if kind == "raise":
            raise ValueError("no")
        if kind == "html":
            return HTMLResponse("<b>x</b>")
        if kind == "redirect":
            return RedirectResponse("/?kind=str")
        if kind == "custom":
            r = Response(content=b"abc", media_type="application/x-abc")
            r.set_cookie("k", "v")
            return r


serve.run(D.bind())
url = "http://localhost:8000/"
for kind in ["json", "plain", "str", "bytes", "dict", "list", "int", "none", "raise", "html", "redirect", "custom"]:
    r = requests.get(url, params={"kind": kind})
    print(kind, r.status_code, r.headers.get("content-type") if kind not in ("bytes", "raise") else None, r.text, r.headers.get("x-a"), dict(r.cookies))
r = requests.put(url + "sub/path", params={"kind": "body"}, json={"z": 1}, headers={"X-H": "1"})
print(r.json())
serve.shutdown()
