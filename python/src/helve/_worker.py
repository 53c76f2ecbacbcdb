"""A Python worker, which a node starts. It hosts one replica on one event loop."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import importlib
import inspect
import os
import sys
import threading
import time
from typing import Optional

from helve import _logging, _measures, _metrics, _origins, _runtime, _signals, _spans, _stalls, _supervise
from helve._attach import Node, duration, give_up
from helve._encoding import CLOUDPICKLE, PICKLE, decode, dumps, encode, encode_error, envelope, loads
from helve._frames import (
    END, END_FRAME, FLAG_ERROR, GOAWAY, HEADER, REPLY, RequestInfo, entry, in_parts, parse_args, parse_call, parse_parts,
)
from helve._guard import exit_code, guarded, text, trace, type_name
from helve._hooks import CHECKS, DEFINITION, NUMBERS, digest, hook, no_reconfigure, raw_field
from helve._http import Exchange
from helve._ingress import Ingress
from helve._limits import MAX_META, cut
from helve._models import models
from helve._names import is_private, match_name
from helve._opening import read_token
from helve._phrases import no_method, returned_generator, returned_none
from helve._parts import WHERE, Out, parse_slots
from helve._profile import profiler
from helve._pickling import APART, PLAIN_TYPES, PROTOCOL, loads_code, pickled
from helve._stream import Outflow, is_stream
from helve._successor import Succession
from helve._tasks import make_eager
from helve._threads import Threads, threads_wanted
from helve._wire import Connection
from helve.serve._replica import ReplicaID, takes_rank
from helve.serve.context import ReplicaContext
from helve.serve.deployment import Deployment, methods_of
from helve.serve.handle import DeploymentID
from helve._errors import ReplicaUnavailableError, RequestCancelledError, TooLargeError, too_large

import json

ASYNC, SYNC, STREAM = 0, 1, 2
UNKNOWN = None, None  # the route of a number that has not been looked up

_tasks: set = set()


EXIT = (SystemExit, KeyboardInterrupt)  # from any user code: the process ends
LOOK = 1.0  # seconds that an application that looks for its client has before it is cancelled
FLUSH = 1.0  # seconds for the last output and the last answers to be written


def leave(code: int):
    """Ends the process at once. It does not wait for the user's threads, daemons or not, and does not run atexit
    handlers. A stream that cannot be flushed has a second: its reader may not read, or a thread of the user's may
    hold its lock.
    """
    try:
        flushing = threading.Thread(target=_flush, name="helve-leave", daemon=True)
        flushing.start()
        flushing.join(FLUSH)
    finally:
        os._exit(code)


def _flush() -> None:
    guarded(_supervise.finish, lambda e: None)
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        guarded(lambda: stream.flush(), lambda e: None)


class Made:
    """A method that has returned an awaitable, which is its result for one call."""

    def __init__(self, fn, value):
        self.__name__, self.value = getattr(fn, "__name__", type(fn).__name__), value

    def __call__(self):
        return self.value


async def caught(coro) -> tuple:
    """The outcome of user code, (True, value) or (False, exception), for callers that run it as a task. A task that
    raises SystemExit ends the loop before an answer is sent.
    """
    try:
        return True, await coro
    except asyncio.CancelledError:
        raise
    except BaseException as e:
        return False, e


def opened(outcome: tuple):
    good, value = outcome
    if not good:
        raise value
    return value


class Worker(Succession):
    """The server half of one connection. When the node of a worker is gone, another Worker takes over the replica
    with the connection to the next node. The former one sends no more answers, and counts the calls that still
    run.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, node=None, former: "Optional[Worker]" = None):
        self.loop, self.node = loop, node
        self.conn = Connection(loop, self)
        self.eager = make_eager(loop)
        self.running: dict[int, RequestInfo] = {}  # calls that did not finish in their first step
        self.flows: dict = {}  # Outflow or Exchange
        self.ingress = Ingress(self)
        self.state: dict = {}  # of the lifespan
        self.routes: dict[int, tuple] = {}  # number -> (kind, callable) or (None, error envelope)
        self.declared: dict[int, dict] = {}
        self.target = self.instance = self.stopped = None
        self.app = self.deployment = self.replica = ""
        self.pool = None
        self.watchdog = None
        self.methods: list = []
        self.unwell: set = set()  # the checks that have failed the last time
        self.step = ""  # the step of the start that is under way
        self.configuring = asyncio.Lock()
        self.config = ""  # the digest of its user config
        self.user_config = None
        self.leaving = False  # the process is about to end
        self.formers: list[Worker] = []
        if former is not None:
            self.follow(former)
        elif threads_wanted():
            self.pool = Threads()

    # ---- calls in

    def on_route(self, number: int, route: dict) -> None:
        self.declared[number] = route
        self.routes.pop(number, None)
        self.conn.exchanges.pop(number, None)

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
            if found is None and is_private(name) and callable(getattr(self.target, name, None)):
                found = name
            if found is None:
                return None, envelope({"reason": "no_method", "message": no_method(name, have, self.deployment)})
            if found == "__call__" and hasattr(self.target, DEFINITION):
                return None, envelope({
                    "reason": "no_method", "message": f"deployment {self.deployment} is an ASGI application: HTTP requests go to it, handles call its methods",
                })
            fn = getattr(self.instance, found)
        call = fn if inspect.isfunction(fn) or inspect.ismethod(fn) else getattr(fn, "__call__", fn)
        stream = inspect.isasyncgenfunction(call) or inspect.isgeneratorfunction(call)
        if _logging.access:
            fn = _logging.logged(name, fn, call)
        entry = (STREAM if stream else ASYNC if inspect.iscoroutinefunction(call) else SYNC, fn)
        self.routes[number] = entry
        return entry

    def on_call(self, id: int, meta, body) -> None:
        number, want, info, slots = parse_call(meta)  # a malformed CALL ends the connection
        info.frame = id if self.held is None else 0  # the next node, which gets the calls that it makes, does not know the frame
        self.accept(id, number, want, info, slots, body)

    def on_packed(self, id: int, number: int, want: int, info, body) -> None:
        """on_call() for most calls: one slot with the pickle of all arguments, and no tail."""
        kind, fn = self.routes.get(number, UNKNOWN)
        if kind != ASYNC or self.leaving:
            self.accept(id, number, want, info, ((0, CLOUDPICKLE, 0, len(body)),), body)
            return
        try:
            args, kwargs = loads(body)
        except BaseException as e:
            self.fail(id, e, info, "bad_input")
            return
        try:
            self.launch(id, info, self.run(id, want, info, fn, args, kwargs))
        except BaseException as e:  # a task factory of the user's
            if not info.begun:
                self.fail(id, e, info)

    def accept(self, id: int, number: int, want: int, info, slots, body) -> None:
        if self.leaving:
            self.fail_with(id, envelope({"reason": "replica_unavailable", "message": "the replica's process is ending"}))
            return
        try:
            self.begin(id, number, want, info, slots, body)
        except BaseException as e:  # the lookup of a user's attribute, or a task factory of the user's
            self.not_begun(id, e, info)

    def not_begun(self, id: int, e: BaseException, info) -> None:
        if not info.begun:
            self.flows.pop(id, None)
            self.fail(id, e, info)

    def begin(self, id: int, number: int, want: int, info, slots, body) -> None:
        if info.http is not None:
            route = self.declared.get(number)
            if route is not None and self.instance is not None and route.get("replica") == self.replica:
                self.ingress.begin(id, number, route["method"], info, slots, body)
                return
        kind, fn = self.routes.get(number) or self.resolve(number)
        if kind is None:
            if in_parts(slots):
                parse_slots(self.conn, slots, body)  # it has references to give back
            self.fail_with(id, fn)
            return
        try:
            args, kwargs = parse_parts(self.conn, slots, body) if in_parts(slots) else parse_args(slots, body)
        except BaseException as e:
            self.fail(id, e, info, "bad_input")
            return
        if info.window is not None:
            self.flows[id] = Outflow(self.conn, id, want, info.window)
            self.launch(id, info, self.stream(id, want, info, fn, args, kwargs))
        elif kind == STREAM:
            self.fail_with(id, encode_error(returned_generator(fn), "bad_input"))
        elif kind == ASYNC:
            self.launch(id, info, self.run(id, want, info, fn, args, kwargs))
        elif self.pool is None:
            contextvars.copy_context().run(self.run_sync, id, want, info, fn, args, kwargs)
        else:
            self.launch(id, info, self.run_in_pool(id, want, info, fn, args, kwargs))

    def launch(self, id: int, info, coro, awaited=None) -> None:
        """Runs a coroutine that answers the call in every case. A task that could not begin at once may be cancelled
        before its first step: then the coroutine does not run at all, and the call is answered here.
        """
        task = self.eager(coro)
        if task.done():
            return
        info.task = task
        self.running[id] = info
        if not info.begun:
            task.add_done_callback(lambda _: self.never_ran(id, info, awaited))

    def never_ran(self, id: int, info, awaited) -> None:
        if not info.begun and self.running.pop(id, None) is not None:
            if inspect.iscoroutine(awaited):
                awaited.close()
            self.flows.pop(id, None)
            self.fail(id, asyncio.CancelledError(), info)
            self.settle()

    def launch_exchange(self, exchange: Exchange, coro) -> None:
        """launch() for the coroutine that runs an exchange. It may go on after the end of the exchange."""
        task = self.eager(coro)
        if task.done():
            return
        id, info = exchange.id, exchange.info
        info.task = task
        if exchange.over:
            self.ingress.keep(task)
            return
        exchange.launched = True
        self.running[id], self.flows[id] = info, exchange
        if not info.begun:
            task.add_done_callback(lambda _: self.never_ran(id, info, None))
        else:
            exchange.waits()

    def exchange_over(self, exchange: Exchange) -> None:
        self.flows.pop(exchange.id, None)
        if self.running.pop(exchange.id, None) is not None:
            if self.over:
                self.settle()
            task = exchange.info.task
            if task is not None and not task.done():
                self.ingress.keep(task)

    async def run(self, id, want, info, fn, args, kwargs) -> None:
        info.begun = True
        _spans.enter(info)
        try:
            value = await fn(*args, **kwargs)
            self.reply(id, want, value, info, fn)
        except BaseException as e:
            self.fail(id, e, info)
        finally:
            self.running.pop(id, None)
            if self.over:
                self.settle()

    async def stream(self, id, want, info, fn, args, kwargs) -> None:
        info.begun = True
        _spans.enter(info)
        flow = self.flows[id]
        try:
            value = fn(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            if not is_stream(value):
                raise returned_none(fn, value)
            await flow.drain(value, self.in_thread if self.pool is not None else None)
            flow.emit()
            self.conn.put(END_FRAME.pack(0, 2, END, 0, id, 0, 0), b"")
        except BaseException as e:
            flow.emit()
            self.fail(id, e, info)
        finally:
            self.running.pop(id, None)
            if self.over:
                self.settle()
            self.flows.pop(id, None)

    def on_credit(self, id: int, items: int, size: int) -> None:
        flow = self.flows.get(id)
        if flow is not None:
            flow.credit(items, size)

    def on_upload(self, id: int, body) -> None:
        flow = self.flows.get(id)
        if isinstance(flow, Exchange):
            flow.upload(body)
        elif flow is not None or id in self.running:
            raise ValueError("parts of a request for a call that is none")

    def run_sync(self, id, want, info, fn, args, kwargs) -> None:
        _spans.enter(info)
        try:
            value = fn(*args, **kwargs)
            if inspect.isawaitable(value):  # a plain function that returned a coroutine or response
                self.launch(id, info, self.run(id, want, info, Made(fn, value), (), {}), value)
                return
            self.reply(id, want, value, info, fn)
        except BaseException as e:
            self.fail(id, e, info)

    async def run_in_pool(self, id, want, info, fn, args, kwargs) -> None:
        info.threaded = True

        async def in_pool():
            value = await self.in_thread(fn, *args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        in_pool.__name__ = getattr(fn, "__name__", type(fn).__name__)  # for the texts of errors
        await self.run(id, want, info, in_pool, (), {})

    async def in_thread(self, fn, *args, **kwargs):
        """Runs fn in a thread of the pool and waits for its end. A thread cannot be interrupted: a caller that is
        cancelled meanwhile gets the cancel when the thread is done, because until then the call goes on, and has
        its slot.
        """
        context = contextvars.copy_context()

        def attempt():  # a future does not take StopIteration as its exception
            try:
                return True, context.run(fn, *args, **kwargs)
            except BaseException as e:
                return False, e

        work, cancelled = self.pool.submit(attempt), None
        while True:
            try:
                good, value = await asyncio.wrap_future(work, loop=self.loop)
                break
            except asyncio.CancelledError as e:
                cancelled = e
        if cancelled is not None:
            if inspect.iscoroutine(value):
                value.close()
            raise cancelled
        if not good:
            raise value
        return value

    def reply(self, id: int, want: int, value, info, fn) -> None:
        if want == CLOUDPICKLE and type(value) in PLAIN_TYPES and (type(value) is not bytes or len(value) < APART):
            body = pickled(value, PROTOCOL)
            if len(body) < APART and len(body) <= self.conn.max_body:
                self.conn.put_frame(END_FRAME.pack(len(body), 2, END, 0, id, CLOUDPICKLE, 0) + body)
                return
        if is_stream(value):
            value.close() if inspect.isgenerator(value) else None
            raise returned_generator(fn)
        buffers: list = []
        try:
            if want == CLOUDPICKLE:
                body, codec = dumps(value, buffers if self.conn.segments and not info.broadcast else None), CLOUDPICKLE
            else:
                codec, body = encode(want, value)
        except Exception as e:
            if want not in (CLOUDPICKLE, PICKLE):
                raise
            from helve import _unpicklable

            raise _unpicklable.result(e, self.deployment, getattr(fn, "__name__", "__call__"), value) from None
        if buffers or len(body) >= APART and self.conn.memory is not None:
            self.reply_in_parts(id, codec, body, buffers)
            return
        if len(body) > self.conn.max_body:
            raise too_large("the result", len(body), self.conn.max_body)
        self.conn.put(END_FRAME.pack(len(body), 2, END, 0, id, codec, 0), body)

    def reply_in_parts(self, id: int, codec: int, body, buffers: list) -> None:
        out = Out(self.conn)
        try:
            where, _ = out.add(body)
            meta = bytes((codec, where))
            if buffers:
                where = b"".join(WHERE.pack(*out.add(b)) for b in buffers)
                meta += entry(b"buffers", where) if len(where) < MAX_META - 16 else bytes(MAX_META)
            if len(meta) > MAX_META:
                raise TooLargeError(f"the result has {len(buffers)} large buffers, more than fit into one answer: put them together")
            if out.total > self.conn.max_body:
                raise too_large("the result", out.total, self.conn.max_body)
        except BaseException:
            out.undo()
            raise
        self.conn.put(HEADER.pack(out.size, len(meta), END, 0, id) + meta, *out.segments)

    def fail(self, id: int, e: BaseException, info, reason: Optional[str] = None) -> None:
        """Answers a call with the exception that ended it. If the exception ends the process too, the node is told
        before the caller has the answer: so the caller's next call waits for another replica.
        """
        exits = issubclass(type(e), EXIT)
        if exits:
            self.take_leave(e)
        elif issubclass(type(e), asyncio.CancelledError):
            info.cancel_children()
            e = RequestCancelledError(f"Request {info.request_id} was cancelled.")
        elif reason is None:
            _logging.failed_call(e, info)
        self.fail_with(id, encode_error(e, reason))
        if exits:
            self.leave(exit_code(e))

    def fail_with(self, id: int, error: bytes) -> None:
        if len(error) > self.conn.max_body:
            error = encode_error(too_large("the error of the method", len(error), self.conn.max_body))
        self.conn.put(HEADER.pack(len(error), 2, END, FLAG_ERROR, id) + b"\0\0", error)

    def on_cancel(self, id: int) -> None:
        """Cancels a call's task and its children. A method that catches its cancel keeps its slot until it ends. An application that looks
        for its client is told first, and may end by itself. For example, a route that asks request.is_disconnected() twice a second
        sees True, and returns; one that has asked and now awaits another deployment is cancelled after LOOK.
        """
        info, flow = self.running.get(id), self.flows.get(id)
        if info is None:
            return
        if isinstance(flow, Exchange) and (flow.watched or flow.waiting):
            flow.watched = True  # for a second CANCEL
            flow.leave()
            self.loop.call_later(LOOK, lambda: self.running.get(id) is info and self.cancel(id))
        else:
            self.cancel(id)

    def cancel(self, id: int) -> None:
        info, flow = self.running.get(id), self.flows.get(id)
        if info is None:
            return
        if isinstance(flow, Exchange):
            flow.leave()
        info.task.cancel()
        info.cancel_children()

    # ---- the end of the process

    def take_leave(self, why: BaseException) -> None:
        """Tells the node that this worker takes no more calls."""
        now = _runtime.connection  # self's node may have gone
        if now is None or now.lost is not None or self.leaving:
            return
        now.server.leaving = self.leaving = True
        now.exchanges.clear()
        name = type_name(why)
        goaway = {"code": "Unavailable", "reason": "leaving", "message": f"{name}: {text(why)}"[:1000]}
        now.send(GOAWAY, 0, 0, b"", json.dumps(goaway).encode())

    def leave(self, code: int) -> None:
        """Ends the process as soon as the kernel has the answers. It does not wait for user code, nor for a node
        that does not read: a thread ends the process if the loop does not.
        """
        now = _runtime.connection
        if now is None or now.lost is not None:
            leave(code)
        _metrics.send(now)
        self.conn.flush()  # of a node that has handed over
        now.flush()
        if now.transport.get_write_buffer_size() == 0:
            leave(code)
        timer = threading.Timer(FLUSH, leave, (code,))
        timer.daemon = True
        timer.start()
        self.await_written(now, code)

    def await_written(self, conn, code: int) -> None:
        if conn.lost is not None or conn.transport.get_write_buffer_size() == 0:
            leave(code)
        self.loop.call_later(0.001, self.await_written, conn, code)

    # ---- control

    def on_control(self, id: int, request: dict, raw: bytes = b"") -> None:
        self.keep(self.control(id, request, raw))

    def keep(self, coro) -> None:
        task = self.loop.create_task(coro)
        _tasks.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(_tasks.discard)

    async def control(self, id: int, request: dict, raw: bytes) -> None:
        exits = None
        try:
            op = request["op"]
            if op == "start_replica":
                limit = request.get("timeout_s") or None
                begun = time.monotonic()
                # Already now: the stacks of a constructor that holds up the loop are what a question for them gets.
                self.watchdog = _supervise.Watchdog(self.loop, request.get("unresponsive_after_s", 5.0))
                start = self.loop.create_task(caught(self.start_replica(request, raw)))
                await asyncio.wait([start], timeout=limit)
                if not start.done():
                    start.cancel()
                    what = ": the startup of its application's lifespan has not ended" if self.step == "lifespan" else ""
                    raise TimeoutError(f"it is not ready after construct_timeout_s ({limit:g} s){what}")
                reply = opened(start.result())
                if limit is not None and time.monotonic() - begun > limit:  # a constructor that held up the loop, and its timers
                    await self.stop_replica()
                    raise TimeoutError(f"it is not ready after construct_timeout_s ({limit:g} s)")
                if self.over:  # the node that wanted it has gone
                    await self.stop_replica()
                    return
                _measures.watch(self.loop)
                self.loop.call_soon(_stalls.begin)  # after the answer, by a loop that turns
            elif op == "prepare":
                self.load(request["code"], request["deployment"])
                reply = {}
            elif op == "ping":
                reply = {}
            elif op == "profile":  # also while the constructor runs
                if request["replica"] != self.replica:
                    raise ReplicaUnavailableError("the replica is not in this worker")
                reply = await profiler.take(self.loop, request["kind"], request["seconds"])
            elif op == "end_profile":
                profiler.end()
                reply = {}
            elif op == "drain":
                _runtime.drain.begin()
                reply = {}
            elif op == "check_health" or op == "check_ready" or op == "reconfigure":
                if self.instance is None or request["replica"] != self.replica:
                    raise ReplicaUnavailableError("the replica is not in this worker")
                change = self.reconfigure(self.instance, request, raw) if op == "reconfigure" else self.check(op)
                opened(await asyncio.wait_for(caught(change), request.get("timeout_s") or None))
                reply = {}
            elif op == "autoscaling_stats":
                if self.instance is None or request["replica"] != self.replica:
                    raise ReplicaUnavailableError("the replica is not in this worker")
                reply = {"numbers": opened(await asyncio.wait_for(caught(self.numbers()), request.get("timeout_s") or None))}
            elif op == "loaded_models" or op == "load_model":
                if self.instance is None or request["replica"] != self.replica:
                    raise ReplicaUnavailableError("the replica is not in this worker")
                if op == "loaded_models":
                    reply = {"models": models.unused()}
                else:
                    load = models.ahead(self.instance, request["loader"], request["model"], request["unused_s"])
                    reply = opened(await asyncio.wait_for(caught(load), request.get("timeout_s") or None))
            elif op == "handover":
                self.hand_over(request["slots"])
                reply = {}
            elif op == "free_block":
                self.free(request["slots"])
                reply = {}
            elif op == "set_rank":
                if self.instance is None or request["replica"] != self.replica:
                    raise ReplicaUnavailableError("the replica is not in this worker")
                opened(await caught(self.set_rank(request["rank"], request["world_size"])))
                reply = {}
            elif op == "stop_replica":
                if self.watchdog is not None:
                    self.watchdog.stop()
                reply = await self.stop_replica(request.get("timeout_s") or None)
            else:
                raise ValueError(f"unknown control request {op!r}")
        except BaseException as e:
            exits = e if issubclass(type(e), EXIT) else None
            if exits is not None:
                self.take_leave(e)
            reason = "replica_unavailable" if issubclass(type(e), ReplicaUnavailableError) else "user"
            reply = {"error": {"reason": reason, "type": type_name(e), "message": text(e) or type_name(e), "traceback": trace(e)}}
            if request.get("op") == "start_replica" and self.step:
                reply["error"]["step"] = self.step
        if "error" in reply:
            reply["error"] = {k: cut(v) for k, v in reply["error"].items()}
        body = json.dumps(reply).encode()
        if len(body) > self.conn.max_body:
            error = {"reason": "too_large", "message": str(too_large("the reply", len(body), self.conn.max_body))}
            body = json.dumps({"error": error}).encode()
        self.conn.send(REPLY, 0, id, b"", body)
        if exits is not None:
            self.leave(exit_code(exits))

    def load(self, code: dict, deployment: str) -> tuple:
        """The class or function of a deployment, and its arguments. Its modules are imported."""
        if "blob" in code:
            with open(code["blob"], "rb") as f:
                return loads_code(loads(f.read())[deployment])
        import base64

        module, _, name = code["import"].partition(":")
        target = importlib.import_module(module)
        for part in name.split("."):
            if not hasattr(target, part):
                raise ImportError(f"module {module!r} has no {name!r}")
            target = getattr(target, part)
        if isinstance(target, Deployment):
            target = target.func_or_class
        return (target, *decode(1, base64.b64decode(code["args"])))

    async def start_replica(self, request: dict, raw: bytes) -> dict:
        self.app, self.deployment, self.replica = request["app"], request["deployment"], request["replica"]
        _logging.name(self.app, self.deployment, self.replica)
        self.step = "import"
        target, args, kwargs, *more = self.load(request["code"], self.deployment)
        self.target, self.step = target, ""
        self.methods = methods_of(target)
        id = ReplicaID(self.replica, DeploymentID(self.deployment, self.app))
        rank, world = request.get("rank", 0), request.get("world_size", 1)
        _runtime.replica = ReplicaContext(id, None, _rank=rank, world_size=world, code_version=request.get("code_version"))
        _runtime.max_ongoing_requests = request.get("max_ongoing_requests")
        if inspect.isclass(target):
            init = target.__init__
            if inspect.iscoroutinefunction(init):
                instance = target.__new__(target)
                await init(instance, *args, **kwargs)
            else:
                instance = target(*args, **kwargs)
        else:
            instance = target
        _runtime.replica = dataclasses.replace(_runtime.replica, servable_object=instance)
        await self.ingress.start(target, instance, more[0] if more else [])
        if "user_config" in request or takes_rank(hook(target, "reconfigure")):
            self.step = "reconfigure"
            await self.reconfigure(instance, request, raw)
        check = hook(target, "check_health")
        if check is not None:
            self.step = "check_health"
            await self.run_hook(instance.check_health)
        self.instance = instance
        return {
            "methods": self.methods, "health": check is not None, "ready": hook(target, "check_ready") is not None,
            "autoscaling_stats": hook(target, NUMBERS) is not None,
        }

    async def run_hook(self, fn, *args):
        """Calls a method of the instance in the same way as a call to it: beside the calls. Its result is that of the method."""
        if self.pool is not None and not inspect.iscoroutinefunction(fn):
            done = await self.in_thread(fn, *args)
        else:
            done = fn(*args)
        return await done if inspect.isawaitable(done) else done

    async def numbers(self) -> dict:
        """The numbers of the replica for autoscaling policies, by name."""
        numbers = await self.run_hook(getattr(self.instance, NUMBERS))
        if not isinstance(numbers, dict):
            raise TypeError(f"{NUMBERS} must return a dict from name to number, and has returned a {type_name(numbers)}")
        out = {}
        for name, value in numbers.items():
            try:
                out[str(name)] = number = float(value)
            except (TypeError, ValueError):
                raise TypeError(f"{NUMBERS} must return numbers, and has returned {value!r:.100} for {name!r}") from None
            if number != number or number in (float("inf"), float("-inf")):
                raise ValueError(f"{NUMBERS} must return finite numbers, and has returned {number} for {name!r}")
        return out

    async def check(self, name: str) -> None:
        """Runs the health check or the readiness check."""
        if hook(self.target, name) is None:
            return
        try:
            await self.run_hook(getattr(self.instance, name))
        except Exception as e:
            if name not in self.unwell:  # the first of several in a row: the node counts them
                _logging.failure(f"The {CHECKS[name]} failed.", e, None)
            self.unwell.add(name)
            raise
        self.unwell.discard(name)

    async def reconfigure(self, instance, request: dict, raw: bytes) -> None:
        if hook(self.target, "reconfigure") is None:
            raise no_reconfigure(self.target, self.deployment)
        async with self.configuring:  # a reconfigure that its node has given up ends first
            self.user_config = request.get("user_config")
            await self.call_reconfigure(instance)
            self.config = digest(raw_field(raw.decode(), "user_config"))

    async def call_reconfigure(self, instance) -> None:
        fn = instance.reconfigure
        await self.run_hook(fn, self.user_config, *([_runtime.replica.rank] if takes_rank(fn) else ()))

    async def set_rank(self, rank: int, world: int) -> None:
        """Notes the rank of the replica and the number of ranks. A method reconfigure that takes a rank is called if that has changed."""
        async with self.configuring:
            changed = rank != _runtime.replica._rank
            _runtime.replica = dataclasses.replace(_runtime.replica, _rank=rank, world_size=world)
            if changed and takes_rank(hook(self.target, "reconfigure")):
                await self.call_reconfigure(self.instance)

    async def stop_replica(self, limit: Optional[float] = None) -> dict:
        instance, self.instance = self.instance, None
        self.stopped = instance  # it lives until the process ends, so that its __del__ runs once, here
        self.routes, self.conn.exchanges = {}, {}
        await self.ingress.stop(limit)
        end = getattr(type(instance), "__del__", None)
        if end is not None:
            done = end(instance)
            if inspect.isawaitable(done):
                await done
        await models.close()
        _metrics.send(self.conn)  # before the reply, after which the node ends this process
        return {}

    def on_goaway(self, goaway: dict) -> None:
        if goaway.get("reason") == "protocol":
            print(f"helve: the node ended the connection: {goaway.get('message')}", file=sys.stderr)
            leave(1)
        leave(0)


def main() -> None:
    nodes: list = []
    _signals.shield(lambda: bool(nodes) and nodes[0].leash.orphaned(), give_up)
    _supervise.set_up_logging()
    if os.environ.get("HELVE_RAY_COMPAT"):
        from helve import raycompat

        raycompat.install()
    token = read_token(int(os.environ.pop("HELVE_TOKEN_FD")))
    grace = duration(os.environ.get("HELVE_WORKER_GRACE") or "0s")
    node = _runtime.node = Node(token, os.environ["HELVE_SOCKET"], os.environ["HELVE_WORKER_ID"], grace)
    nodes.append(node)
    try:
        sock, welcome = node.dial()
    except OSError as e:
        print(f"helve: {e}", file=sys.stderr)
        leave(1)
    try:
        import uvloop

        loop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(_origins.of_loop)
    worker = Worker(loop, node)
    loop.run_until_complete(worker.attach(sock, welcome))
    why: BaseException = RuntimeError("the replica's event loop was stopped")
    code = 1
    while True:  # the loop ends when a task or callback of the user's raises SystemExit, and when it is stopped
        try:
            loop.run_forever()
        except EXIT as e:
            why, code = e, exit_code(e)
        except BaseException as e:
            why = e
        if not worker.leaving:
            print(f"helve: the worker ends: {type_name(why)}: {text(why)}", file=sys.stderr)
            worker.take_leave(why)
        loop.call_soon(worker.leave, code)
