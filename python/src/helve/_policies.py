"""The process of an application's autoscaling policies in Python, which a node starts. A policy that blocks, fails or ends its process holds up no replica and no
decision about another application.

The node writes lines of JSON to the standard input, and the process writes lines to the descriptor ANSWERS. The first line names the
file of the application's code. Each further line asks one policy, and has one answer, which names the number of its question. For example:

    {"code": "/run/node/3f2a"}
    {"id": 1, "policy": "Model", "of": {"function": "scaling:by_queue", "kwargs": {}}, "limit": 10, "views": [{"deployment": "Model", "total": 12, ...}]}
    {"id": 1, "replicas": {"Model": 3.5}, "states": {"Model": {"calls": 1}}}

A question with "load": true is answered when the policy is imported, and its class constructed, or with the error of that.

A policy that is a function runs in a thread, and one that is a coroutine function on the event loop: a policy that waits does not hold up another one. What the user's
code prints goes to the log of the node.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import math
import os
import sys
import threading
import time
from functools import lru_cache
from typing import Any, Callable, Dict, List, NamedTuple, Optional

ANSWERS = 3  # the descriptor of the answers
STATE_MAX = 64 << 10  # bytes of a state as JSON: the node writes it to its store
STUCK = 3  # times its limit that a call may run before its process ends; the node has the same number
PICKLE = "__helve_pickle__"  # the key of a state that JSON cannot carry


class Sample(NamedTuple):
    """One number of a replica.

    Attributes:
        timestamp: Its time, in seconds since 1970.
        value: The number.
    """

    timestamp: float
    value: float


class PolicyError(Exception):
    """A policy has no number: its message says why."""


class Policies:
    """The policies of one application.

    Args:
        code: File of the application's pickles; None for none.
        watch: Ends the process of a policy that does not return; None for no such end.
    """

    def __init__(self, code: Optional[str], watch: Optional["_Watch"] = None):
        self.code, self.watch = code, watch
        self.loaded: Dict[str, Callable] = {}  # by what the node says of them: another description is another policy
        self.loading = threading.Lock()
        self.calls: Dict[str, _Call] = {}  # that run

    def find(self, of: str) -> Callable:
        """The policy of a description as a function of contexts. A class is constructed once."""
        with self.loading:
            if of not in self.loaded:
                self.loaded[of] = self._load(json.loads(of)[1])
            return self.loaded[of]

    def _load(self, of: dict) -> Callable:
        from helve.serve import _imports

        target = self._pickled(of) or _imports.find(of["function"])
        if inspect.isclass(target):
            return target(**(of.get("kwargs") or {}))
        if not callable(target):
            raise PolicyError(f"{of['function']} is a {type(target).__name__}, and must be a function or a class")
        kwargs = of.get("kwargs") or {}
        if kwargs:
            raise PolicyError(f"policy_kwargs are arguments of a class, and {of['function']} is a function; it has {', '.join(kwargs)}")
        return target

    def _pickled(self, of: dict) -> Any:
        """The function or class that the program has sent; None if it has sent none under this path."""
        if not self.code or not of.get("entry"):
            return None
        from helve._pickling import loads, loads_code

        with open(self.code, "rb") as f:
            entry = loads(f.read()).get(of["entry"])
        if entry is None:
            return None
        path, target = loads_code(entry)
        return target if path == of["function"] else None

    async def ask(self, question: dict) -> dict:
        """The answer to one question. A policy has one call at a time: a call that is late goes on, and its number is not taken any more."""
        name, limit = question["policy"], question.get("limit") or None
        try:
            if question.get("load"):
                await _in_thread(self.find, _key(question))
                return {"loaded": True}
            call = self.calls.get(name)
            if call is not None:
                raise PolicyError(call.still())
            contexts = [_context(v) for v in question["views"]]  # it may raise: no call has begun then
            call = self.calls[name] = _Call(limit)
            call.task = asyncio.get_running_loop().create_task(self._run(call, question, contexts))
            call.task.add_done_callback(lambda task: self._ended(name, task))
            done, _ = await asyncio.wait({call.task}, timeout=limit)
            if not done:
                late = call.late()
                call.task.cancel()  # of a coroutine: a thread goes on
                raise PolicyError(late)
            return _answer(name, call.task.result(), question["views"])
        except PolicyError as e:
            return {"error": str(e)}
        except BaseException as e:
            from helve._guard import text, trace, type_name

            return {"error": f"{type_name(e)}: {text(e)}", "traceback": trace(e)}

    def _ended(self, name: str, task: "asyncio.Task") -> None:
        self.calls.pop(name, None)
        if not task.cancelled():
            task.exception()  # of a call whose question was answered before: nobody reads it

    async def _run(self, call: "_Call", question: dict, contexts: List[Any]) -> Any:
        argument: Any = {c.deployment_id: c for c in contexts} if question["policy"] == "" else contexts[0]
        of = _key(question)
        policy = self.loaded.get(of)
        if policy is None:
            call.loads = True
            policy = await _in_thread(self.find, of)
            call.loads = False
        if self.watch and call.limit:
            self.watch.begin(call)
        try:
            return await self._called(policy, argument)
        finally:
            if self.watch:
                self.watch.end(call)

    async def _called(self, policy: Callable, argument: Any) -> Any:
        plain = policy if inspect.isfunction(policy) or inspect.ismethod(policy) else getattr(policy, "__call__", policy)
        outcome = policy(argument) if inspect.iscoroutinefunction(plain) else await _in_thread(policy, argument)
        return await outcome if inspect.isawaitable(outcome) else outcome


def _key(question: dict) -> str:
    """The key of a policy among those that were loaded."""
    return json.dumps([question["policy"], question["of"]], sort_keys=True)


class _Call:
    """A call of a policy that runs."""

    def __init__(self, limit: Optional[float]):
        self.limit, self.loads = limit or 0.0, False
        self.task: Any = None

    def late(self) -> str:
        return f"its module is still being imported after {self.limit:g} s" if self.loads else f"it has not answered within {self.limit:g} s"

    def still(self) -> str:
        """Why another call cannot begin."""
        return "its module is still being imported" if self.loads else "its call before has not returned"


class _Watch:
    """Ends the process when a call has run for STUCK times its limit, because a thread cannot be ended; the node starts another process. The watch has a thread of its own:
    a policy may hold up the event loop too. An import has no such limit.

    For example, a call with a limit of 2 s begins at 12:00:00 and waits for ever: the process ends at 12:00:06, although the node does not ask in that time.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.due: Dict[_Call, float] = {}  # when the process ends, of each call that runs
        threading.Thread(target=self._run, name="helve-watch", daemon=True).start()

    def begin(self, call: _Call) -> None:
        with self.changed:
            self.due[call] = time.monotonic() + STUCK * call.limit
            self.changed.notify()

    def end(self, call: _Call) -> None:
        with self.changed:
            self.due.pop(call, None)

    def _run(self) -> None:
        with self.changed:
            while True:
                now = time.monotonic()
                for call, due in self.due.items():
                    if due <= now:
                        print(f"helve: an autoscaling policy has not returned for {STUCK * call.limit:g} s, {STUCK} times its timeout_s: its process ends", file=sys.stderr)
                        leave(1)
                self.changed.wait(min(self.due.values()) - now if self.due else None)


