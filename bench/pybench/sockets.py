"""An ASGI application that accepts WebSockets and waits for messages, in Helve or in uvicorn. It prints its address when it serves, and ends with
its standard input.
"""

import os
import socket
import sys
import threading


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    while (kind := (await receive())["type"]) != "websocket.disconnect":
        if kind == "websocket.connect":
            await send({"type": "websocket.accept"})


def helve(address):
    from helve import serve

    host, port = address
    serve.start(http_options={"host": host, "port": port})

    @serve.deployment(max_ongoing_requests=20000)
    @serve.ingress(app)
    class Sockets:
        pass

    serve.run(Sockets.bind())
    print("%s:%d" % address, flush=True)
    sys.stdin.read()


def uvicorn(listener):
    from uvicorn import Config, Server

    class Announced(Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            print("%s:%d" % listener.getsockname(), flush=True)

    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    Announced(Config(app, log_level="warning")).run([listener])


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    if sys.argv[1] == "uvicorn":
        uvicorn(listener)
    else:
        address = listener.getsockname()
        listener.close()  # the node opens this port, which is free now
        helve(address)
