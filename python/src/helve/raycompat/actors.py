"""Actors, and the module ``ray.actor``. An actor is a hidden deployment of one replica, in a process of its own."""

from __future__ import annotations

import concurrent.futures
import inspect
import re
import threading
import time
import uuid
import weakref
from typing import Any, Optional

from helve import _refused
from helve._call import Call, new_request
from helve._encoding import Failure, parse_envelope
from helve._pickling import dumps
from helve._stream import StreamCall
from helve.raycompat import hosts, link, options as option_rules
from helve.raycompat.exceptions import ActorAlreadyExistsError, ActorDiedError, ReplicaDiedError
from helve.raycompat.refs import Gate, get, results, send
from helve.raycompat.session import session
from helve.serve.exceptions import ReplicaUnavailableError
from helve.serve.responses import RESPONSES

BUILT_IN = ("__ray_ready__", "__ray_call__", "__ray_terminate__")
GONE = frozenset(("deployment_unavailable", "replica_unavailable", "replica_died", "may_have_run"))  # reasons for which an actor counts as dead
STARTED = 60.0  # seconds that ray.get_actor waits for an actor that another process starts

_UNNAMED = re.compile(re.escape(link.HIDDEN) + "actor\\.[0-9a-f]{32}")

_named: "weakref.WeakValueDictionary[str, Actor]" = weakref.WeakValueDictionary()
_lock = threading.RLock()


class ActorID:
    """The id of an actor."""

    def __init__(self, id: str):
        self._id = id

    def hex(self) -> str:
        return self._id

    def binary(self) -> bytes:
        return bytes.fromhex(self._id)

    def is_nil(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorID) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"ActorID({self._id})"


class Actor:
    """An actor as one process sees it. Its handles share it."""

    def __init__(self, app: str, about: dict, gate: Gate):
        self.app, self.about, self.gate = app, about, gate
        self.target = (app, about["deployment"], "call")
        self.streamed = (app, about["deployment"], "stream")
        self.started: Optional[concurrent.futures.Future] = None  # of the process that makes it
        self.reason = ""  # why it is dead
        self.shared = False  # a handle was pickled: others may have it

    def died(self, error: BaseException) -> BaseException:
        """The error of a call whose actor is dead; another error as it is."""
        if isinstance(error, ActorDiedError) and type(error) is not ReplicaDiedError:
            return error
        data = error.__dict__.get("_helve")
        reason = parse_envelope(data).get("reason") if data else ""
        if reason not in GONE and not (reason == "cancelled" and self.reason) and not (not data and type(error) is ReplicaUnavailableError):
            return error
        if reason == "replica_died" and not self.reason and not self.about.get("max_restarts"):
            self.reason = "its process has ended"
            _delete(self.app, self.gate.conn)  # otherwise the node starts another
        return ActorDiedError(self.about["id"], f"The actor died unexpectedly before finishing this task: {self.about['class']}: {self.reason or error}")


class ActorCall(Call):
    """A call of an actor's method."""

    __slots__ = ("actor",)

    def finish(self, value, error, *more):
        super().finish(value, _translated(self, error), *more)


class ActorStream(StreamCall):
    """A call of an actor's method that is a generator."""

    __slots__ = ("actor",)

    def finish(self, value, error, *more):
        super().finish(value, _translated(self, error), *more)


def _translated(call: Any, error: Any) -> Any:
    if error is None or call.done:
        return error
    e = error.exception() if type(error) is Failure else error
    made = call.actor.died(e)
    return error if made is e else made


def _delete(app: str, conn: Any) -> "concurrent.futures.Future":
    from helve import _limits

    future: concurrent.futures.Future = concurrent.futures.Future()
    conn.post(conn.ask, future, "delete", _limits.request("delete", {"name": app}))
    return future


def _dropped(app: str, conn: Any, actor: dict) -> None:
    """Runs when the last handle of an actor is gone in the process that made it."""
    if not actor["shared"] and conn.lost is None:
        _delete(app, conn)


# ---- classes


class ActorClass:
    """A class of actors: `@ray.remote` on a class."""

    def __init__(self, cls: type, options: dict):
        self._cls, self._options = cls, option_rules.checked(options, True)
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(self, name, getattr(cls, name, None))

    def remote(self, *args: Any, **kwargs: Any) -> "ActorHandle":
        return _create(self._cls, args, kwargs, self._options)

    def options(self, **options: Any) -> "ActorClass":
        return ActorClass(self._cls, {**self._options, **options})

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{self.__name__}.bind is not in Helve: graphs are made of deployments (@serve.deployment); an actor is made by {self.__name__}.remote(...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"Actors cannot be instantiated directly. Instead of '{self.__name__}()', use '{self.__name__}.remote()'.")

    def __reduce__(self):
        return ActorClass, (self._cls, self._options)

    def __repr__(self) -> str:
        return f"ActorClass({self.__name__})"


