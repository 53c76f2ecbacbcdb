"""The driver's side: the node that a program starts as its child, and the connection to it."""

from __future__ import annotations

import asyncio
import atexit
import base64
import concurrent.futures
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Optional

from helve import _fork, _limits, _runtime
from helve._pickling import dumps
from helve._opening import open_connection
from helve._wire import Connection
from helve.serve._http_options import HTTPSettings
from helve.serve.deployment import Graph
from helve._errors import RayServeException, TooLargeError

EXIT_TIME = 40  # seconds that a node may drain; its own limit is 30
SEEN_TIME = 1.0  # seconds between the end of a connection and the end of its node, in which the driver waits for the node's exit status

logger = logging.getLogger("helve.serve")
_lock = threading.Lock()
_driver: Optional["Driver"] = None
_http: Optional[HTTPSettings] = None  # the last options of serve.start: a node that is started again has them too
_inherited: list = []  # drivers of the processes that this one was forked from


def ensure(http: Optional[HTTPSettings]) -> "Driver":
    """The driver of this process. It is started if need be, with these HTTP options or the last ones."""
    global _driver, _http
    with _lock:
        if _driver is not None and _driver.conn.lost is not None:
            _driver.close()
            _driver = None
        if _driver is not None and http is not None and http != _driver.http:
            if _driver.http_ready:
                logger.warning("serve.start: the node runs with %s already, and the other options have no effect; call serve.shutdown() first", _driver.http)
                http = None
            else:
                _driver.http = http
        _http = http or _http
        if _driver is None:
            _driver = Driver(_http or HTTPSettings())
        return _driver


def options() -> HTTPSettings:
    """The HTTP options of the node that runs, or of the next one."""
    driver = _driver
    return driver.http if driver is not None and driver.conn.lost is None else _http or HTTPSettings()


def running() -> "Driver":
    driver = _driver
    if driver is None or driver.conn.lost is not None:
        _runtime.current()  # raises with the reason, if there is none
        raise RayServeException(_runtime.NONE)
    return driver


def _in_child() -> None:
    """Runs after a fork: the node is the parent's child, and locks may be held by threads that do not exist in the
    child.
    """
    global _driver, _lock
    _lock = threading.Lock()
    if _driver is not None:
        _driver.process.returncode = 0  # this process can neither wait for it nor end it
        _inherited.append(_driver)
        _driver = None


os.register_at_fork(after_in_child=_in_child)


def shutdown() -> None:
    global _driver
    with _lock:
        driver, _driver = _driver, None
    if driver is not None:
        driver.close()


atexit.register(shutdown)


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

    def __init__(self, http: HTTPSettings):
        self.http, self.http_ready = http, False
        self.ingress: dict[str, str] = {}
        self.closing, self.refused = False, ""
        self.ended = threading.Event()
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        for fd in (ours.fileno(), theirs.fileno(), read):
            _fork.hold(fd)
        token = os.urandom(32)
        os.write(write, token)
        os.close(write)
        try:
            # A session of its own: a Ctrl-C in the terminal reaches this program, which ends the node with its
            # connection.
            limit = os.environ.get("HELVE_MAX_BODY")
            self.process = subprocess.Popen(
                [binary(), "node", "--driver-fd", str(theirs.fileno()), "--token-fd", str(read), *(["--max-body", limit] if limit else [])],
                pass_fds=(theirs.fileno(), read), stdin=subprocess.DEVNULL, stdout=sys.__stderr__, start_new_session=True,
            )
        except BaseException as e:
            ours.close()
            if not isinstance(e, OSError):
                raise
            raise RayServeException(f"the node did not start: {e}") from None
        finally:
            _fork.release(theirs.fileno())
            theirs.close()
            _fork.release(read)
            os.close(read)
        try:
            welcome = open_connection(ours, token, "driver", "")
        except BaseException as e:  # a Ctrl-C, for example
            ours.close()
            how = self._how_it_ended(SEEN_TIME)
            self.process.kill()
            self.process.wait()
            if not isinstance(e, (OSError, ValueError, KeyError)):
                raise
            raise RayServeException(f"the node did not start: {how or e}") from None
        self.fd = ours.fileno()
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
        try:
            self.loop.run_until_complete(self.loop.create_unix_connection(lambda: self.conn, sock=sock))
            self.ready.set()
            self.loop.run_forever()
        finally:
            if self.conn.lost is None:
                self.conn.connection_lost(None)
            self.loop.close()
            self.conn.take_posted_here()  # functions that came too late for the loop
            self.ready.set()

    def control(self, op: str, **fields: Any) -> dict:
        future: concurrent.futures.Future = concurrent.futures.Future()
        self.conn.post(self.conn.ask, future, op, _limits.request(op, fields))
        reply = future.result()
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
                self.control("http", **self.http.for_node())
            except RuntimeError as e:
                raise RuntimeError(
                    f"HTTP on {self.http.host}:{self.http.port} is not possible: {e}; choose another with "
                    f"serve.start(http_options={{'port': ...}}), or none with 'port': None"
                ) from None
            self.http_ready = True
        from helve.serve import _environment

        app = {
            "name": graph.app_name, "route_prefix": route_prefix, "ingress": graph.ingress, "python": sys.executable,
            "sys_path": [p or os.getcwd() for p in sys.path], "cwd": os.getcwd(), "env": {}, "runtime_env": _environment.program(),
            "blob": base64.b64encode(dumps(graph.code)).decode(), "deployments": graph.deployments,
        }
        try:
            return self.control("deploy", app=app)["url"]
        except TooLargeError as e:
            raise TooLargeError(f"application {graph.app_name!r} with what its deployments are bound to: {e}") from None

    def close(self) -> None:
        """Ends the connection, which ends the node, after a drain."""
        self.closing = True
        if _runtime.connection is self.conn:
            _runtime.connection = None
        self.conn.post(self._end)
        self.thread.join(5)
        try:
            self.process.wait(EXIT_TIME)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.thread.join(5)

    def _end(self) -> None:
        if self.conn.lost is None:
            self.conn.transport.close()

    def _how_it_ended(self, timeout: float) -> str:
        """The end of the node as text; "" if it goes on."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return ""
        if code >= 0:
            return f"it ended with exit status {code}"
        try:
            return f"it was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"it was ended by signal {-code}"

    # ---- events of the connection

    def ending(self) -> str:
        """The error of waiting calls when the connection has ended. It runs on the loop."""
        if self.closing:
            return "serve.shutdown() has ended the node"
        why = self.refused or self._how_it_ended(SEEN_TIME)
        return "the node has gone away" + (": " + why if why else "")

    def on_lost(self, error: BaseException) -> None:
        _fork.release(self.fd)
        self.loop.stop()
        self.ended.set()

    def on_goaway(self, goaway: dict) -> None:
        self.refused = f"it ended the connection: {goaway.get('message')}"

    def on_route(self, number: int, route: dict) -> None:
        raise ValueError("a driver has no replicas")

    def on_control(self, id: int, request: dict, raw: bytes) -> None:
        raise ValueError("a driver answers no control requests")

    on_call = on_cancel = on_credit = on_upload = on_route
