"""The context of the request that the running code serves, and the contexts of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Optional

from helve import _runtime, _spans
from helve._call import new_request
from helve._frames import RequestInfo, request_info


@dataclass(frozen=True)
class _RequestContext:
    """One request. All fields are empty outside of requests."""

    route: str = ""
    request_id: str = ""
    _internal_request_id: str = ""
    app_name: str = ""
    multiplexed_model_id: str = ""
    session_id: str = ""
    grpc_context: Optional[Any] = None
    is_http_request: bool = False
    cancel_on_parent_request_cancel: bool = False
    _client: str = ""


_NONE = _RequestContext()


class _Given(RequestInfo):
    """A request whose context was set by code, for example by a test: calls made in it have its request id."""

    __slots__ = ("context",)

    def __init__(self, context: _RequestContext):
        super().__init__(new_request(), b"", b"", 0, 0, None)
        self.context = context
        self.text, self.model, self.session = context.request_id, context.multiplexed_model_id, context.session_id


class BatchInfo(RequestInfo):
    """The call of a batch function. It stands for the calls of its members: calls that the batch function makes have the request id and
    the trace of the first member, and the latest deadline if every member has one. They are no children of the first member's call,
    because they go on when that is cancelled.
    """

    __slots__ = ("members",)

    def __init__(self, members: list, model: str):
        first = next((m for m in members if m is not None), None)
        deadline = None
        if first is None:
            super().__init__(new_request(), b"", b"", 0, 0, None)
        else:
            if all(m is not None and m.deadline is not None for m in members):
                deadline = max(m.deadline for m in members)
            super().__init__(first.request, first.trace, first.span, first.call, first.depth, deadline)
            self.text, self.frame = first.text, first.frame
        self.members, self.model = members, model


class LoadInfo(BatchInfo):
    """The call of a loader of models, on behalf of the calls that wait for the model. Its context is that of the first one."""

    __slots__ = ()


def context_of(info: Optional[RequestInfo]) -> _RequestContext:
    if info is None:
        return _NONE
    kind = type(info)
    if kind is _Given:
        return info.context
    if kind is LoadInfo:
        first = info.members[0]
        return context_of(first) if first is not None else _RequestContext(multiplexed_model_id=info.model)  # no call waits for it
    if kind is BatchInfo:  # no single request
        return _RequestContext(multiplexed_model_id=info.model)
    route = client = ""
    if info.head:
        p = info.head.split(b"\0")
        route = route_of(info.scope) or p[5].decode("utf-8", "replace") or "/"
        client = p[6].decode("utf-8", "replace") + (":" + p[7].decode() if p[7] else "")
    replica = _runtime.replica
    return _RequestContext(
        route=route, request_id=info.request_id, _internal_request_id=f"{info.call:016x}",
        app_name=replica.app_name if replica is not None else "", multiplexed_model_id=info.model, session_id=info.session,
        is_http_request=info.http is not None, _client=client,
    )


def route_of(scope: Optional[dict]) -> str:
    """The pattern of the route that an ASGI application has matched, below its prefix: /shop/items/{id}. Empty for other applications, and
    before the match.
    """
    path = getattr(scope.get("route"), "path", "") if scope else ""
    return scope.get("root_path", "") + path if isinstance(path, str) and path else ""


def _get_serve_request_context() -> _RequestContext:
    """The context of the request being served. It is empty outside of requests, and in a batch but for the model."""
    return context_of(request_info.get())


def _get_serve_batch_request_context() -> list:
    """The contexts of the members of the running batch, in the order of their items; [] outside of batch functions."""
    info = request_info.get()
    return [context_of(m) for m in info.members] if type(info) is BatchInfo else []


def _set_request_context(
    route: str = "", request_id: str = "", _internal_request_id: str = "", app_name: str = "", multiplexed_model_id: str = "",
) -> None:
    """Changes the fields that are not empty in the context of the running code."""
    given = {"route": route, "request_id": request_id, "_internal_request_id": _internal_request_id, "app_name": app_name,
             "multiplexed_model_id": multiplexed_model_id}
    now = _get_serve_request_context()
    _serve_request_context.set(_RequestContext(**{**vars(now), **{k: v for k, v in given.items() if v}}))


def _set_internal_replica_context(
    *, replica_id: Any, servable_object: Any = None, _deployment_config: Any = None, rank: Any = None, world_size: int = 1, **more: Any,
) -> None:
    """Makes this process a replica, for unit tests of code that asks for its replica, such as a loader of models."""
    deployment = getattr(replica_id, "deployment_id", None)
    _runtime.replica = SimpleNamespace(
        app_name=getattr(deployment, "app_name", ""), deployment=getattr(deployment, "name", ""), replica_tag=getattr(replica_id, "unique_id", replica_id),
        replica_id=replica_id, servable_object=servable_object, rank=rank, world_size=world_size, **{"gang_context": None, "code_version": None, **more},
    )
    _runtime.max_ongoing_requests = getattr(_deployment_config, "max_ongoing_requests", None)


class _Variable:
    """The context as a variable with the methods of contextvars.ContextVar. Threads and tasks that are started by a request see its
    context, because it is a context variable underneath.
    """

    name = "Serve internal request context variable"

    def get(self, default: Any = None) -> _RequestContext:
        return _get_serve_request_context()

    def set(self, context: _RequestContext):
        return request_info.set(_Given(context))

    def reset(self, token) -> None:
        request_info.reset(token)


_serve_request_context = _Variable()


def get_multiplexed_model_id() -> str:
    """The model id of the request being served, '' if it has none."""
    info = request_info.get()
    return info.model if info is not None else ""


def get_trace_context() -> Optional[Any]:
    """The span of the request being served, or the innermost `serve.span` in it, as a context of OpenTelemetry, for spans of your own:
    `tracer.start_as_current_span("work", context=serve.get_trace_context())`. Where the program has imported OpenTelemetry it is the current context anyway. None outside of
    requests, and if opentelemetry-api is not installed.
    """
    info = request_info.get()
    if info is None:
        return None
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.set_span_in_context(trace.NonRecordingSpan(_spans.context_of(trace, info, _spans.above(info))))


def span(name: str, **attributes: Any) -> _spans.Span:
    """A span: a part of a method that the trace of the request shows by itself, with attributes. Calls and spans in its block are inside of it.

    In a driver it is a span of the program: inside of the current one, also of OpenTelemetry, or else the begin of a trace; the calls in its block are below it, each a request of
    its own. It goes to the node that the program uses when it ends, and to none before the program uses one. In constructors and other code of a replica outside of requests it does
    nothing. A span of less than a millisecond is kept only if the request is sampled, or if it has failed.

    Args:
        name: The name of the span, such as "tokenize".
        **attributes: Texts, numbers and booleans that the trace shows with the span.

    Returns:
        A context manager, whose value is the span.

    Example:
        >>> with serve.span("tokenize", documents=len(docs)) as span:
        ...     tokens = await self.tokenizer.remote(docs)
        ...     span.set(tokens=len(tokens))
    """
    return _spans.Span(name, attributes)


__all__ = ["BatchInfo", "LoadInfo", "context_of", "get_multiplexed_model_id", "get_trace_context", "span"]