def methods_of(cls: type) -> dict:
    """The methods of a class, each with its options."""
    found = {}
    for name in dir(cls):
        fn = inspect.getattr_static(cls, name)
        fn = getattr(fn, "__func__", fn)
        if inspect.isfunction(fn) and (not name.startswith("__") or name == "__call__"):
            found[name] = {
                "num_returns": getattr(fn, "__ray_num_returns__", None),
                "stream": inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn),
            }
    return found


def method(*args: Any, **options: Any) -> Any:
    """Decorates a method of an actor with options, for example @ray.method(num_returns=2)."""
    valid = ("num_returns", "concurrency_group", "max_task_retries", "retry_exceptions", "enable_task_events", "tensor_transport", "_generator_backpressure_num_objects")
    if args or not options or any(o not in valid for o in options):
        raise AssertionError(f"The @ray.method decorator must be applied using at least one of the arguments in the list {valid}, for example '@ray.method(num_returns=2)'.")

    def decorate(fn: Any) -> Any:
        if "num_returns" in options:
            fn.__ray_num_returns__ = options["num_returns"]
        return fn

    return decorate


def _namespace(given: Optional[str]) -> str:
    return session().namespace if given is None else given


def _create(cls: type, args: tuple, kwargs: dict, options: dict) -> "ActorHandle":
    here = session()
    name = options.get("name")
    id = uuid.uuid4().hex
    about = {
        "id": id, "class": cls.__name__, "deployment": re.sub("[^A-Za-z0-9_]", "_", cls.__name__), "name": name, "namespace": _namespace(options.get("namespace")),
        "methods": methods_of(cls), "max_restarts": options.get("max_restarts") or 0, "resources": _resources(options),
    }
    with _lock:
        app = link.application_of(about)
        if name and _exists(app):
            if options.get("get_if_exists"):
                return get_actor(name, options.get("namespace"))
            raise ActorAlreadyExistsError(
                f"The name {name} (namespace={about['namespace'] or None}) is already taken. Please use a different name or get the existing actor using "
                f"ray.get_actor('{name}', namespace='{about['namespace']}')"
            )
        gate = Gate(link.connection())
        actor = Actor(app, about, gate)
        if name:
            _named[app] = actor
    actor.started = started = concurrent.futures.Future()
    deployed = option_rules.of_deployment(options)
    refs = [v for v in (*args, *kwargs.values()) if type(v) in RESPONSES]
    if refs:  # their values are arguments of the constructor
        threading.Thread(target=_start_later, args=(app, cls, args, kwargs, options, about, deployed, gate, started), daemon=True).start()
    else:
        _start(app, cls, args, kwargs, options, about, deployed, gate, started)
    if not name and options.get("lifetime") != "detached":
        about["shared"] = False
        weakref.finalize(actor, _dropped, app, gate.conn, about).atexit = False
    return ActorHandle(actor)


def _resources(options: dict) -> dict:
    made = {"CPU": options.get("num_cpus"), "GPU": options.get("num_gpus"), **(options.get("resources") or {})}
    return {k: float(v) for k, v in made.items() if v}


def _start_later(app: str, cls: type, args: tuple, kwargs: dict, options: dict, about: dict, deployed: dict, gate: Gate, started: Any) -> None:
    try:
        args = tuple(get(v) if type(v) in RESPONSES else v for v in args)
        kwargs = {k: get(v) if type(v) in RESPONSES else v for k, v in kwargs.items()}
        _start(app, cls, args, kwargs, options, about, deployed, gate, started)
    except Exception as e:
        gate.close(_not_made(about, str(e)))
        started.set_result(None)


def _start(app: str, cls: type, args: tuple, kwargs: dict, options: dict, about: dict, deployed: dict, gate: Gate, started: Any) -> None:
    payload = dumps((cls, args, kwargs, options.get("max_concurrency")))

    def ready(reply: concurrent.futures.Future) -> None:
        try:
            error = reply.result().get("error")
        except Exception as e:
            error = {"message": str(e)}
        if error:
            trace = error.get("traceback") or ""
            gate.close(_not_made(about, f"{error['message'].partition('.constructor: ')[2] or error['message']}\n\n{trace}".rstrip()))
            if gate.conn.lost is None:
                _delete(app, gate.conn)
        else:
            gate.open()
        started.set_result(None)

    link.deploy(app, about["deployment"], hosts.ActorHost, (payload, about), deployed, options.get("lifetime") == "detached").add_done_callback(ready)


def _not_made(about: dict, text: str) -> ActorDiedError:
    return ActorDiedError(about["id"], f"The actor died because of an error raised in its creation task, {about['class']}.__init__: {text}", True)


# ---- handles


