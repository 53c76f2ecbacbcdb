"""The applications of the rows about HTTP in Python, in Helve or in uvicorn (one process). It prints its address when it serves, and
ends with its standard input. If a package is not installed it prints "missing" and the name.

usage: web.py helve, web.py uvicorn asgi, web.py uvicorn fastapi
"""

import os
import socket
import sys
import threading

LARGE = bytes(10 << 20)


async def raw(scope, receive, send):
    """A raw ASGI application: GET /down?n answers with n bytes, POST /up with the size of the body, and other requests with "world"."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    body = b"world"
    if scope["path"].endswith("/up"):
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"%d" % size
    elif scope["path"].endswith("/down"):
        body = memoryview(LARGE)[: int(scope["query_string"])]
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)),
    ]})
    await send({"type": "http.response.body", "body": bytes(body)})


def fast():
    """A FastAPI application whose route has a parameter in the path, one in the query and an answer in JSON."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/items/{name}")
    async def item(name: str, n: int = 1):
        return {"name": name, "n": n}

    return app


def helve(address):
    from helve import serve

    host, port = address
    serve.start(http_options={"host": host, "port": port})
    many = {"max_ongoing_requests": 1000}

    @serve.deployment(**many)
    class Noop:
        async def __call__(self, request):
            return "world"

    @serve.deployment(**many)
    class Read:
        async def __call__(self, request):
            return request.method + request.query_params["name"]

    @serve.deployment(**many)
    class Inner:
        async def __call__(self, value):
            return value

    @serve.deployment(**many)
    class Hop:
        def __init__(self, inner):
            self.inner = inner

        async def __call__(self, request):
            return await self.inner.remote("world")

    @serve.deployment(**many)
    @serve.ingress(raw)
    class Raw:
        pass

    @serve.deployment(**many)
    @serve.ingress(fast())
    class Fast:
        pass

    for name, app in (("noop", Noop.bind()), ("read", Read.bind()), ("hop", Hop.bind(Inner.bind())), ("asgi", Raw.bind()),
                      ("fastapi", Fast.bind())):
        serve.run(app, name=name, route_prefix="/" + name)
    print("%s:%d" % address, flush=True)
    sys.stdin.read()


def uvicorn(listener, app):
    import httptools  # noqa: F401  uvicorn's usual parser
    from uvicorn import Config, Server

    class Announced(Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            print("%s:%d" % listener.getsockname(), flush=True)

    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    config = Config(fast() if app == "fastapi" else raw, log_level="warning", access_log=False, http="httptools", loop=loop())
    Announced(config).run([listener])


def loop():
    """The event loop that Helve's workers have too."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio"
    return "uvloop"


def main(server, *app):
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        if server == "uvicorn":
            return uvicorn(listener, *app)
        address = listener.getsockname()
        listener.close()  # the node opens this port, which is free now
        helve(address)
    except ImportError as e:
        print("missing", e.name, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
