"""The driver's side: the connection to a node that the program has started as its child, or that another program of the user has started."""

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
import time
from pathlib import Path
from typing import Any, Callable, Optional

from helve import __version__, _find, _fork, _guard, _limits, _metrics, _runtime, _spans
from helve._pickling import dumps
from helve._opening import RefusedError, open_connection
from helve._wire import Connection
from helve.serve._http_options import Command, HTTPSettings
from helve.serve._deploying import ControlError, failure
from helve.serve._deploying import wait as waiting
from helve.serve._deploying import unchanged, warn_of_left
from helve.serve.deployment import Graph
from helve._errors import RayServeException, ReplicaUnavailableError, TooLargeError
from helve._wake import Wake

EXIT_TIME = 40  # seconds that a node may drain; its own limit is 30
CUT_TIME = 8.0  # seconds that a node may take to end when it drains no longer: a replica has 5 to close
QUIET_TIME = 2.0  # seconds of a drain after which a line says what it waits for
SEEN_TIME = 1.0  # seconds between the end of a connection and the end of its node, in which the driver waits for the node's exit status
AGAIN = 10.0  # seconds that a program waits for a durable node that is being started again
EVERY = 0.02  # seconds between two looks whether it is there
IDLE = 0.1  # seconds between two looks whether a connection to a node that has handed over is still needed
HANDOVER = "handover"  # the reason of a GOAWAY: another node has taken the place of this one, which ends the calls that it has

logger = logging.getLogger("helve.serve")
_lock = threading.Lock()
_driver: Optional["Driver"] = None
_http: Optional[HTTPSettings] = None  # the last options of serve.start: a node that is started again has them too
_inherited: list = []  # drivers of the processes that this one was forked from
_aside: list = []  # drivers of nodes that this process was attached to before
_ended: Optional["Attached"] = None  # the driver whose durable node has gone away, until the next one answers
_coming: Any = None  # the ComingConnection of the calls that were made last on an event loop without a connection
_chosen: Optional[dict] = None  # the variables as they were before use()
command = Command()  # what the command line, or its variables, says about the node
served = ""  # the directory of the node for which this process loads applications, under `helve run --reload`
PARENT = "HELVE_PARENT_NODE"  # a variable that is equal to HELVE_NODE if a driver has set that for the programs that it starts


