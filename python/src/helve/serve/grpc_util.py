"""The context of a gRPC request and the stream of its messages. gRPC itself is not served yet; unit tests of methods that take them can make them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, AsyncIterator, Dict, Generic, List, Optional, Tuple, TypeVar

from helve import _refused

T = TypeVar("T")


class RayServegRPCContext:
    """The context of a gRPC request, made of a context of the package grpc.

    Args:
        grpc_context: The `grpc.aio.ServicerContext` that is copied.
    """

    def __init__(self, grpc_context: Any):
        self._auth_context, self._peer_identities, self._peer_identity_key = grpc_context.auth_context(), grpc_context.peer_identities(), grpc_context.peer_identity_key()
        self._invocation_metadata = [tuple(pair) for pair in grpc_context.invocation_metadata()]
        self._peer = grpc_context.peer()
        self._code, self._details, self._trailing_metadata = grpc_context.code(), grpc_context.details(), list(grpc_context.trailing_metadata() or ())
        self._compression = None

    def auth_context(self) -> Dict[str, Any]:
        """The properties of the authentication."""
        return self._auth_context

    def code(self) -> Any:
        """The status code of the answer."""
        return self._code

    def details(self) -> str:
        """The text of the status of the answer."""
        return self._details

    def invocation_metadata(self) -> List[Tuple[str, str]]:
        """The metadata of the request, as pairs."""
        return self._invocation_metadata

    def _of_client(self, key: str) -> Optional[str]:
        return dict(self._invocation_metadata).get(key)

    def request_id(self) -> Optional[str]:
        """The request id in the metadata; None without one."""
        return self._of_client("request_id")

    def application(self) -> Optional[str]:
        """The name of the application in the metadata; None without one."""
        return self._of_client("application")

    def multiplexed_model_id(self) -> Optional[str]:
        """The model id in the metadata; None without one."""
        return self._of_client("multiplexed_model_id")

    def traceparent(self) -> Optional[str]:
        """The trace in the metadata; None without one."""
        return self._of_client("traceparent")

    def tracestate(self) -> Optional[str]:
        """The state of the trace in the metadata; None without one."""
        return self._of_client("tracestate")

    def peer(self) -> str:
        """The address of the client."""
        return self._peer

    def peer_identities(self) -> Optional[bytes]:
        """The identities of the client."""
        return self._peer_identities

    def peer_identity_key(self) -> Optional[str]:
        """The key of the identities of the client."""
        return self._peer_identity_key

    def trailing_metadata(self) -> List[Tuple[str, str]]:
        """The metadata of the end of the answer, as pairs."""
        return self._trailing_metadata

    def set_code(self, code: Any) -> None:
        """Sets the status code of the answer.

        Args:
            code: A `grpc.StatusCode`.
        """
        self._code = code

    def set_compression(self, compression: Any) -> None:
        """Sets the compression of the answer.

        Args:
            compression: A `grpc.Compression`.
        """
        self._compression = compression

    def set_details(self, details: str) -> None:
        """Sets the text of the status of the answer.

        Args:
            details: The text.
        """
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: List[Tuple[str, str]]) -> None:
        """Sets the metadata of the end of the answer.

        Args:
            trailing_metadata: Pairs of a key and a value.
        """
        self._trailing_metadata = trailing_metadata


class gRPCInputStream(Generic[T]):
    """The messages of a client's stream, read with `async for`.

    Args:
        request_iterator: The messages.
        cancel_event: An event that ends the stream.
    """

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
        """Whether the stream was cancelled."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ends the stream before its next message."""
        self._cancelled.set()

    @property
    def is_exhausted(self) -> bool:
        """Whether the last message was read."""
        return self._exhausted


__all__ = ["RayServegRPCContext", "gRPCInputStream"]
if not TYPE_CHECKING:
    __getattr__ = _refused.attributes(__name__, known=__all__)
