"""A Python worker: `python -m helve._worker`, started by a node. It hosts one replica on one event loop."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import os
import signal
import socket
import sys
import traceback

from helve import _runtime, _supervise
from helve._encoding import CLOUDPICKLE, decode, dumps, encode, encode_error, envelope, loads
from helve._names import match_name
from helve._stream import Outflow, is_stream
from helve._tasks import make_eager
from helve._wire import (
    END, END_FRAME, FLAG_ERROR, HEADER, MAX_BODY, REPLY, Connection, open_connection, parse_args, parse_call, read_token, request_info,
)
from helve.serve.context import ReplicaContext
from helve.serve.deployment import Deployment, methods_of
from helve._errors import RequestCancelledError

import json

ASYNC, SYNC, STREAM = 0, 1, 2


def _name(fn) -> str:
    return getattr(fn, "__qualname__", type(fn).__name__)


def not_streamed(fn) -> TypeError:
    return TypeError(f"{_name(fn)} is a generator: call it with stream=True (handle.options(stream=True))")


def leave(code: int):
    """Ends the process without waiting for threads of the user."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    os._exit(code)


class Worker:
    """The server half of the connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self.loop = loop
        self.conn = Connection(loop, self)
        self.eager = make_eager(loop)
        self.running: dict[int, asyncio.Task] = {}  # calls that did not finish in their first step
        self.flows: dict[int, Outflow] = {}
        self.routes: dict[int, tuple] = {}  # number -> (kind, callable) or (None, error envelope)
        self.declared: dict[int, dict] = {}
        self.target = self.instance = None
        self.app = self.deployment = self.replica = ""
        self.pool = None
        self.watchdog = None
        if os.environ.get("RAY_SERVE_RUN_SYNC_IN_THREADPOOL") == "1":
            from concurrent.futures import ThreadPoolExecutor

            self.pool = ThreadPoolExecutor(thread_name_prefix="helve-sync")

    # ---- calls in

    def on_route(self, number: int, route: dict) -> None:
        self.declared[number] = route
        self.routes.pop(number, None)

    def resolve(self, number: int) -> tuple:
        route = self.declared.get(number)
        if route is None or self.instance is None or route.get("replica") != self.replica:
            return None, envelope({"reason": "replica_unavailable", "message": "the replica is not in this worker"})
        name = route["method"] or "__call__"
        if not inspect.isclass(self.target):  # a function deployment: every name is the function
            fn = self.instance
        else:
            have = [m["name"] for m in self.methods]
            found = match_name(name, have)
            if found is None:
                what = "no default method (__call__)" if name == "__call__" else f"no method {name!r}"
                return None, envelope({
                    "reason": "no_method", "message": f"deployment {self.deployment} has {what}; it has {', '.join(have) or 'none'}",
                })
            fn = getattr(self.instance, found)
        call = fn if inspect.isfunction(fn) or inspect.ismethod(fn) else getattr(fn, "__call__", fn)
        stream = inspect.isasyncgenfunction(call) or inspect.isgeneratorfunction(call)
        entry = (STREAM if stream else ASYNC if inspect.iscoroutinefunction(call) else SYNC, fn)
        self.routes[number] = entry
        return entry

    def on_call(self, id: int, meta, body) -> None:
        number, want, info, slots = parse_call(meta)
        info.frame = id
        kind, fn = self.routes.get(number) or self.resolve(number)
        if kind is None:
            self.fail_with(id, fn)
            return
        try:
            args, kwargs = parse_args(slots, body)
        except Exception as e:
            self.fail_with(id, encode_error(e, "bad_input"))
            return
        if info.window is not None:
            self.flows[id] = Outflow(self.conn, id, want, info.window)
            task = self.eager(self.stream(id, want, info, fn, args, kwargs))  # one that never began could not be cancelled
            if not task.done():
                self.running[id] = task
        elif kind == STREAM:
            self.fail_with(id, encode_error(not_streamed(fn), "bad_input"))
        elif kind == ASYNC:
            task = self.eager(self.run(id, want, info, fn, args, kwargs))
            if not task.done():
                self.running[id] = task
        elif self.pool is None:
            contextvars.copy_context().run(self.run_sync, id, want, info, fn, args, kwargs)
        else:
            task = self.loop.create_task(self.run_in_pool(id, want, info, fn, args, kwargs))
            self.running[id] = task
            task.add_done_callback(lambda _: self.running.pop(id, None))

    async def run(self, id, want, info, fn, args, kwargs) -> None:
        request_info.set(info)  # in the task's own context: nothing to reset
        try:
            value = await fn(*args, **kwargs)
            self.reply(id, want, value)
        except BaseException as e:
            self.fail(id, e, info)
            if isinstance(e, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            self.running.pop(id, None)

    async def stream(self, id, want, info, fn, args, kwargs) -> None:
        request_info.set(info)
        flow = self.flows[id]
        try:
            value = fn(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            if not is_stream(value):
                raise TypeError(f"{_name(fn)} was called with stream=True and did not return a generator, but {type(value).__name__}")
            await flow.drain(value, self.pool)
            flow.emit()
            self.conn.put(END_FRAME.pack(0, 2, END, 0, id, 0, 0), b"")
        except BaseException as e:
            flow.emit()
            self.fail(id, e, info)
            if isinstance(e, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            self.running.pop(id, None)
            self.flows.pop(id, None)

    def on_credit(self, id: int, items: int, size: int) -> None:
        flow = self.flows.get(id)
        if flow is not None:
            flow.credit(items, size)

    def run_sync(self, id, want, info, fn, args, kwargs) -> None:
        request_info.set(info)
        try:
            value = fn(*args, **kwargs)
            if inspect.isawaitable(value):  # a plain function that returned a coroutine or response
                task = self.loop.create_task(self.run(id, want, info, lambda: value, (), {}))
                self.running[id] = task
                return
            self.reply(id, want, value)
        except BaseException as e:
            self.fail(id, e, info)
            if isinstance(e, (KeyboardInterrupt, SystemExit)):
                raise

    async def run_in_pool(self, id, want, info, fn, args, kwargs) -> None:
        request_info.set(info)
        context = contextvars.copy_context()
        try:
            value = await self.loop.run_in_executor(self.pool, lambda: context.run(fn, *args, **kwargs))
            self.reply(id, want, value)
        except BaseException as e:
            self.fail(id, e, info)
            if isinstance(e, (KeyboardInterrupt, SystemExit)):
                raise

    def reply(self, id: int, want: int, value) -> None:
        if is_stream(value):
            value.close() if inspect.isgenerator(value) else None
            raise TypeError("the method returned a generator: call it with stream=True (handle.options(stream=True))")
        if want == CLOUDPICKLE:
            body, codec = dumps(value), CLOUDPICKLE
        else:
            codec, body = encode(want, value)
        if len(body) > MAX_BODY:
            raise ValueError(f"the result is {len(body)} bytes, at most {MAX_BODY} fit into one answer")
        self.conn.put(END_FRAME.pack(len(body), 2, END, 0, id, codec, 0), body)

    def fail(self, id: int, e: BaseException, info) -> None:
        if isinstance(e, asyncio.CancelledError):
            children = info.children
            if children:
                for child in list(children):
                    child.cancel()
            e = RequestCancelledError(f"Request {info.request_id} was cancelled.")
        self.fail_with(id, encode_error(e))

    def fail_with(self, id: int, error: bytes) -> None:
        self.conn.put(HEADER.pack(len(error), 2, END, FLAG_ERROR, id) + b"\0\0", error)

    def on_cancel(self, id: int) -> None:
        task = self.running.get(id)
        if task is not None:
            task.cancel()

    # ---- control

    def on_control(self, id: int, request: dict) -> None:
        self.loop.create_task(self.control(id, request))

    async def control(self, id: int, request: dict) -> None:
        try:
            op = request["op"]
            if op == "start_replica":
                reply = await self.start_replica(request)
                self.watchdog = _supervise.Watchdog(self.loop, request.get("unresponsive_after_s", 5.0))
            elif op == "ping":
                reply = {}
            elif op == "stop_replica":
                if self.watchdog is not None:
                    self.watchdog.stop()
                reply = await self.stop_replica()
            else:
                raise ValueError(f"unknown control request {op!r}")
        except BaseException as e:
            trace = e.__traceback__
            while trace is not None and trace.tb_frame.f_globals.get("__name__", "") in (__name__, "__main__") and trace.tb_frame.f_code.co_filename == __file__:
                trace = trace.tb_next
            reply = {"error": {
                "reason": "user", "type": type(e).__name__, "message": str(e) or type(e).__name__,
                "traceback": "".join(traceback.format_exception(type(e), e, trace)),
            }}
        self.conn.send(REPLY, 0, id, b"", json.dumps(reply).encode())

    async def start_replica(self, request: dict) -> dict:
        self.app, self.deployment, self.replica = request["app"], request["deployment"], request["replica"]
        code = request["code"]
        if "blob" in code:
            with open(code["blob"], "rb") as f:
                target, args, kwargs = loads(f.read())[self.deployment]
        else:
            import base64

            module, _, name = code["import"].partition(":")
            target = importlib.import_module(module)
            for part in name.split("."):
                if not hasattr(target, part):
                    raise ImportError(f"module {module!r} has no {name!r}")
                target = getattr(target, part)
            if isinstance(target, Deployment):
                target = target.func_or_class
            args, kwargs = decode(1, base64.b64decode(code["args"]))
        self.target = target
        self.methods = methods_of(target)
        _runtime.replica = ReplicaContext(self.app, self.deployment, self.replica, None)
        if inspect.isclass(target):
            init = target.__init__
            if inspect.iscoroutinefunction(init):
                instance = target.__new__(target)
                await init(instance, *args, **kwargs)
            else:
                instance = target(*args, **kwargs)
        else:
            instance = target
        _runtime.replica = ReplicaContext(self.app, self.deployment, self.replica, instance)
        self.instance = instance
        return {"methods": self.methods}

    async def stop_replica(self) -> dict:
        instance, self.instance = self.instance, None
        self.routes.clear()
        end = getattr(type(instance), "__del__", None)
        if end is not None:
            done = end(instance)
            if inspect.isawaitable(done):
                await done
        return {}

    def on_goaway(self, goaway: dict) -> None:
        leave(0)

    def on_lost(self, error: BaseException) -> None:
        leave(1)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the node, which stops its workers
    sys.path[:0] = [p for p in json.loads(os.environ.get("HELVE_SYS_PATH", "[]")) if p not in sys.path]
    _supervise.set_up_logging()
    token = read_token(int(os.environ.pop("HELVE_TOKEN_FD")))
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(os.environ["HELVE_SOCKET"])
        open_connection(sock, token, "worker", os.environ["HELVE_WORKER_ID"])
    except OSError as e:
        print(f"helve: {e}", file=sys.stderr)
        leave(1)
    sock.setblocking(False)
    try:
        import uvloop

        loop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(loop)
    _runtime.connection = worker.conn
    loop.run_until_complete(loop.create_unix_connection(lambda: worker.conn, sock=sock))
    loop.run_forever()


if __name__ == "__main__":
    main()