async def _in_thread(fn: Callable, argument: Any) -> Any:
    """The result of a function that a thread of its own calls: the threads of a pool would all be taken by policies that do not return. A cancel
    does not end the wait, because the thread goes on.
    """
    future = asyncio.get_running_loop().create_future()
    _start_thread(future, fn, argument)
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.cancelled():
                raise
        except Exception:
            break
    return future.result()


def _start_thread(future: "asyncio.Future", fn: Callable, argument: Any) -> None:
    loop = future.get_loop()

    def run() -> None:
        try:
            value = fn(argument)
        except StopIteration as e:  # a future takes none
            loop.call_soon_threadsafe(future.set_exception, RuntimeError(f"StopIteration: {e}"))
        except Exception as e:
            loop.call_soon_threadsafe(future.set_exception, e)
        except BaseException as e:  # such as sys.exit(), which would end the loop
            loop.call_soon_threadsafe(future.set_exception, PolicyError(f"it has raised {type(e).__name__}: {e}"))
        else:
            loop.call_soon_threadsafe(future.set_result, value)

    threading.Thread(target=run, name="helve-policy", daemon=True).start()


@lru_cache(maxsize=256)
def _config(text: str) -> Any:
    """The configuration of a deployment as the object that policies read."""
    from helve.serve._autoscaling import AutoscalingConfig, AutoscalingPolicy

    fields = json.loads(text)
    policy = fields.pop("policy", None)
    config = AutoscalingConfig(**{k: v for k, v in fields.items() if k in AutoscalingConfig.model_fields and v is not None})  # null is the default in files
    if isinstance(policy, dict):
        named = {k: v for k, v in policy.items() if k in AutoscalingPolicy.model_fields}
        config.policy = AutoscalingPolicy.model_construct(**{"policy_kwargs": {}, **named})  # not resolved: this process may not be able to import it
    return config


def _context(v: dict) -> Any:
    from helve.serve._autoscaling import AutoscalingContext
    from helve.serve._replica import ReplicaID
    from helve.serve.handle import DeploymentID

    of = DeploymentID(v["deployment"], v["app"])
    total, queued = v["total"], v["queued"]

    def by_replica(metrics: Optional[dict], read: Callable) -> dict:
        return {name: {ReplicaID(id, of): read(value) for id, value in values.items()} for name, values in (metrics or {}).items()}

    return AutoscalingContext(
        deployment_id=of, deployment_name=of.name, app_name=of.app_name, current_num_replicas=v["current"], target_num_replicas=v["target"],
        running_replicas=[ReplicaID(id, of) for id in v.get("running") or ()], total_num_requests=total, total_queued_requests=queued,
        aggregated_metrics=lambda: by_replica(v.get("aggregated"), float),
        raw_metrics=lambda: by_replica(v.get("raw"), lambda samples: [Sample(t, x) for t, x in samples]),
        capacity_adjusted_min_replicas=v["least"], capacity_adjusted_max_replicas=v["most"], policy_state=_state_in(v.get("state")),
        last_scale_up_time=v.get("last_up"), last_scale_down_time=v.get("last_down"), current_time=v["now"],
        config=_config(json.dumps(v["config"], sort_keys=True)) if v.get("config") else None,
    )