class ActorHandle:
    """A client of an actor."""

    def __init__(self, actor: Actor):
        self.__dict__["_actor"] = actor

    @property
    def _actor_id(self) -> ActorID:
        return ActorID(self._actor.about["id"])

    @property
    def _ray_actor_id(self) -> ActorID:
        return self._actor_id

    def __getattr__(self, name: str) -> "ActorMethod":
        about = self.__dict__["_actor"].about
        if name in BUILT_IN:
            return ActorMethod(self._actor, name, {})
        if name not in about["methods"]:
            raise AttributeError(f"'{about['class']}' object has no attribute '{name}': the actor's class has no such method; it has {', '.join(about['methods']) or 'none'}")
        return ActorMethod(self._actor, name, about["methods"][name])

    def __reduce__(self):
        actor = self._actor
        actor.shared = actor.about["shared"] = True
        if actor.started is not None:
            actor.started.result()  # another process calls it at once
        return _restored, (actor.app, {**actor.about, "shared": True})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._actor.app == self._actor.app

    def __hash__(self) -> int:
        return hash(self._actor.app)

    def __repr__(self) -> str:
        return f"Actor({self._actor.about['class']}, {self._actor.about['id']})"


def _restored(app: str, about: dict) -> ActorHandle:
    gate = Gate(link.connection())
    gate.open()
    return ActorHandle(Actor(app, about, gate))


class ActorMethod:
    """A method of an actor."""

    def __init__(self, actor: Actor, name: str, about: dict):
        self._actor, self._name, self._about = actor, name, about

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        actor, n = self._actor, self._about.get("num_returns")
        stream = n in ("streaming", "dynamic") or self._about.get("stream") and n is None
        call: Any = (ActorStream if stream else ActorCall)(actor.gate.conn, new_request())
        call.actor = actor
        if actor.reason:
            call.finish(None, ActorDiedError(actor.about["id"], f"The actor is dead: {actor.about['class']}: {actor.reason}"))
        else:
            send(actor.gate, call, actor.streamed if stream else actor.target, (self._name, *args), kwargs)
        return results(call, n)

    def options(self, **options: Any) -> "ActorMethod":
        return ActorMethod(self._actor, self._name, {**self._about, **options})

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{self._name}.bind is not in Helve: call {self._name}.remote(...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"Actor methods cannot be called directly. Instead of running 'object.{self._name}()', try 'object.{self._name}.remote()'.")


# ---- the functions of ray


def _exists(app: str) -> bool:
    actor = _named.get(app)
    if actor is not None and not actor.reason and actor.gate.failure is None and actor.gate.conn.lost is None:
        return True
    return app in link.applications()


def get_actor(name: str, namespace: Optional[str] = None) -> ActorHandle:
    """The actor of a name, wherever it was made."""
    if not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    app = link.application_of({"name": name, "namespace": _namespace(namespace)})
    actor = _named.get(app)
    if actor is not None and not actor.reason and actor.gate.failure is None and actor.gate.conn.lost is None:
        return ActorHandle(actor)
    end = time.monotonic() + STARTED
    while True:
        found = link.applications().get(app)
        if found is None or found.get("status") not in ("DEPLOYING", "NOT_STARTED") or time.monotonic() > end:
            break
        time.sleep(0.02)  # another process starts it
    if found is None or found.get("status") != "RUNNING":
        raise ValueError(
            f"Failed to look up actor with name '{name}'. No actor of this name runs in the namespace "
            f"{_namespace(namespace)!r}: it was never made here, or is dead."
        )
    return _restored(app, {**_about(app, next(iter(found["deployments"]))), "shared": True})


def _about(app: str, deployment: str) -> dict:
    """The description of an actor of another process, from the actor itself."""
    handle = _restored(app, {"id": "", "class": "actor", "deployment": deployment, "methods": {}, "max_restarts": 0, "shared": True})
    return get(ActorMethod(handle._actor, "__ray_about__", {}).remote())


def named(all_namespaces: bool) -> list:
    """The named actors that run."""
    found = []
    for app, status in link.applications().items():
        if app.startswith(link.HIDDEN + "actor.") and status.get("status") == "RUNNING" and not _UNNAMED.fullmatch(app):
            about = _about(app, next(iter(status["deployments"])))
            found.append({"name": about["name"], "namespace": about["namespace"]})
    here = session().namespace
    return found if all_namespaces else [a["name"] for a in found if a["namespace"] == here]


def kill(actor: Any, *, no_restart: bool = True) -> None:
    """Ends an actor at once. Calls of it fail with ActorDiedError."""
    if not isinstance(actor, ActorHandle):
        raise ValueError(f"ray.kill() only supported for actors. For tasks, try ray.cancel(). Got: {type(actor)}.")
    a = actor._actor
    if no_restart:
        a.reason = "it was killed by ray.kill"
        if a.started is not None and not a.started.done():
            a.gate.close(ActorDiedError(a.about["id"], f"The actor is dead: {a.about['class']}: {a.reason}"))
    _named.pop(a.app, None)
    _delete(a.app, a.gate.conn).result()


def exit_actor() -> None:
    """Ends the actor that calls this."""
    raise hosts.ExitActor


__all__ = ["ActorClass", "ActorHandle", "ActorID", "ActorMethod", "exit_actor", "get_actor", "kill", "method"]
__getattr__ = _refused.attributes("ray.actor", known=__all__)
