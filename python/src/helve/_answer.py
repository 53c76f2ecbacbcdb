"""The answers of plain deployments: what a value is in HTTP."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import os
import sys
from typing import Any, Optional

from helve._event import Event

TEXT_PLAIN = b"content-type\0text/plain; charset=utf-8"
NOTHING = b"content-type\0text/plain"  # of None, as in Ray Serve
OCTETS = b"content-type\0application/octet-stream"
JSON = b"content-type\0application/json"
LINES = b"content-type\0application/x-ndjson"
EVENTS = b"content-type\0text/event-stream; charset=utf-8\0cache-control\0no-cache\0x-accel-buffering\0no"
LAST_EVENT = b"event: end\ndata:\n\n"


def jsonable(value: Any) -> Any:
    """A value that JSON has, for one that it has not."""
    if isinstance(value, Event):
        return value.fields()
    dump = getattr(value, "model_dump", None)  # pydantic
    if dump is not None and not isinstance(value, type):
        return dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (set, frozenset)) or type(value).__name__ in ("deque", "dict_keys", "dict_values"):
        return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode()
    for name in ("tolist", "isoformat"):  # arrays and numbers of numpy and torch; dates and times
        method = getattr(value, name, None)
        if callable(method):
            return method()
    if hasattr(value, "to_dict") and type(value).__module__.partition(".")[0] == "pandas":
        return value.to_dict()
    if type(value).__module__ in ("uuid", "pathlib", "ipaddress") or isinstance(value, os.PathLike):
        return str(value)
    if type(value).__name__ == "Decimal":
        return int(value) if value == value.to_integral_value() and value.as_tuple().exponent >= 0 else float(value)
    if type(value).__name__ == "timedelta":
        return value.total_seconds()
    raise TypeError(
        f"{type(value).__qualname__} is no value for JSON, nor one of the values that an HTTP answer is made of; it is in what the method returned"
    )


to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=jsonable).encode


def encoded(value: Any) -> Optional[tuple]:
    """The header and the body of an answer for a value; None for values that answer in a way of their own."""
    t = type(value)
    if t is str:
        return TEXT_PLAIN, value.encode()
    if t is bytes:
        return OCTETS, value
    if value is None:
        return NOTHING, b""
    if t is dict or t is list:
        return JSON, to_json(value).encode()
    if isinstance(value, str):
        return TEXT_PLAIN, str.__str__(value).encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return OCTETS, bytes(value)
    if inspect.isgenerator(value) or inspect.isasyncgen(value) or inspect.isawaitable(value) or is_response(value):
        return None
    return JSON, to_json(value).encode()


def is_response(value: Any) -> bool:
    module = sys.modules.get("starlette.responses")
    return module is not None and isinstance(value, module.Response)


def plain_response(value: Any) -> bool:
    """Whether a Starlette response is no more than status, headers and body."""
    response = sys.modules["starlette.responses"].Response
    return type(value).__call__ is response.__call__ and value.background is None


def line(item: Any, head: bytes) -> bytes:
    """An item of a generator in an answer that has this header."""
    if head is EVENTS:
        return event(item)
    if head is not LINES:
        if isinstance(item, str):
            return item.encode()
        if isinstance(item, (bytes, bytearray, memoryview)):
            return bytes(item)
    return to_json(item).encode() + b"\n"


def kind_of(item: Any, head: bytes) -> bytes:
    """The header of an answer whose first item this is, for a request head."""
    if wants_events(head):
        return EVENTS
    return TEXT_PLAIN if isinstance(item, str) else OCTETS if isinstance(item, (bytes, bytearray, memoryview)) else LINES


def wants_events(head: bytes) -> bool:
    """Whether the client asks for server-sent events, as an EventSource of a browser does."""
    if b"text/event-stream" not in head:
        return False
    p = head.split(b"\0")
    return any(k == b"accept" and b"text/event-stream" in v for k, v in zip(p[10::2], p[11::2]))


def event(item: Any) -> bytes:
    """An item as a server-sent event. The node does the same for the streams of methods."""
    out, data = [], item
    if isinstance(item, Event):
        fields = item.fields()
        for name in ("id", "event", "retry"):
            value = str(fields.get(name, ""))
            if any(c in value for c in "\r\n\0"):
                raise ValueError(f"an event cannot be sent: its {name} has a line break or a zero byte")
            if value:
                out.append(f"{name}: {value}\n")
        if "data" not in fields:
            return "".join([*out, "\n"]).encode()
        data = fields["data"]
    elif isinstance(item, (bytes, bytearray, memoryview)):
        data = Event(item).fields()["data"]
    text = data if isinstance(data, str) else to_json(data)
    for part in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        out.append(f"data: {part}\n" if part else "data:\n")
    return "".join([*out, "\n"]).encode()


def last_error(request_id: str) -> bytes:
    """The last event of a generator that has failed. It has the fields that the node gives to its errors, and nothing of the exception."""
    message = "the request failed; the server's log says why, under this request id"
    return f"event: error\ndata: {to_json({'code': 'Unknown', 'reason': 'user', 'message': message, 'request_id': request_id})}\n\n".encode()


__all__ = ["EVENTS", "JSON", "LAST_EVENT", "NOTHING", "OCTETS", "TEXT_PLAIN", "encoded", "jsonable", "kind_of", "last_error", "line", "plain_response", "to_json"]