class _AwayError(Exception):
    """A durable node that is being started again does not answer yet. error is the exception for the user if it does not come back."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


def _patiently(attempt: Callable[[], "Driver"]) -> "Driver":
    """The result of a function that is called under the lock, again while the node that it looks for is being started again. For example, a node is
    killed, and 300 ms later its keeper has started the next one: a call that was made meanwhile goes there.
    """
    until = 0.0
    if _runtime.building:
        raise RayServeException(
            "a node imports this module to build an application from it, and has no connection for it: call serve.run and handles under "
            'if __name__ == "__main__", or in the methods of deployments'
        )
    while True:
        try:
            with _lock:
                return attempt()
        except _AwayError as e:
            until = until or time.monotonic() + AGAIN
            if time.monotonic() > until:
                raise e.error from None
        time.sleep(EVERY)


def ensure(http: Optional[HTTPSettings], search: bool = True) -> "Driver":
    """The driver of this process for serve.run: of the node that HELVE_NODE names, else of the durable node of this user that a search finds, else of a
    node of its own, which is started if need be, with these HTTP options or the last ones. A program whose parent is the driver of a node has a node of
    its own: it does not replace its parent's applications, although HELVE_NODE leads its handles there.
    """
    if http is not None:
        http = command.over(http)
    return _patiently(lambda: _ensure(http, search and command.search))


def _ensure(http: Optional[HTTPSettings], search: bool) -> "Driver":
    global _driver, _http
    _drop_lost()
    if _driver is None or _driver.process is None:
        path = _named(for_run=True)
        if path is None and search and not os.environ.get(_find.ENV):
            path = _ended.dir if _ended is not None and _ended.comes_back() else _find.only(_find.durable())
        if path is not None:
            driver = _attach(path)
            if driver.loads:
                driver.http = http or driver.http
            elif http is not None:
                logger.warning("serve.start: the node at %s runs already, and the HTTP options have no effect", driver.dir)
            return driver
        if _runtime.in_worker():
            raise RayServeException("this node takes no other programs, so applications cannot be changed inside of a replica: do it in a driver")
        _set_aside()
    if _driver is not None and http is not None and http != _driver.http:
        if _driver.http_ready:
            logger.warning("serve.start: the node runs with %s already, and the other options have no effect; call serve.shutdown() first", _driver.http)
            http = None
        else:
            _driver.http = http
    _http = http or _http
    if _driver is None:
        _driver = Child(_http or command.over(HTTPSettings()))
    return _driver


def present() -> Optional["Driver"]:
    """The driver of this process that there is already; None for none, also if its node has ended."""
    driver = _driver
    return driver if driver is not None and driver.conn.lost is None else None


def own(http: HTTPSettings) -> "Driver":
    """Starts a node of this process, without HTTP: the loaders of `helve run --reload` open that."""
    global _driver
    with _lock:
        _driver = Child(command.over(http))
        return _driver


def options() -> HTTPSettings:
    """The HTTP options of the node that runs, or of the next one."""
    driver = _driver
    return driver.http if driver is not None and driver.conn.lost is None else _http or HTTPSettings()


def running() -> "Driver":
    """The driver of this process. Without one it attaches to the node that HELVE_NODE names, else to the only durable one of this user, else to the only
    other one. It waits for a durable node that is being started again.
    """
    return _patiently(_running)


def connection() -> Any:
    """The connection for calls: that of running(). On an event loop it does not wait for a node that is being started again. A ComingConnection takes the
    calls meanwhile, and the other tasks of the loop go on.
    """
    global _coming
    if asyncio._get_running_loop() is None:
        return running().conn
    driver = _driver
    if _ended is None and (driver is None or driver.process is not None or not driver.left and driver.conn.lost is None):
        try:
            with _lock:
                return _running().conn
        except _AwayError:
            pass
    if _coming is None or _coming.settled:
        from helve._coming import ComingConnection

        _coming = ComingConnection(lambda: running().conn)
    return _coming


def _running() -> "Driver":
    global _ended
    driver, before = _driver, ""
    named = _named()
    if driver is not None and driver.conn.lost is None:
        if driver.left:
            return _attach(driver.next, searched=driver.searched)
        if not driver.searched or named is None:
            return driver
    elif driver is not None:
        if driver.process is not None:
            raise ReplicaUnavailableError(f"{driver.conn.over.exception()}; serve.run(app) starts another")
        before = f"{driver.conn.over.exception()}; "
        _drop_lost()
    path, searched = named, named is None
    if _ended is not None:
        before = f"{_ended.conn.over.exception()}; "
        if path is None and _ended.comes_back():
            path, searched = _ended.dir, _ended.searched
    if path is None and os.environ.get(_find.ENV) != _find.OWN:
        path = _find.only()
    if path is None:
        _ended = None
        raise (ReplicaUnavailableError if before else RayServeException)(before + _runtime.NONE)
    return _attach(path, before, searched)


def acting(what: str) -> "Driver":
    """The driver of this process for a change of what runs, such as the end of an application. A node that only the search has found belongs to
    another program, unless it is durable, and is not changed: for example, a test that calls serve.delete("default") before its first serve.run would
    otherwise end the application that a notebook serves.
    """
    driver = running()
    if driver.searched and not driver.durable:
        raise RayServeException(
            f"{what} does not change the node that a search has found, which another program has started ({driver.dir}: {_find.describe(driver.dir)}). "
            f"Set {_find.ENV}={driver.dir} if that node is meant; serve.run(app) starts a node of this program"
        )
    return driver


def _named(for_run: bool = False) -> Optional[str]:
    """The directory that HELVE_NODE names. A value that a driver has set for the programs that it starts does not count for serve.run, except in a
    replica.
    """
    value = os.environ.get(_find.ENV)
    if not value or value == _find.OWN or for_run and value != served and value == os.environ.get(PARENT) and not _runtime.in_worker():
        return None
    return _find.directory(value)


def use(path: str) -> "Driver":
    """Attaches to the node of a directory or socket, for all that this process does until shutdown()."""
    path = _find.directory(path)

    def attempt() -> "Driver":
        _drop_lost()
        driver = _attach(path)
        _choose(path)
        return driver

    return _patiently(attempt)


def at(address: str, http: Optional[HTTPSettings]) -> "Driver":
    """The driver of the node of an address: a directory or socket, "auto" for the node that a search finds, "local" for a node of its own."""
    if address == _find.OWN:
        with _lock:
            _drop_lost()
            if _driver is None or _driver.process is None:
                _set_aside()
                _choose(_find.OWN)
        return ensure(http)
    if address == "auto":
        found = _named() or _find.only()
        if found is None:
            raise RayServeException("serve.start(address='auto'): no node of this user runs here; helve start starts one that stays")
        address = found
    driver = use(address)
    if http is not None:
        logger.warning("serve.start: the node at %s runs already, and the HTTP options have no effect", driver.dir)
    return driver


def _choose(value: str) -> None:
    """Sets HELVE_NODE until shutdown()."""
    global _chosen
    if _chosen is None:
        _chosen = {name: os.environ.get(name) for name in (_find.ENV, PARENT)}
    os.environ[_find.ENV] = value
    os.environ.pop(PARENT, None)


def _attach(path: str, before: str = "", searched: bool = False) -> "Driver":
    """The driver of the node of a directory. The lock is held."""
    global _driver, _ended
    if _driver is not None and path in (_driver.dir, _driver.path) and not _driver.left:
        _driver.searched = searched
        return _driver
    try:
        driver = Attached(path)
    except RefusedError as e:
        raise RayServeException(f"{before}the node at {path} refuses this program: {e}") from None
    except _find.NotThereError as e:
        kind = ReplicaUnavailableError if before else RayServeException
        advice = f"; set {_find.ENV} to the directory of a node, or unset it" if _named() == path else ""
        error = kind(f"{before}no node runs at {path}: {e}{advice}")
        if _ended is not None and _ended.comes_back() or _driver is not None and _driver.left or _find.kept(path):
            raise _AwayError(error) from None
        _ended = None
        raise error from None
    if _driver is not None and _driver.left and driver.pid == _driver.pid:  # the next node does not answer yet
        driver.close()
        raise _AwayError(ReplicaUnavailableError(f"the node at {path} has ended, and no other has taken its place"))
    for known in (_driver, _ended):
        if known is not None and known.dir == driver.dir:
            driver.ingress.update(known.ingress)
    _set_aside()
    _driver, _ended, driver.searched = driver, None, searched
    if not _runtime.in_worker():
        _runtime.connection = driver.conn
        _metrics.again()
    return driver


def _drop_lost() -> None:
    global _driver, _ended
    _aside[:] = [d for d in _aside if not d.left or d.conn.lost is None]
    if _driver is not None and _driver.conn.lost is not None:
        _driver.close()
        if isinstance(_driver, Attached) and _driver.durable:
            _ended = _driver
        _driver = None


def _set_aside() -> None:
    """Makes room for the driver of another node. Calls of the one before go on."""
    global _driver
    if _driver is not None:
        _aside.append(_driver)
        _driver = None


def _in_child() -> None:
    """Runs after a fork: the node is the parent's child, and locks may be held by threads that do not exist in the
    child.
    """
    global _driver, _ended, _coming, _lock
    _lock = threading.Lock()
    for driver in (_driver, *_aside):
        if driver is not None:
            if driver.process is not None:
                driver.process.returncode = 0  # this process can neither wait for it nor end it
            _inherited.append(driver)
    _driver = _ended = _coming = None
    _aside.clear()


os.register_at_fork(after_in_child=_in_child)


def shutdown() -> None:
    """Ends the node that this program has started. The node of another program lives on: only the connection to it ends."""
    global _driver, _chosen, _ended
    with _lock:
        driver, _driver, _ended = _driver, None, None
        aside = _aside[:]
        _aside.clear()
        before, _chosen = _chosen, None
    _set_variables(before or {})
    for d in (driver, *aside):
        if d is not None:
            d.close()


def staying() -> list:
    """The applications that this program has deployed to the durable node that it is attached to: they go on after shutdown()."""
    driver = _driver
    return sorted(driver.ingress) if driver is not None and driver.durable and not _runtime.in_worker() else []


def _author() -> str:
    """The user, the host and this process, for the history of applications."""
    try:
        import pwd

        user = pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # a container without a list of users
        user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


def _program() -> str:
    """The file of this program; "" for a notebook or python -c."""
    file = sys.argv[0] if sys.argv else ""
    return os.path.abspath(file) if file and file != "-c" and os.path.exists(file) else ""


def _at_exit() -> None:
    try:
        shutdown()
    except KeyboardInterrupt:  # the program has ended already
        pass


atexit.register(_at_exit)


def binary() -> str:
    path = os.environ.get("HELVE_BINARY")
    if path:
        return path
    built = Path(__file__).with_name("_bin") / "helve"
    if not built.exists():
        raise RayServeException(f"the helve binary is not in the package ({built}); reinstall it, or set HELVE_BINARY")
    return str(built)


def _why(path: str) -> str:
    """The reason in the binary itself why a node of it does not start; "" if it seems to be right."""
    from helve import _version

    return _version.why(path)


def _set_variables(values: dict) -> None:
    """Sets environment variables, or takes away those whose value is None."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _open_standard() -> None:
    """Opens the descriptors 0, 1 and 2 if the program was started without them. Else the socket to the node could be 1, in whose place a child process
    has its output.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free


class Driver:
    """A connection to a node, and the thread whose loop serves it."""

    process: Optional[subprocess.Popen] = None  # the node, if it is a child of this program
    searched = False  # the node was found by a search: this program reads its status and calls its deployments, and changes nothing
    loads = False  # this process loads applications for `helve run --reload`, which has the node
    dir = ""  # in which other programs find the node; "" if they cannot
    path = ""  # by which this program found the node of another one
    durable = False  # the node of another program is durable: `helve start` keeps it, and its applications outlive this program
    left = False  # another node has taken the place of this one, whose calls go on until they have ended
    next = ""  # the directory of that node

    def __init__(self, http: HTTPSettings):
        self.http, self.http_ready = http, False
        self.ingress: dict[str, str] = {}
        self.closing, self.refused = False, ""
        self.ended = Wake()
        self._on_end: list = []

    def _connected(self, sock: socket.socket, welcome: dict) -> None:
        self.fd = sock.fileno()
        self.dir = welcome.get("node") or ""
        _guard.install_hooks()
        sock.setblocking(False)
        self.loop = asyncio.new_event_loop()
        self.conn = Connection(self.loop, self)
        self.conn.agreed(welcome)
        self.thread = threading.Thread(target=self._serve, args=(sock,), name="helve-driver", daemon=True)
        self.conn.thread = self.thread
        self.ready = threading.Event()
        self.thread.start()
        self.ready.wait()

    def _serve(self, sock: socket.socket) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self.loop.create_unix_connection(lambda: self.conn, sock=sock))
            self.ready.set()
            self.loop.run_forever()
        finally:
            self.conn.thread_id = 0  # the loop runs no more, and the system may use the thread's number anew
            if self.conn.lost is None:
                self.conn.connection_lost(None)
            self.loop.close()
            self.conn.take_posted_here()  # functions that came too late for the loop
            self.ready.set()

    def ask(self, op: str, **fields: Any) -> dict:
        """The node's reply to a request, which may be {"error": ...}."""
        if threading.current_thread() is self.thread:
            raise RuntimeError("the thread that receives the answer cannot wait for it")
        return self.request(op, **fields).result()

    def request(self, op: str, **fields: Any) -> concurrent.futures.Future:
        """Sends a request. The future has the node's reply."""
        future: concurrent.futures.Future = concurrent.futures.Future()
        self.conn.post(self.conn.ask, future, op, _limits.request(op, fields))
        return future

    def control(self, op: str, **fields: Any) -> dict:
        """The node's reply to a request. An error is a RuntimeError."""
        return self.checked(self.ask(op, **fields))

    def checked(self, reply: dict) -> dict:
        """The reply, unless it is an error."""
        error = reply.get("error")
        if error:
            text = error["message"]
            if error.get("traceback"):
                text += "\n\n" + error["traceback"].rstrip()
            raise ControlError(text, error.get("reason", ""), error.get("type", ""))
        return reply

    def open_http(self) -> None:
        if not self.http_ready:
            try:
                self.control("http", **self.http.for_node())
            except RuntimeError as e:
                port = f"choose another with {command.where}"
                port += self._neighbours() if "in use" in str(e) else ""
                advice = port if "listen " in str(e) else "correct it in serve.start(http_options=...)"  # a file of a certificate, for example
                raise RuntimeError(f"HTTP on {self.http.host}:{self.http.port} is not possible: {e}; {advice}") from None
            self.http_ready = True

    def _neighbours(self) -> str:
        """The other nodes of this user, for the error of a port that is in use; "" without any."""
        others = [d for d in _find.running() if d != self.dir]
        lines = "".join(f"\n  {_find.ENV}={d}   {_find.describe(d)}" for d in others)
        return f". To run this application in a node that runs already, start the program with its directory:{lines}" if others else ""

    def deploy(self, graph: Graph, route_prefix: Optional[str], wait: bool = True, runtime_env: Optional[dict] = None) -> str:
        """Deploys an application, waits until it is ready if wait is set, and returns the URL of the HTTP ingress; "" without one. runtime_env is
        that of the application, over the program's.
        """
        from helve import _secret
        from helve.serve import _environment

        self.open_http()
        env = {"HELVE_RAY_COMPAT": "1"} if os.environ.get("HELVE_RAY_COMPAT") else {}
        if self.loads:
            from helve import _loader

            env = _loader.prepared(graph, env)
        app: dict = {
            "name": graph.app_name, "route_prefix": route_prefix, "ingress": graph.ingress, "docs_path": graph.docs_path(), "python": sys.executable,
            "sys_path": [p or os.getcwd() for p in sys.path], "cwd": os.getcwd(), "env": env, "runtime_env": _environment.merge(_environment.program(), runtime_env),
            "blob": base64.b64encode(dumps(graph.code)).decode(), "deployments": _secret.sealed(graph.deployments),
            "author": _author(), "program": _program(),
        }
        if self.durable:
            from helve import _code

            app["sys_path"], app["own"] = list(map(os.path.abspath, app["sys_path"])), _code.own_entries()
        try:
            reply = self.request("deploy", app=app, background=not wait)
            deployed = self.checked(waiting(graph.app_name, reply, lambda: self.control("status")))
        except ControlError as e:
            raise failure(graph.app_name, e) from None
        except TooLargeError as e:
            raise TooLargeError(f"application {graph.app_name!r} with what its deployments are bound to: {e}") from None
        except ReplicaUnavailableError as e:
            if not self.durable:
                raise
            raise ReplicaUnavailableError(f"{e}; serve.status() says what has become of application {graph.app_name!r}") from None
        if deployed.get("left"):
            warn_of_left(deployed["left"], app["own"])
        for notice in deployed.get("notices") or ():
            print(f"warning: {notice}.", file=sys.stderr, flush=True)
        if deployed.get("unchanged"):
            unchanged(graph.app_name)
        return deployed["url"]

    def close(self) -> None:
        """Ends the connection."""
        _metrics.finish()  # another program's node goes on
        _spans.finish(self.conn)
        self.closing = True
        if _runtime.connection is self.conn:
            _runtime.connection = None
        self.conn.post(self._end)
        self.thread.join(5)

    def _end(self) -> None:
        if self.conn.lost is None:
            self.conn.transport.close()

    def _how_it_ended(self, timeout: float) -> str:
        """The end of the node as text; "" if it is not known."""
        return ""

    # ---- events of the connection

    def ending(self) -> str:
        """The error of waiting calls when the connection has ended. It runs on the loop."""
        if self.closing:
            return "serve.shutdown() has ended the node" if self.process is not None else "serve.shutdown() has ended the connection to the node"
        why = self.refused or self._how_it_ended(SEEN_TIME)
        return "the node has gone away" + (": " + why if why else "")

    def on_end(self, tell: Callable[[], None]) -> None:
        """Calls a function when the connection has ended, or at once."""
        self._on_end.append(tell)
        if self.ended.is_set():
            tell()

    def on_lost(self, error: BaseException) -> None:
        _fork.release(self.fd)
        self.loop.stop()
        self.ended.set()
        for tell in self._on_end:
            tell()

    def on_goaway(self, goaway: dict) -> None:
        if self.durable and goaway.get("reason") == HANDOVER:
            self.next = goaway.get("node") or self.dir
            self.left = True
            if _runtime.connection is self.conn:
                _runtime.connection = None  # the next call looks for the next node
            self.loop.call_later(IDLE, self.end_when_idle)  # a thread may be about to start a call here
            return
        self.refused = f"it ended the connection: {goaway.get('message')}"

    def on_route(self, number: int, route: dict) -> None:
        raise ValueError("a driver has no replicas")

    def on_control(self, id: int, request: dict, raw: bytes) -> None:
        raise ValueError("a driver answers no control requests")

    on_call = on_cancel = on_credit = on_upload = on_route

    def end_when_idle(self) -> None:
        """Ends the connection to a node that has handed over when nothing of this program is left there: a call, a request or a kept result. It runs on the
        loop.
        """
        conn = self.conn
        if conn.under_way or conn.controls or conn.later or conn.kept:
            self.loop.call_later(IDLE, self.end_when_idle)
        else:
            self._end()


