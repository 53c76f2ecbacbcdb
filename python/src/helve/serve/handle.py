"""Handles and responses."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any, Generic, Optional, TypeVar

from helve import _encoding, _limits, _refused, _runtime
from helve._arguments import Arguments, start_elsewhere
from helve._encoding import CLOUDPICKLE, CODECS, MSGPACK
from helve._stream import StreamCall
from helve._wire import Call, new_request, request_info
from helve.serve.broadcast import BROADCAST, BroadcastCall, DeploymentBroadcastResponse
from helve.serve._handle_state import DeploymentID, HandleOptions, InitHandleOptions, RequestCounter, State
from helve.serve.choose import Choosing, ReplicaSelection, dispatch
from helve.serve.responses import RESPONSES, STREAM, DeploymentResponse, DeploymentResponseGenerator, ObjectRef


CACHED = 64  # number of attributes of one handle
T = TypeVar("T")


class _Default:
    """The value of an option that was not given."""

    def __repr__(self) -> str:
        return "DEFAULT.VALUE"


class DEFAULT:
    VALUE = _Default()


class _Options:
    __slots__ = ("method", "model", "session", "python", "request_codec", "response_codec", "by_reference", "local", "stream")

    def __init__(self, python: bool):
        self.method = self.model = self.session = ""
        self.python = python
        self.request_codec = self.response_codec = CLOUDPICKLE if python else MSGPACK
        self.by_reference = self.local = None
        self.stream = False

    def copy(self) -> "_Options":
        new = _Options.__new__(_Options)
        for name in _Options.__slots__:
            setattr(new, name, getattr(self, name))
        return new


def _codec(option: str, name: Any) -> int:
    codec = CODECS.get(str.lower(str.__str__(name))) if isinstance(name, str) else None
    if codec is None:
        raise ValueError(f"{option}: {_limits.shown(name)} is not one of {', '.join(map(repr, CODECS))}")
    return codec


class DeploymentHandle(Generic[T]):
    """A client of one deployment. It is cheap to copy, and usable from any thread and any event loop. The handles that options() and attributes
    give share its identity.
    """

    def __init__(
        self, deployment_name: str, app_name: str = "default", *, language: str = "python", _options: Optional[_Options] = None,
        _state: Optional[State] = None,
    ):
        if _options is None:
            deployment_name = _limits.text("deployment_name", deployment_name, _limits.MAX_NAME)
            app_name = _limits.text("app_name", app_name, _limits.MAX_NAME)
        self._deployment, self._app, self._language = deployment_name, app_name, language
        self._options = _options or _Options(language == "python")
        self._target = (app_name, deployment_name, self._options.method)
        self._state = _state or State()

    @property
    def deployment_name(self) -> str:
        return self._deployment

    @property
    def app_name(self) -> str:
        return self._app

    @property
    def deployment_id(self) -> DeploymentID:
        return DeploymentID(self._deployment, self._app)

    @property
    def handle_id(self) -> str:
        """A random name of this handle and of all that are derived from it."""
        return self._state.handle_id

    @property
    def is_initialized(self) -> bool:
        """Whether the handle was used, or _init() was called. A handle needs no preparation: it can be used before."""
        return self._state.init_options is not None

    @property
    def init_options(self) -> Optional[InitHandleOptions]:
        return self._state.init_options

    @property
    def handle_options(self) -> HandleOptions:
        o = self._options
        return HandleOptions(
            o.method or "__call__", o.model, o.session, o.stream, o.by_reference is not False,
            _encoding.NAMES[o.request_codec], _encoding.NAMES[o.response_codec],
        )

    @property
    def request_counter(self) -> RequestCounter:
        """The number of calls that were made with this handle and all that are derived from it."""
        return RequestCounter(self._state, self._app, self._deployment)

    def _init(self, **options: Any) -> None:
        """Sets options that hold for the handle and all that are derived from it. It comes before the first use."""
        self._state.begin(options)
        if self._state.init_options._prefer_local_routing:
            self._options.local = True

    def running_replicas_populated(self) -> bool:
        """Whether the deployment has had a replica that runs, as far as this handle knows: False before its first use."""
        return self._state.populated(self._app, self._deployment)

    def shutdown(self) -> None:
        """Does nothing: a handle holds no resources. A method of this name is called with
        options(method_name="shutdown"), as any method whose name is an attribute here.
        """

    async def shutdown_async(self) -> None:
        """shutdown(), awaited."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = f".{self._options.method}" if self._options.method else ""
        from helve._refused import close_names

        meant = close_names(self._options.method or "", [n for n in dir(type(self)) if not n.startswith("_")])
        raise TypeError(
            f"a DeploymentHandle is not callable: call handle{method}.remote(...), and then await the response, or read it with .result() outside of event loops{meant}"
        )

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment='{self._deployment}')"

    def __reduce__(self):
        return _restore, (self._deployment, self._app, self._language, {n: getattr(self._options, n) for n in _Options.__slots__})

    def options(
        self, *, method_name=DEFAULT.VALUE, multiplexed_model_id=DEFAULT.VALUE, session_id=DEFAULT.VALUE, stream=DEFAULT.VALUE,
        use_new_handle_api=DEFAULT.VALUE, _prefer_local_routing=DEFAULT.VALUE, _by_reference=DEFAULT.VALUE,
        request_serialization=DEFAULT.VALUE, response_serialization=DEFAULT.VALUE, **unknown: Any,
    ) -> "DeploymentHandle[T]":
        """A handle with these options changed; the others stay."""
        if unknown:
            raise _unknown_option(next(iter(unknown)))
        self._state.use()
        o, given = self._options.copy(), lambda v: v is not DEFAULT.VALUE
        if given(use_new_handle_api):
            warnings.warn("use_new_handle_api has no effect: there is one handle API", DeprecationWarning, stacklevel=2)
        if given(stream):
            o.stream = _limits.boolean("stream", stream)
        if given(method_name):
            o.method = _limits.method_name("method_name", method_name)
        if given(multiplexed_model_id):
            o.model = _limits.text("multiplexed_model_id", multiplexed_model_id)
        if given(session_id):
            o.session = _limits.text("session_id", session_id)
        if given(_prefer_local_routing):
            o.local = _limits.boolean("_prefer_local_routing", _prefer_local_routing)
        if given(_by_reference):
            o.by_reference = _limits.boolean("_by_reference", _by_reference)
        if given(request_serialization):
            o.request_codec = _codec("request_serialization", request_serialization)
        if given(response_serialization):
            o.response_codec = _codec("response_serialization", response_serialization)
        return DeploymentHandle(self._deployment, self._app, language=self._language, _options=o, _state=self._state)

    def __getattr__(self, name: str) -> "DeploymentHandle[T]":
        if name.startswith("__") or name.startswith("_") and name.endswith("_"):  # of Python itself, and of notebooks: _repr_html_
            raise AttributeError(name)
        handle = self.options(method_name=name)
        if len(self.__dict__) < CACHED:  # not for every name that a client of a dispatcher sends
            self.__dict__[name] = handle  # found without __getattr__ from now on
        return handle

    def remote(self, *args, **kwargs) -> "DeploymentResponse | DeploymentResponseGenerator":
        """Starts a call and returns at once. The method runs even if the response is never read. With stream=True it
        runs at most 256 items or 1 MiB ahead of the reader, and ends when the response is dropped.
        """
        if not self._options.stream:
            return DeploymentResponse(self._start(Call, b"", args, kwargs))
        return DeploymentResponseGenerator(self._start(StreamCall, STREAM, args, kwargs))

    def broadcast(self, method_name: str, /, *args, **kwargs) -> "DeploymentBroadcastResponse":
        """Calls a method of every replica that the deployment has now, and returns at once. It takes no slots and
        waits for none: the calls run beside others. Arguments that are responses are waited for first.
        """
        handle = self.options(method_name=method_name, stream=False)
        return DeploymentBroadcastResponse(handle._start(BroadcastCall, BROADCAST, args, kwargs))

    def choose_replica(self, *args, **kwargs):
        """A context in which a slot of a replica is held, for dispatch(): `async with handle.choose_replica() as
        selection`, or `with` outside of event loops. It waits for a slot as a call does. The arguments play no
        part in the choice.
        """
        return Choosing(self)

    def dispatch(self, selection, /, *args, **kwargs) -> "DeploymentResponse | DeploymentResponseGenerator":
        """remote() to the chosen replica, with its slot. The method and stream are the options of the handle that
        chose.
        """
        return dispatch(self, selection, args, kwargs)

    def _start(self, kind: type, tail: bytes, args: tuple, kwargs: dict) -> Call:
        state = self._state
        state.calls += 1
        if state.init_options is None:
            state.use()
        for v in (*args, *kwargs.values()):
            if type(v) is DeploymentResponseGenerator:
                raise RuntimeError("streaming results cannot be passed to downstream handle calls; read the items, and pass those")
        conn = _runtime.current()
        info = request_info.get()
        call = kind(conn, (info.text or info.request) if info is not None else new_request())
        call.tail = tail
        call.by_value = self._options.by_reference is False
        on_loop = asyncio._get_running_loop() is conn.loop
        if info is not None:
            info.adopt(call, on_loop)
        for v in args:
            if type(v) in RESPONSES:
                break
        else:
            if not kwargs or not any(type(v) in RESPONSES for v in kwargs.values()):
                if on_loop:
                    conn.start(call, self._target, info, self._options, args, kwargs)
                else:
                    start_elsewhere(conn, call, self._target, info, self._options, args, kwargs)
                return call
        values = [v._call if type(v) in RESPONSES else v for v in (*args, *kwargs.values())]
        arguments = Arguments(conn, call, self._target, info, self._options, values, list(kwargs))
        if arguments.take():
            arguments.wait() if on_loop else conn.post(arguments.wait)
        return call


def _unknown_option(name: str) -> TypeError:
    names = [n for n in DeploymentHandle.options.__kwdefaults__ or ()]
    near = _refused.close_name(name, names)
    return TypeError(f"options() got an unexpected keyword argument {name!r}" + (f". Did you mean {near!r}?" if near else f"; there are {', '.join(names)}"))


def _restore(deployment: str, app: str, language: str, options: dict) -> DeploymentHandle:
    o = _Options(language == "python")
    for name, value in options.items():
        setattr(o, name, value)
    return DeploymentHandle(deployment, app, language=language, _options=o)


def _from_ref(ref: dict) -> DeploymentHandle:
    """The handle that a graph declared in Go passes to a constructor."""
    handle = DeploymentHandle(ref["deployment"], ref["app"], language=ref["language"])
    return handle.options(method_name=ref["method"]) if ref["method"] else handle


_encoding.handle_of = _from_ref


__all__ = ["DEFAULT", "DeploymentBroadcastResponse", "DeploymentHandle", "DeploymentResponse", "DeploymentResponseGenerator", "ObjectRef", "ReplicaSelection"]
