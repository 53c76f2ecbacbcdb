"""Handles and responses."""

from __future__ import annotations

import warnings
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, Optional, overload

from helve import _encoding, _limits, _refused, _runtime, _spans
from helve._arguments import Arguments, start_elsewhere
from helve._encoding import CLOUDPICKLE, CODECS, MSGPACK
from helve._stream import StreamCall
from helve._call import Call, new_request
from helve._frames import request_info
from helve.serve._handle_state import DeploymentID, HandleOptions, InitHandleOptions, RequestCounter, State
from helve.serve._types import T
from helve.serve.responses import RESPONSES, STREAM, DeploymentResponse, DeploymentResponseGenerator, ObjectRef

if TYPE_CHECKING:
    from typing import AsyncIterator, Callable, Coroutine, Iterator, Literal

    from helve.serve._types import P2, R
    from helve.serve.broadcast import DeploymentBroadcastResponse
    from helve.serve.choose import Choosing, ReplicaSelection

WAITED = {*RESPONSES, DeploymentResponseGenerator}  # the types of arguments that are no values
CACHED = 64  # number of attributes of one handle


class _Default:
    """The value of an option that was not given."""

    def __repr__(self) -> str:
        return "DEFAULT.VALUE"


class DEFAULT:
    """The mark of an option of `DeploymentHandle.options` that was not passed: `DEFAULT.VALUE`."""

    VALUE = _Default()