class Attached(Driver):
    """The driver of a node that another program has started."""

    def __init__(self, path: str):
        super().__init__(command.over(HTTPSettings()))
        self.loads = path == served
        self.http_ready = not self.loads
        sock, welcome, self.pid = _find.dial(path)
        _fork.hold(sock.fileno())
        self.path, self.durable, self.since = path, bool(welcome.get("durable")), float("inf")
        self._connected(sock, {**welcome, "node": welcome.get("state") if self.durable else path})

    def on_lost(self, error: BaseException) -> None:
        self.since = time.monotonic()
        super().on_lost(error)

    def comes_back(self) -> bool:
        """Whether another node takes the place of this one, which has gone away, or may do so yet."""
        return self.durable and (time.monotonic() - self.since < AGAIN or _find.kept(self.dir))

    def _how_it_ended(self, timeout: float) -> str:
        return f"the process {self.pid}, at {self.dir}"


class Child(Driver):
    """The driver of a node that is a child of this program."""

    def __init__(self, http: HTTPSettings):
        super().__init__(http)
        ours, welcome = self._start()
        self.before = {name: os.environ.get(name) for name in (_find.ENV, PARENT)}
        if welcome.get("node"):  # set before the thread starts, which takes the variables back when the node ends
            os.environ[_find.ENV] = os.environ[PARENT] = welcome["node"]
        self._connected(ours, welcome)
        _runtime.connection = self.conn
        _metrics.again()

    def _start(self) -> tuple:
        """Starts the node. The result is the socket to it, and its HELLO."""
        _open_standard()
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        for fd in (ours.fileno(), theirs.fileno(), read):
            _fork.hold(fd)
        token = os.urandom(32)
        os.write(write, token)
        os.close(write)
        path = binary()
        try:
            # A session of its own: a Ctrl-C in the terminal reaches this program, which ends the node with its
            # connection.
            self.process = subprocess.Popen(
                [path, "node", "--driver-fd", str(theirs.fileno()), "--token-fd", str(read), *command.flags],
                pass_fds=(theirs.fileno(), read), stdin=subprocess.DEVNULL, stdout=sys.__stderr__, start_new_session=True,
            )
        except BaseException as e:
            ours.close()
            if not isinstance(e, OSError):
                raise
            raise RayServeException(f"the node did not start: {_why(path) or e}") from None
        finally:
            _fork.release(theirs.fileno())
            theirs.close()
            _fork.release(read)
            os.close(read)
        try:
            welcome = open_connection(ours, token, "driver", "")
            if welcome.get("version") != __version__:
                raise RayServeException(f"the node did not start: {_why(path)}")
        except BaseException as e:  # a Ctrl-C, for example
            ours.close()
            how = self._how_it_ended(SEEN_TIME)
            self.process.kill()
            self.process.wait()
            if not isinstance(e, (OSError, ValueError, KeyError)):
                raise
            raise RayServeException("the node did not start: " + "; ".join(filter(None, (str(e) if isinstance(e, RefusedError) else how or str(e), _why(path))))) from None
        return ours, welcome

    def close(self) -> None:
        """Ends the connection, which ends the node, after a drain. A Ctrl-C cuts the drain off."""
        super().close()
        try:
            self._wait_for_drain()
        except KeyboardInterrupt:  # of a user who does not want to wait
            self.process.terminate()
            self._wait_or_kill(CUT_TIME)
            raise
        self.thread.join(5)

    def _wait_for_drain(self) -> None:
        try:
            self.process.wait(QUIET_TIME)
        except subprocess.TimeoutExpired:
            print("The node waits for calls that still run, at most graceful_shutdown_timeout_s of their deployments; Ctrl-C ends them.", file=sys.stderr, flush=True)
            self._wait_or_kill(EXIT_TIME)

    def _wait_or_kill(self, timeout: float) -> None:
        try:
            self.process.wait(timeout)
        except BaseException as e:  # also another Ctrl-C
            self.process.kill()
            self.process.wait()
            if not isinstance(e, subprocess.TimeoutExpired):
                raise

    def on_lost(self, error: BaseException) -> None:
        _set_variables({name: value for name, value in self.before.items() if self.dir and os.environ.get(name) == self.dir})
        super().on_lost(error)

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
