"""The context of a gRPC request and the stream of its messages. gRPC itself is not served yet; unit tests of methods that take them can make them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, AsyncIterator, Dict, Generic, List, Optional, Tuple, TypeVar

from helve import _refused

T = TypeVar("T")


class RayServegRPCContext:
    """The context of a gRPC request, made of a context of the package grpc."""

    def __init__(self, grpc_context: Any):
        self._auth_context, self._peer_identities, self._peer_identity_key = grpc_context.auth_context(), grpc_context.peer_identities(), grpc_context.peer_identity_key()
        self._invocation_metadata = [tuple(pair) for pair in grpc_context.invocation_metadata()]
        self._peer = grpc_context.peer()
        self._code, self._details, self._trailing_metadata = grpc_context.code(), grpc_context.details(), list(grpc_context.trailing_metadata() or ())
        self._compression = None

    def auth_context(self) -> Dict[str, Any]:
        return self._auth_context

    def code(self) -> Any:
        return self._code

    def details(self) -> str:
        return self._details

    def invocation_metadata(self) -> List[Tuple[str, str]]:
        return self._invocation_metadata

    def _of_client(self, key: str) -> Optional[str]:
        return dict(self._invocation_metadata).get(key)

    def request_id(self) -> Optional[str]:
        return self._of_client("request_id")

    def application(self) -> Optional[str]:
        return self._of_client("application")

    def multiplexed_model_id(self) -> Optional[str]:
        return self._of_client("multiplexed_model_id")

    def traceparent(self) -> Optional[str]:
        return self._of_client("traceparent")

    def tracestate(self) -> Optional[str]:
        return self._of_client("tracestate")

    def peer(self) -> str:
        return self._peer

    def peer_identities(self) -> Optional[bytes]:
        return self._peer_identities

    def peer_identity_key(self) -> Optional[str]:
        return self._peer_identity_key

    def trailing_metadata(self) -> List[Tuple[str, str]]:
        return self._trailing_metadata

    def set_code(self, code: Any) -> None:
        self._code = code

    def set_compression(self, compression: Any) -> None:
        self._compression = compression

    def set_details(self, details: str) -> None:
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: List[Tuple[str, str]]) -> None:
        self._trailing_metadata = trailing_metadata


class gRPCInputStream(Generic[T]):
    """The messages of a client's stream, read with `async for`."""

    def __init__(self, request_iterator: AsyncIterator[T], *, cancel_event: Optional[asyncio.Event] = None):
        self._items, self._cancelled, self._exhausted = request_iterator, cancel_event or asyncio.Event(), False

    def __aiter__(self) -> "gRPCInputStream[T]":
        return self

    async def __anext__(self) -> T:
        if self._cancelled.is_set() or self._exhausted:
            raise StopAsyncIteration
        try:
            return await self._items.__anext__()
        except StopAsyncIteration:
            self._exhausted = True
            raise

    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    @property
    def is_exhausted(self) -> bool:
        return self._exhausted


__all__ = ["RayServegRPCContext", "gRPCInputStream"]
if not TYPE_CHECKING:
    __getattr__ = _refused.attributes(__name__, known=__all__)
