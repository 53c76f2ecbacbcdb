"""The driver's side: the node that a program starts as its child, and the connection to it."""

from __future__ import annotations

import asyncio
import atexit
import base64
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Optional

from helve import _runtime
from helve._pickling import dumps
from helve._opening import open_connection
from helve._wire import Connection
from helve.serve.config import HTTPOptions
from helve.serve.deployment import Graph
from helve._errors import RayServeException, TooLargeError

EXIT_TIME = 40  # seconds that a node may drain; its own limit is 30

_lock = threading.Lock()
_driver: Optional["Driver"] = None


def ensure(http: Optional[HTTPOptions]) -> "Driver":
    """The driver of this process; it is started if need be, with these HTTP options."""
    global _driver
    with _lock:
        if _driver is not None and _driver.conn.lost is not None:
            _driver.close()
            _driver = None
        if _driver is None:
            _driver = Driver(http or HTTPOptions())
            atexit.register(shutdown)
        elif http is not None and http != _driver.http:
            raise RayServeException(f"the node runs with {_driver.http} already; call serve.shutdown() first")
        return _driver


def running() -> "Driver":
    if _driver is None or _driver.conn.lost is not None:
        raise RayServeException("no application is running: call serve.run(app) first")
    return _driver


def shutdown() -> None:
    global _driver
    with _lock:
        driver, _driver = _driver, None
    if driver is not None:
        driver.close()


def binary() -> str:
    path = os.environ.get("HELVE_BINARY")
    if path:
        return path
    built = Path(__file__).with_name("_bin") / "helve"
    if not built.exists():
        raise RayServeException(f"the helve binary is not in the package ({built}); reinstall it, or set HELVE_BINARY")
    return str(built)


class Driver:
    """A node as a child, a connection to it, and the thread whose loop serves the connection."""

    def __init__(self, http: HTTPOptions):
        self.http, self.http_ready = http, False
        self.ingress: dict[str, str] = {}
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        token = os.urandom(32)
        os.write(write, token)
        os.close(write)
        try:
            # A session of its own: a Ctrl-C in the terminal reaches this program, which ends the node with its connection.
            limit = os.environ.get("HELVE_MAX_BODY")
            self.process = subprocess.Popen(
                [binary(), "node", "--driver-fd", str(theirs.fileno()), "--token-fd", str(read), *(["--max-body", limit] if limit else [])],
                pass_fds=(theirs.fileno(), read), stdin=subprocess.DEVNULL, stdout=sys.__stderr__, start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(read)
        try:
            welcome = open_connection(ours, token, "driver", "")
        except (OSError, ValueError) as e:
            ours.close()
            self.process.wait(EXIT_TIME)
            raise RayServeException(f"the node did not start: {e}") from None
        ours.setblocking(False)
        self.loop = asyncio.new_event_loop()
        self.conn = Connection(self.loop, self)
        self.conn.agreed(welcome)
        self.thread = threading.Thread(target=self._serve, args=(ours,), name="helve-driver", daemon=True)
        self.conn.thread = self.thread
        self.ready = threading.Event()
        self.thread.start()
        self.ready.wait()
        _runtime.connection = self.conn

    def _serve(self, sock: socket.socket) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.loop.create_unix_connection(lambda: self.conn, sock=sock))
        self.ready.set()
        self.loop.run_forever()
        self.loop.close()

    def control(self, op: str, **fields: Any) -> dict:
        async def ask() -> dict:
            return await self.conn.control(op, **fields)

        reply = asyncio.run_coroutine_threadsafe(ask(), self.loop).result()
        error = reply.get("error")
        if error:
            text = error["message"]
            if error.get("traceback"):
                text += "\n\n" + error["traceback"].rstrip()
            raise RuntimeError(text)
        return reply

    def deploy(self, graph: Graph, route_prefix: Optional[str]) -> str:
        if not self.http_ready:
            try:
                self.control("http", host=self.http.host, port=self.http.port)
            except RuntimeError as e:
                raise RuntimeError(
                    f"HTTP on {self.http.host}:{self.http.port} is not possible: {e}; choose another with "
                    f"serve.start(http_options={{'port': ...}}), or none with 'port': None"
                ) from None
            self.http_ready = True
        try:
            blob = dumps(graph.code)
        except Exception as e:
            raise TypeError(f"application {graph.app_name!r} cannot be pickled: {e}") from e
        app = {
            "name": graph.app_name, "route_prefix": route_prefix, "ingress": graph.ingress, "python": sys.executable,
            "sys_path": [p or os.getcwd() for p in sys.path], "cwd": os.getcwd(), "env": {},
            "blob": base64.b64encode(blob).decode(), "deployments": graph.deployments,
        }
        try:
            return self.control("deploy", app=app)["url"]
        except TooLargeError as e:
            raise TooLargeError(f"application {graph.app_name!r} with what its deployments are bound to: {e}") from None

    def close(self) -> None:
        """Ends the connection, which ends the node, after a drain."""
        if _runtime.connection is self.conn:
            _runtime.connection = None
        if not self.loop.is_closed():
            def end() -> None:
                if self.conn.lost is None:
                    self.conn.transport.close()
                else:
                    self.loop.stop()

            self.loop.call_soon_threadsafe(end)
            self.thread.join(5)
        try:
            self.process.wait(EXIT_TIME)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    # ---- what the connection tells

    def on_lost(self, error: BaseException) -> None:
        self.loop.stop()

    def on_goaway(self, goaway: dict) -> None:
        pass

    def on_route(self, number: int, route: dict) -> None:
        raise ValueError("a driver has no replicas")

    def on_control(self, id: int, request: dict, raw: bytes) -> None:
        raise ValueError("a driver answers no control requests")

    on_call = on_cancel = on_credit = on_route
