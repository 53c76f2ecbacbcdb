"""Values and errors on the wire (docs/wire.md)."""

from __future__ import annotations

import json
import struct
import traceback as tb
from typing import Any, Callable, Optional

from helve import _errors as exceptions
from helve._pickling import dumps, dumps_plain, loads

NONE, MSGPACK, CLOUDPICKLE, PICKLE, JSON, RAW, TEXT, PLAIN = 0, 1, 2, 3, 4, 5, 6, 254
NAMES = {NONE: "none", MSGPACK: "msgpack", CLOUDPICKLE: "cloudpickle", PICKLE: "pickle", JSON: "orjson", RAW: "raw", TEXT: "text"}
CODECS = {"cloudpickle": CLOUDPICKLE, "pickle": PICKLE, "msgpack": MSGPACK, "orjson": JSON, "raw": RAW}

HANDLE_EXT = 1

_msgpack = None
handle_of: Optional[Callable[[dict], Any]] = None  # set by helve.serve.handle, which is above this module


def _msgspec():
    global _msgpack
    if _msgpack is None:
        import msgspec  # imported when first needed: an application that is all Python never needs it

        def ext(code: int, data: memoryview) -> Any:
            if code == HANDLE_EXT and handle_of is not None:
                return handle_of(json.loads(bytes(data)))
            return msgspec.msgpack.Ext(code, bytes(data))

        _msgpack = (msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(ext_hook=ext).decode)
    return _msgpack


def encode(codec: int, value: Any) -> tuple[int, bytes]:
    """The value in the wanted codec, and the codec it is in (PLAIN picks one by the type)."""
    if codec == CLOUDPICKLE:
        return CLOUDPICKLE, dumps(value)
    if codec == PLAIN:
        if type(value) is str:
            return TEXT, value.encode()
        if value is None:
            return NONE, b""
        if isinstance(value, (bytes, bytearray, memoryview)):
            return RAW, bytes(value)
        if isinstance(value, str):
            return TEXT, value.encode()
        codec = JSON
    if codec == MSGPACK:
        return MSGPACK, _msgspec()[0](value)
    if codec == PICKLE:
        return PICKLE, dumps_plain(value)
    if codec == JSON:
        return JSON, _json(value)
    if codec == RAW:
        if isinstance(value, str):
            return RAW, value.encode()
        if isinstance(value, (bytes, bytearray, memoryview)):
            return RAW, bytes(value)
        raise TypeError(f"{type(value).__qualname__} cannot be encoded as raw, which takes bytes and str")
    raise TypeError(f"a Python deployment cannot answer in {NAMES.get(codec, codec)}; use cloudpickle, pickle, msgpack, orjson or raw")


def _json(value: Any) -> bytes:
    try:
        import orjson
    except ImportError:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def decode(codec: int, data, buffers=None) -> Any:
    """data may be a view of a shared buffer: what outlives the call is copied. buffers are those out of band, of a pickle: what is
    decoded refers to them."""
    if codec == CLOUDPICKLE or codec == PICKLE:
        return loads(data, buffers=buffers) if buffers else loads(data)
    if buffers:
        raise TypeError(f"buffers out of band belong to pickles, not to codec {NAMES.get(codec, codec)}")
    if codec == NONE:
        return None
    if codec == TEXT:
        return str(data, "utf-8")
    if codec == RAW:
        return bytes(data)
    if codec == MSGPACK:
        return _msgspec()[1](data)
    if codec == JSON:
        return json.loads(bytes(data))
    raise TypeError(f"a Python deployment cannot read codec {codec}")


# ---- errors

_U32 = struct.Struct("<I")
_PICKLE_LIMIT = 1 << 20


def envelope(entries: dict) -> bytes:
    out = []
    for key, value in entries.items():
        if not value:
            if key != "message":
                continue
            value = ""
        if isinstance(value, str):
            value = value.encode("utf-8", "replace")
        key = key.encode()
        out += (bytes((len(key),)), key, _U32.pack(len(value)), value)
    return b"".join(out)


def encode_error(exc: BaseException, reason: Optional[str] = None) -> bytes:
    """The envelope of an exception. One of Helve's own keeps its reason; a user's gets type, text, traceback and itself."""
    own = getattr(exc, "_helve", None)
    if own is not None:  # it came from a handle call: it goes on as what it was
        return own
    e = {"reason": reason or "user", "message": _text(exc), "type": type(exc).__name__}
    if reason is None:
        e["reason"] = exceptions.reason_of(exc)
    if e["reason"] == "user":
        e["traceback"] = "".join(tb.format_exception(type(exc), exc, _user_frames(exc.__traceback__)))
        try:
            p = dumps(exc)
            loads(p)  # an exception whose __init__ takes other arguments pickles, but does not unpickle
            if len(p) <= _PICKLE_LIMIT:
                e["pickle"] = p
        except Exception:
            pass
    return envelope(e)


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as e:  # a user's __str__: the call must be answered all the same
        return f"<its text failed: {type(e).__name__}>"


def _user_frames(trace):
    """The traceback without Helve's own frames at its start."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("helve._"):
        trace = trace.tb_next
    return trace


def parse_envelope(data: bytes) -> dict:
    e, p, n = {}, 0, len(data)
    while p < n:
        k = data[p]
        key = data[p + 1 : p + 1 + k].decode()
        p += 1 + k
        size = _U32.unpack_from(data, p)[0]
        p += 4
        if p + size > n:
            raise ValueError("malformed error envelope")
        value = data[p : p + size]
        e[key] = value if key == "pickle" else value.decode("utf-8", "replace")
        p += size
    return e


class RemoteTraceback(Exception):
    """The traceback of an exception in the process where it was raised."""

    def __init__(self, text: str):
        self.text = text

    def __str__(self) -> str:
        return "\n" + self.text


def decode_error(data: bytes) -> BaseException:
    data = bytes(data)
    e = parse_envelope(data)
    reason = e.get("reason", "internal")
    where = e.get("deployment", "")
    if where and e.get("method"):
        where += "." + e["method"]
    exc: Optional[BaseException] = None
    if reason == "user" and "pickle" in e:
        try:
            exc = loads(e["pickle"])
        except Exception:
            exc = None
        if not isinstance(exc, Exception):
            exc = None
    if exc is None:
        text = e.get("message", "")
        if reason == "user" and e.get("type"):
            text = f"{e['type']}: {text}"
        if where:
            text = f"{where}: {text}"
        exc = exceptions.for_reason(reason)(text)
    if e.get("traceback"):
        exc.__cause__ = RemoteTraceback(e["traceback"])
    try:
        exc._helve = data
    except Exception:
        pass
    return exc