class _Options:
    __slots__ = ("method", "model", "session", "python", "request_codec", "response_codec", "by_reference", "local", "stream", "plain")

    def __init__(self, python: bool):
        self.method = self.model = self.session = ""
        self.python = python
        self.request_codec = self.response_codec = CLOUDPICKLE if python else MSGPACK
        self.by_reference: Optional[bool] = None
        self.local: Optional[bool] = None
        self.stream = self.plain = False

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
    """A client of one deployment, usable from any thread and any event loop. It is cheap to make, to copy and to pickle.

    `serve.run` gives one, `serve.get_app_handle` and `serve.get_deployment_handle` find one, and the constructor of a deployment gets one
    for every bound application among its arguments. An attribute is a method of the deployment:

        response = handle.remote("world")          # calls __call__
        response = handle.say_hi.remote("world")   # calls say_hi
        print(response.result())                   # on an event loop: await response

    The handles that `options` and attributes give share the identity and the counter of the handle that they come from.

    The type variable is the class of the deployment, or its function: `DeploymentHandle[Model]`. With it a type checker knows the result of
    `remote`, which calls `__call__`. Python has no type that maps the methods of a class to the attributes of another, so that
    `handle.say_hi` is a handle whose results are Any.

    Args:
        deployment_name: Name of the deployment, of at most 128 bytes. It need not be there yet.
        app_name: Name of its application. Default: "default".
        language: Language of the deployment, "python" or "go", for the default codec of arguments. Default: "python".
    """

    def __init__(
        self, deployment_name: str, app_name: str = "default", *, language: str = "python", _options: Optional[_Options] = None,
        _state: Optional[State] = None,
    ):
        if _options is None:
            deployment_name = _limits.text("deployment_name", deployment_name, _limits.MAX_NAME)
            app_name = _limits.text("app_name", app_name, _limits.MAX_NAME)
        self._deployment, self._app, self._language = deployment_name, app_name, language
        self._options = o = _options or _Options(language == "python")
        # Whether a call says no more than its arguments.
        o.plain = o.python and o.request_codec == o.response_codec == CLOUDPICKLE and not o.model and not o.session and o.by_reference is None
        self._target = (app_name, deployment_name, self._options.method)
        self._state = _state or State()

    @property
    def deployment_name(self) -> str:
        """Name of the deployment."""
        return self._deployment

    @property
    def app_name(self) -> str:
        """Name of the deployment's application."""
        return self._app

    @property
    def deployment_id(self) -> DeploymentID:
        """Both names of the deployment in one object, which can be a key."""
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
        """The options of `_init`; None before the first use of the handle."""
        return self._state.init_options

    @property
    def handle_options(self) -> HandleOptions:
        """The options of the handle, with their present values."""
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
        given = self._state.init_options
        if given is not None and given._prefer_local_routing:
            self._options.local = True

    def running_replicas_populated(self) -> bool:
        """Whether the deployment has had a replica that runs, as far as this handle knows: False before its first use."""
        return self._state.populated(self._app, self._deployment)

    def shutdown(self) -> None:
        """Does nothing: a handle holds no resources.

        A method of this name is called with `options(method_name="shutdown")`, as any method whose name is an attribute here.
        """

    async def shutdown_async(self) -> None:
        """`shutdown` for code on an event loop."""

    if not TYPE_CHECKING:  # type checkers refuse the call

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            method = f".{self._options.method}" if self._options.method else ""
            from helve._refused import close_names

            meant = close_names(self._options.method or "", [n for n in dir(type(self)) if not n.startswith("_")])
            raise TypeError(
                f"a DeploymentHandle is not callable: call handle{method}.remote(...), and then await the response, or read it with .result() outside of event loops{meant}"
            )

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment='{self._deployment}')"

    def __reduce__(self) -> Any:
        return _restore, (self._deployment, self._app, self._language, {n: getattr(self._options, n) for n in _Options.__slots__})

    def _reference(self) -> dict:
        """The handle as it goes to Go, which has the options of its own handles."""
        return {"app": self._app, "deployment": self._deployment, "method": self._options.method, "language": self._language}

    @overload
    def options(
        self, *, stream: "Literal[True]", method_name: str, multiplexed_model_id: str = ..., session_id: str = ..., use_new_handle_api: bool = ...,
        _prefer_local_routing: bool = ..., _by_reference: bool = ..., request_serialization: str = ..., response_serialization: str = ...,
    ) -> "StreamingHandle[Any]": ...
    @overload
    def options(
        self, *, stream: "Literal[True]", multiplexed_model_id: str = ..., session_id: str = ..., use_new_handle_api: bool = ...,
        _prefer_local_routing: bool = ..., _by_reference: bool = ..., request_serialization: str = ..., response_serialization: str = ...,
    ) -> "StreamingHandle[T]": ...
    @overload
    def options(
        self, *, method_name: str, stream: bool = ..., multiplexed_model_id: str = ..., session_id: str = ..., use_new_handle_api: bool = ...,
        _prefer_local_routing: bool = ..., _by_reference: bool = ..., request_serialization: str = ..., response_serialization: str = ...,
    ) -> "DeploymentHandle[Any]": ...
    @overload
    def options(
        self, *, stream: bool = ..., multiplexed_model_id: str = ..., session_id: str = ..., use_new_handle_api: bool = ...,
        _prefer_local_routing: bool = ..., _by_reference: bool = ..., request_serialization: str = ..., response_serialization: str = ...,
    ) -> "DeploymentHandle[T]": ...
    def options(
        self, *, method_name: Any = DEFAULT.VALUE, multiplexed_model_id: Any = DEFAULT.VALUE, session_id: Any = DEFAULT.VALUE,
        stream: Any = DEFAULT.VALUE, use_new_handle_api: Any = DEFAULT.VALUE, _prefer_local_routing: Any = DEFAULT.VALUE,
        _by_reference: Any = DEFAULT.VALUE, request_serialization: Any = DEFAULT.VALUE, response_serialization: Any = DEFAULT.VALUE, **unknown: Any,
    ) -> "DeploymentHandle[Any]":
        """A handle with these options changed. An option that is not passed stays as it is.

        Args:
            method_name: Name of the method that `remote` calls, a str. `handle.options(method_name="say_hi")` is `handle.say_hi`, also for a
                name that the handle has itself, such as "options". Default: "__call__".
            multiplexed_model_id: Id of the model for `serve.multiplexed`, a str: the call goes to a replica that has the model, if there is one.
                Default: "", no model.
            session_id: Id of a session, a str: with the routing policy consistent_hash the calls of one session go to one replica. Default: "".
            stream: Whether the method is a generator, and `remote` returns a `DeploymentResponseGenerator`. Default: False.
            use_new_handle_api: Without effect: there is one handle API. Giving it is a DeprecationWarning.
            _prefer_local_routing: Whether replicas of the caller's node go first. Default: False.
            _by_reference: Whether a result may stay in the node or in shared memory until it is read. Default: True.
            request_serialization: Codec of the arguments: "cloudpickle", "pickle", "msgpack", "orjson" or "raw". Default: "cloudpickle", and
                "msgpack" for a deployment in Go.
            response_serialization: Codec of the result, as above.
            **unknown: Refused.

        Returns:
            A new handle to the same deployment.

        Raises:
            TypeError: An option that is not there, or a value of a wrong type.
            ValueError: A codec that is not there.
        """
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

    def __getattr__(self, name: str) -> "DeploymentHandle[Any]":
        if name.startswith("__") or name.startswith("_") and name.endswith("_"):  # of Python itself, and of notebooks: _repr_html_
            raise AttributeError(name)
        handle = self.options(method_name=name)
        if len(self.__dict__) < CACHED:  # not for every name that a client of a dispatcher sends
            self.__dict__[name] = handle  # found without __getattr__ from now on
        return handle

    # The overloads tell the result from the class or function that the handle is of. They refuse no arguments, because a response of another call
    # stands for its result: handle.remote(other.remote(1)) passes an int on. Those with P2 come first, so that an editor shows the real parameters.
    @overload
    def remote(self: "DeploymentHandle[Callable[P2, Coroutine[Any, Any, R]]]", *args: "P2.args", **kwargs: "P2.kwargs") -> "DeploymentResponse[R]": ...
    @overload
    def remote(self: "DeploymentHandle[Callable[P2, R]]", *args: "P2.args", **kwargs: "P2.kwargs") -> "DeploymentResponse[R]": ...
    @overload
    def remote(self: "DeploymentHandle[Callable[..., Coroutine[Any, Any, R]]]", *args: Any, **kwargs: Any) -> "DeploymentResponse[R]": ...  # type: ignore[overload-cannot-match]
    @overload
    def remote(self: "DeploymentHandle[Callable[..., R]]", *args: Any, **kwargs: Any) -> "DeploymentResponse[R]": ...  # type: ignore[overload-cannot-match]
    @overload
    def remote(self, *args: Any, **kwargs: Any) -> "DeploymentResponse[Any]": ...
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Starts a call and returns at once. The method runs even if the response is never read.

        Args:
            *args: Arguments of the method. A `DeploymentResponse` among them stands for its result, which goes to the replica without a detour
                over this process.
            **kwargs: Keyword arguments of the method, in the same way.

        Returns:
            A `DeploymentResponse`. With `options(stream=True)` a `DeploymentResponseGenerator`: the method runs at most 256 items or 1 MiB
            ahead of the reader, and ends when the response is dropped.

        Raises:
            RuntimeError: A stream among the arguments, or a program without a node.
            TypeError: Arguments that cannot be pickled.

        Errors of the call itself are raised where the response is read: the exception of the method, `BackPressureError` when the queue of the
        caller is full, `DeploymentUnavailableError`, `ReplicaUnavailableError`, `RequestCancelledError`.
        """
        if not self._options.stream:
            return DeploymentResponse(self._start(Call, b"", args, kwargs))
        return DeploymentResponseGenerator(self._start(StreamCall, STREAM, args, kwargs))

    def broadcast(self, method_name: str, /, *args: Any, **kwargs: Any) -> "DeploymentBroadcastResponse[Any]":
        """Calls a method of every replica that the deployment has now, and returns at once.

        It takes no slots and waits for none: the calls run beside others. Arguments that are responses are waited for first.

        Args:
            method_name: Name of the method.
            *args: Arguments of the method, the same for every replica.
            **kwargs: Keyword arguments of the method.

        Returns:
            The answers of the replicas: `results()`, or `await results_async()`.
        """
        from helve.serve.broadcast import BROADCAST, BroadcastCall, DeploymentBroadcastResponse  # few programs need it

        handle = self.options(method_name=method_name, stream=False)
        return DeploymentBroadcastResponse(handle._start(BroadcastCall, BROADCAST, args, kwargs))

    def choose_replica(self, *args: Any, **kwargs: Any) -> Choosing:
        """A context in which a slot of a replica is held, for `dispatch`. It waits for a slot as a call does:

            async with handle.choose_replica() as selection:    # `with` outside of event loops
                print(selection.replica_id)
                result = await handle.dispatch(selection, 1)

        Args:
            *args: Taken because Ray Serve has them. They play no part in the choice.
            **kwargs: As above.

        Returns:
            The context, whose value is a `ReplicaSelection`.

        Raises:
            BackPressureError: When the context is entered and the queue of the caller is full.
        """
        from helve.serve.choose import Choosing  # few programs need it

        return Choosing(self)

    def dispatch(self, selection: ReplicaSelection, /, *args: Any, **kwargs: Any) -> "DeploymentResponse[Any]":
        """`remote` to the chosen replica, with its slot. The method and `stream` are the options of the handle that chose.

        Args:
            selection: The value of `choose_replica`. It is used once.
            *args: Arguments of the method.
            **kwargs: Keyword arguments of the method.

        Returns:
            The response, as of `remote`. If the selection was used before, or its context has ended, the response fails with a RuntimeError.

        Raises:
            TypeError: Another value than a selection.
            ValueError: A selection of another deployment.
        """
        from helve.serve.choose import dispatch

        return dispatch(self, selection, args, kwargs)

    def _start(self, kind: type, tail: bytes, args: tuple, kwargs: dict) -> Call:
        state = self._state
        state.calls += 1
        if state.init_options is None:
            state.use()
        waits = False  # for responses among the arguments
        for v in args:
            if type(v) in WAITED:
                waits = True
        if kwargs:
            for v in kwargs.values():
                if type(v) in WAITED:
                    waits = True
        if waits and any(type(v) is DeploymentResponseGenerator for v in (*args, *kwargs.values())):
            raise RuntimeError("streaming results cannot be passed to downstream handle calls; read the items, and pass those")
        conn = _runtime.connection
        if conn is None or conn.lost is not None:
            conn = _runtime.current()
        info = request_info.get()
        call = kind(conn, (info.text or info.request) if info is not None else new_request())
        if tail:
            call.tail = tail
        if self._options.by_reference is False:
            call.by_value = True
        if _spans.used or _spans.OTEL in _spans.modules:
            span = _spans.of_call(info)
            if span is not None:
                call.span = span
        if info is None and call.span is None:
            call.span = _spans.of_origin()
        on_loop = get_ident() == conn.thread_id
        if info is not None:
            info.adopt(call, on_loop)
        if not waits:
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


if TYPE_CHECKING:

    class StreamingHandle(DeploymentHandle[T]):
        """A handle with `stream=True`, for annotations: `handle.options(stream=True)` gives it, and its `remote` returns a
        `DeploymentResponseGenerator`. When the program runs it is `DeploymentHandle` itself.
        """

        @overload  # type: ignore[override]
        def options(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, *, stream: "Literal[False]", method_name: str, multiplexed_model_id: str = ..., session_id: str = ..., use_new_handle_api: bool = ...,
            _prefer_local_routing: bool = ..., _by_reference: bool = ..., request_serialization: str = ..., response_serialization: str = ...,
        ) -> "DeploymentHandle[Any]": ...
        @overload
        def options(
            self, *, stream: "Literal[False]", multiplexed_model_id: str = ..., session_id: str = ..., use_new_handle_api: bool = ...,
            _prefer_local_routing: bool = ..., _by_reference: bool = ..., request_serialization: str = ..., response_serialization: str = ...,
        ) -> "DeploymentHandle[T]": ...
        @overload
        def options(
            self, *, method_name: str, stream: "Literal[True]" = ..., multiplexed_model_id: str = ..., session_id: str = ..., use_new_handle_api: bool = ...,
            _prefer_local_routing: bool = ..., _by_reference: bool = ..., request_serialization: str = ..., response_serialization: str = ...,
        ) -> "StreamingHandle[Any]": ...
        @overload
        def options(
            self, *, stream: "Literal[True]" = ..., multiplexed_model_id: str = ..., session_id: str = ..., use_new_handle_api: bool = ...,
            _prefer_local_routing: bool = ..., _by_reference: bool = ..., request_serialization: str = ..., response_serialization: str = ...,
        ) -> "StreamingHandle[T]": ...
        def options(self, **options: Any) -> Any: ...
        def __getattr__(self, name: str) -> "StreamingHandle[Any]": ...
        @overload  # type: ignore[override]
        def remote(  # pyright: ignore[reportIncompatibleMethodOverride]
            self: "StreamingHandle[Callable[P2, AsyncIterator[R]]]", *args: "P2.args", **kwargs: "P2.kwargs",
        ) -> "DeploymentResponseGenerator[R]": ...
        @overload
        def remote(
            self: "StreamingHandle[Callable[P2, Iterator[R]]]", *args: "P2.args", **kwargs: "P2.kwargs",
        ) -> "DeploymentResponseGenerator[R]": ...
        @overload
        def remote(self: "StreamingHandle[Callable[..., AsyncIterator[R]]]", *args: Any, **kwargs: Any) -> "DeploymentResponseGenerator[R]": ...  # type: ignore[overload-cannot-match]
        @overload
        def remote(self: "StreamingHandle[Callable[..., Iterator[R]]]", *args: Any, **kwargs: Any) -> "DeploymentResponseGenerator[R]": ...  # type: ignore[overload-cannot-match]
        @overload
        def remote(self, *args: Any, **kwargs: Any) -> "DeploymentResponseGenerator[Any]": ...
        def remote(self, *args: Any, **kwargs: Any) -> Any: ...
        def dispatch(  # type: ignore[override]
            self, selection: ReplicaSelection, /, *args: Any, **kwargs: Any,
        ) -> "DeploymentResponseGenerator[Any]": ...  # pyright: ignore[reportIncompatibleMethodOverride]
else:
    StreamingHandle = DeploymentHandle


def _load(name: str) -> Any:
    """A name of this module whose own module few programs need."""
    from importlib import import_module

    module = {"DeploymentBroadcastResponse": "broadcast", "ReplicaSelection": "choose"}[name]
    return getattr(import_module(f"helve.serve.{module}"), name)


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


__all__ = ["DEFAULT", "DeploymentBroadcastResponse", "DeploymentHandle", "DeploymentResponse", "DeploymentResponseGenerator", "ObjectRef", "ReplicaSelection", "StreamingHandle"]

if not TYPE_CHECKING:
    __getattr__ = _refused.attributes(__name__, _load, __all__)