def _answer(name: str, outcome: Any, views: List[dict]) -> dict:
    state: Any = None
    if isinstance(outcome, tuple):
        if len(outcome) != 2:
            raise PolicyError(f"it must return (number, state), and has returned {len(outcome)} values")
        outcome, state = outcome
    if name != "":
        only = views[0]["deployment"]
        return {"replicas": {only: _number(outcome)}, "states": {} if state is None else {only: _state_out(state)}}
    if not isinstance(outcome, dict):
        raise PolicyError(f"it must return a dict from DeploymentID to number, and has returned a {type(outcome).__name__}")
    known = {v["deployment"] for v in views}
    replicas = {_deployment(key, known): _number(value) for key, value in outcome.items()}
    if state is not None and not isinstance(state, dict):
        raise PolicyError(f"its states must be a dict from DeploymentID to dict, and are a {type(state).__name__}")
    return {"replicas": replicas, "states": {_deployment(key, known): _state_out(value) for key, value in (state or {}).items()}}


def _deployment(key: Any, known: set) -> str:
    name = key if isinstance(key, str) else getattr(key, "name", None)
    if name not in known:
        raise PolicyError(f"it has returned a number for {key!r}, which is no autoscaled deployment of the application; there are {', '.join(sorted(known))}")
    return name


def _number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (0 <= number < math.inf):
        raise PolicyError(f"it must return a number of replicas, 0 or more, and has returned {value!r:.100}")
    return number


def _state_in(state: Any) -> dict:
    """The state that a policy has returned; {} for a pickle that cannot be read: its class may be another one since, and the policy would never answer again."""
    if isinstance(state, dict) and PICKLE in state:
        from helve._pickling import loads

        try:
            return loads(base64.b64decode(state[PICKLE]))
        except Exception as e:
            from helve._guard import text, type_name

            print(f"helve: the state of an autoscaling policy cannot be read, and begins anew: {type_name(e)}: {text(e)}", file=sys.stderr)
            return {}
    return state or {}


def _state_out(state: Any) -> dict:
    """A state as JSON, also one with values that JSON does not have, such as a deque or a time."""
    if not isinstance(state, dict):
        raise PolicyError(f"its state must be a dict, and is a {type(state).__name__}")
    try:
        text = json.dumps(state, allow_nan=False)  # the node reads no Infinity
        plain = json.loads(text) == state
    except (TypeError, ValueError, RecursionError):
        plain = False
    if not plain:
        from helve._pickling import dumps

        state = {PICKLE: base64.b64encode(dumps(state)).decode()}
        text = json.dumps(state)
    if len(text) > STATE_MAX:
        raise PolicyError(f"its state has {len(text)} bytes as JSON, at most {STATE_MAX}: keep what is large in attributes of a class")
    return state


class _Process:
    """Reads questions on a thread, and answers them on the event loop."""

    def __init__(self) -> None:
        os.set_inheritable(ANSWERS, False)  # processes that the user's code starts do not hold it open
        self.answers = os.fdopen(ANSWERS, "wb", buffering=0)
        self.questions = os.fdopen(os.dup(0), "rb")
        devnull = os.open(os.devnull, os.O_RDONLY)
        os.dup2(devnull, 0)  # the user's code reads no questions
        os.close(devnull)
        self.tasks: set = set()

    def run(self) -> None:
        request = json.loads(self.questions.readline() or "null")
        if request is None:
            return
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        if os.environ.get("HELVE_RAY_COMPAT"):
            from helve import raycompat

            raycompat.install()
        self.policies = Policies(request.get("code"), _Watch())
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        threading.Thread(target=self._read, name="helve-questions", daemon=True).start()
        self.loop.run_forever()

    def _read(self) -> None:
        for line in self.questions:
            self.loop.call_soon_threadsafe(self._take, json.loads(line))
        leave()  # the node has closed its end, or has gone

    def _take(self, question: dict) -> None:
        task = self.loop.create_task(self._serve(question))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, question: dict) -> None:
        answer = await self.policies.ask(question)
        line = json.dumps({"id": question["id"], **answer}).encode() + b"\n"
        while line:
            line = line[self.answers.write(line):]


def leave(code: int = 0) -> None:
    """Ends the process at once: threads of the user's code do not hold it up."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


def main() -> None:
    """Answers questions until the node closes the standard input."""
    try:
        _Process().run()
    except BaseException:  # of this module: the user's code has errors of its own
        import traceback

        traceback.print_exc()
        os._exit(1)
    leave()


__all__ = ["Policies", "Sample", "main"]
