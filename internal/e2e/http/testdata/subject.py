"""The code of the cases (subject_test.go) as a raw ASGI application: no framework stands between a case and the worker."""

import asyncio
import os
import resource
import signal
from urllib.parse import parse_qs

from helve import serve

events: dict = {}
texts: dict = {}
wrote = 0  # bytes that /down has written


def event(name):
    return events.setdefault(name, asyncio.Event())


def happen(name, text=""):
    if not event(name).is_set():
        texts[name] = text
        event(name).set()


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Request:
    """One request, in short."""

    def __init__(self, scope, receive, send):
        self.scope, self.receive, self.message = scope, receive, send
        self.path = scope["path"].removeprefix(scope["root_path"])
        self.query = {k: v[0] for k, v in parse_qs(scope["query_string"].decode()).items()}
        self.trailers = []

    def header(self, name):
        return next((v for k, v in self.scope["headers"] if k == name), b"")

    async def parts(self):
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client has left")
            if message["body"]:
                yield message["body"]
            if not message["more_body"]:
                self.trailers = message.get("trailers", [])
                return

    async def start(self, status=200, headers=(), **more):
        await self.message({"type": "http.response.start", "status": status, "headers": list(headers), **more})

    async def send(self, body, more=True):
        await self.message({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, body="", status=200, headers=()):
        body = body.encode() if isinstance(body, str) else body
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.send(body, False)


async def await_event(r):
    name = r.path.partition("/await/")[2]
    await event(name).wait()
    await r.answer(texts[name])


async def happens(r):
    happen(r.path.partition("/happen/")[2])
    await r.answer()


async def echo(r):
    body = b"".join([part async for part in r.parts()])
    await r.answer(body, headers=[(k, v) for k, v in r.scope["headers"] if k in (b"content-type", b"content-encoding")])


async def request(r):
    fields: dict = {}
    for name, value in r.scope["headers"]:
        if name.startswith(b"x-"):
            fields.setdefault("-".join(p.capitalize() for p in name.decode().split("-")), []).append(value.decode())
    shown = " ".join(sorted(f"{name}={'|'.join(values)}" for name, values in fields.items()))
    s, query = r.scope, r.scope["query_string"].decode()
    raw = s["raw_path"].decode()
    proto = {"1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2.0"}[s["http_version"]]
    length = r.header(b"content-length").decode() or ("-1" if r.header(b"transfer-encoding") else "0")
    uri = raw + ("?" + query if query else "")
    await r.answer(f"{s['method']} {proto} {r.path} {raw.removeprefix(s['root_path'])}?{query} {r.header(b'host').decode()} {length} {uri} [{shown}]")


async def flush(r):
    await r.start()
    await r.send(b"one")
    await event(r.query["event"]).wait()
    await r.send(b"two", False)


async def trailers(r):
    await r.start(trailers=True)
    await r.send(b"body", False)
    await r.message({"type": "http.response.trailers", "headers": [(b"x-sum", b"7"), (b"x-late", b"8")]})


async def hints(r):
    await r.message({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    await r.answer("body")


async def status(r):
    code = int(r.path.rpartition("/")[2])
    if code in (204, 304):
        await r.start(code)
        await r.send(b"x", False)  # which is not sent
    else:
        await r.answer(f"status {code}", code)


async def headers(r):
    large = [(b"x-large-%d" % i, b"x" * 1000) for i in range(int(r.query.get("bytes", 0)) // 1000)]
    await r.answer("body", headers=[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), *large])


async def redirect(r):
    await r.answer("Found", 302, [(b"location", r.scope["root_path"].encode() + b"/target")])


async def guess(r):  # a server of ASGI does not guess
    await r.answer("<html><body>", headers=[(b"content-type", b"text/html; charset=utf-8")])


async def short(r):
    await r.start(headers=[(b"content-length", b"10")])
    await r.send(b"short")
    await r.send(b"", False)


async def long(r):
    await r.start(headers=[(b"content-length", b"3")])
    try:
        await r.send(b"long", False)
    except RuntimeError as e:
        happen("long", f"Content-Length: {e}")
    await r.send(b"a")
    await r.send(b"", False)


async def ignore(r):
    await r.answer("too large for me\n", 413)


async def total(r):
    n = 0
    async for part in r.parts():
        n += len(part)
    shown = " ".join(sorted(f"{k.decode().title()}:[{v.decode()}]" for k, v in r.trailers))
    await r.answer(f"{n} <nil> map[{shown}]")


async def duplex(r):
    await r.start()
    await r.send(b"")
    async for part in r.parts():
        await r.send(part)
    await r.send(b"", False)


async def up(r):
    before, n = memory(), 0
    async for part in r.parts():
        n += len(part)
    await r.answer(f"{n} EOF {memory() - before}")


async def down(r):
    global wrote
    before, done, part = memory(), 0, bytes(64 << 10)
    await r.start(trailers=True)
    try:
        while done < int(r.query["bytes"]):
            await r.send(part)
            wrote = done
            done += len(part)
    except BaseException:
        happen("down ended")
        raise
    await r.send(b"", False)
    await r.message({"type": "http.response.trailers", "headers": [(b"x-growth", str(memory() - before).encode())]})


async def get_wrote(r):
    await r.answer(str(wrote))


async def hold(r):
    name = r.query["event"]
    happen("held " + name)
    try:
        await event(name).wait()
    except asyncio.CancelledError:
        happen("left " + name)
        raise
    await r.answer()


async def read(r):
    got = b""
    try:
        async for part in r.parts():
            got += part
            if len(got) >= 5:
                happen("read", got[:5].decode())
    except BaseException:
        happen("read ended", "true")
        raise
    happen("read ended", "false")
    await r.answer()


async def panic(r):
    raise ValueError("a secret")


async def late_panic(r):
    await r.start()
    await r.send(b"begun")
    raise ValueError("a secret")


async def late(r):
    happen("waits " + r.query["event"])
    if r.path.endswith("/flushed"):
        await r.start()
        await r.send(b"begun")
    await asyncio.Event().wait()


async def die(r):
    n = int(r.query.get("after", 0))
    if n:
        await r.start()
        await r.send(bytes(n))
        await event("die").wait()
    os.kill(os.getpid(), signal.SIGKILL)


async def deadline(r):  # of a Read: ASGI has none
    await r.answer("true")


async def brew(r):
    await r.answer(f"{r.scope['method']} {r.path}")


PATHS = {
    "await": await_event, "happen": happens, "echo": echo, "request": request, "flush": flush, "trailers": trailers, "hints": hints, "status": status,
    "headers": headers, "redirect": redirect, "guess": guess, "short": short, "long": long, "ignore": ignore, "sum": total, "duplex": duplex, "up": up,
    "down": down, "wrote": get_wrote, "hold": hold, "read": read, "panic": panic, "late-panic": late_panic, "abort": late_panic, "die": die, "deadline": deadline,
    "pot": brew, "late": late,
}


async def websocket(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept", "subprotocol": next((p for p in ("b", "a") if p in scope["subprotocols"]), None)})
    if scope["path"].endswith("/close"):
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        return
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
    happen("closed", str(message["code"]))


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
    elif scope["type"] == "http":
        r = Request(scope, receive, send)
        handler = PATHS.get(r.path.split("/")[1])
        await (handler(r) if handler else r.answer("no such path", 404))
    else:
        raise RuntimeError("no lifespan")


@serve.ingress(app)
class Subject:
    pass
