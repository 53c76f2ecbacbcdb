"""Values and errors on the wire (docs/wire.md)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import struct
from typing import Any, Callable, Optional

from helve import _errors as exceptions, _guard
from helve._event import Event
from helve._limits import cut
from helve._pickling import dumps, dumps_plain, loads

NONE, MSGPACK, CLOUDPICKLE, PICKLE, JSON, RAW, TEXT, EVENT, PLAIN = 0, 1, 2, 3, 4, 5, 6, 7, 254
# The names of all serializations, once (in Go: internal/call/codec.go). CODECS has the ones that handle options may name.
NAMES = {CLOUDPICKLE: "cloudpickle", PICKLE: "pickle", MSGPACK: "msgpack", JSON: "orjson", RAW: "raw", NONE: "none", TEXT: "text", EVENT: "event"}
CODECS = {name: codec for codec, name in NAMES.items() if codec not in (NONE, TEXT, EVENT)}

_msgpack = None
handle_of: Optional[Callable[[dict], Any]] = None  # set by helve.serve.handle, which is above this module


def _msgspec():
    global _msgpack
    if _msgpack is None:
        from helve import _values  # imported when first needed: an application in Python alone never needs it

        _values.handle_of = handle_of
        _msgpack = (_values.pack, _values.unpack)
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
        if isinstance(value, Event):
            return EVENT, _json(value.fields())
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
    raise TypeError(f"a Python deployment cannot answer in {NAMES.get(codec, codec)}; use one of {', '.join(CODECS)}")


def _json(value: Any) -> bytes:
    try:
        import orjson
    except ImportError:
        _check_json(value, "")
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    out = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in out:  # orjson writes it for NaN too
        _check_json(value, "")
    return out


def _check_json(value: Any, at: str) -> None:
    """Raises for values that JSON would change silently: NaN becomes null, and of the keys 1 and "1" one is left."""
    if isinstance(value, float):
        if value - value != 0:  # NaN and the infinities
            raise ValueError(f"{at or 'the value'}: JSON has no {value}; use another request_serialization or response_serialization")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{at or 'the value'}: JSON has keys of type str only, not {type(key).__qualname__}")
            _check_json(item, f"{at}.{key}" if at else key)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_json(item, f"{at}[{i}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _check_json(getattr(value, field.name, None), f"{at}.{field.name}" if at else field.name)
    elif getattr(getattr(value, "dtype", None), "kind", "") == "f":  # an array of numpy
        _check_json(value.tolist(), at)


def decode(codec: int, data, buffers=None) -> Any:
    """Decodes data, which may be a view of a shared buffer: the value has copies of its bytes. buffers are the
    buffers out of band of a pickle: the value refers to them.
    """
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
    """The envelope of an exception. An exception of Helve's keeps its reason; a user's is sent with type, text,
    traceback and pickle. It does not raise, although the methods of the exception's class may.
    """
    own = _guard.attribute(exc, "_helve")
    if type(own) is bytes:  # it came from a handle call, and goes on unchanged
        return own
    text = _guard.text(exc)
    e = {"reason": reason or "user", "message": cut(text), "type": cut(_guard.type_name(exc))}
    if reason is None:
        e["reason"] = exceptions.reason_of(exc)
    if e["reason"] == "backpressure":
        e.update(_guard.guarded(lambda: exceptions.answer_of(exc), lambda e: {}))
    if e["reason"] == "user":
        e["traceback"] = cut(_guard.trace(exc))
        p = _guard.guarded(lambda: _pickle_error(exc, text), lambda e: None)
        if p is not None and len(p) <= _PICKLE_LIMIT:
            e["pickle"] = p
    return envelope(e)


def _set(exc: BaseException, name: str, value: Any) -> None:
    """Sets an attribute of an exception. The class may refuse it, as a frozen dataclass does."""
    BaseException.__setattr__(exc, name, value)


def _pickle_error(exc: BaseException, text: str) -> Optional[bytes]:
    """An exception as a pickle that was checked to unpickle, or None. pickle makes an exception again from its
    arguments, and then sets its attributes. The text differs then if __init__ makes the text: of `def
    __init__(self, used): super().__init__(f"{used} used")` it says "3 used used". It fails if the class refuses
    attributes, as a frozen dataclass does, and if __init__ takes more arguments than it passes to Exception; such
    an exception is sent as its text.
    """
    good = None
    for make in (lambda: exc, lambda: _Remade(exc)):
        try:
            p = dumps(make())
            back = loads(p)
        except Exception:
            back = None
        if issubclass(type(back), BaseException):
            if _guard.text(back) == text:
                return p
            good = good or p
        elif type(exc).__setattr__ is BaseException.__setattr__:
            break
    return good


class _Remade:
    """Unpickles to an exception with the same class, arguments and attributes, without its __init__ and __setattr__."""

    def __init__(self, exc: BaseException):
        self.exc = exc

    def parts(self) -> tuple:
        exc = self.exc
        reduced = _builtin(type(exc)).__reduce__(exc)
        state = dict(reduced[2]) if len(reduced) > 2 and isinstance(reduced[2], dict) else {}
        state.pop("_helve", None)
        for cls in type(exc).__mro__:
            names = vars(cls).get("__slots__", ())
            for name in (names,) if isinstance(names, str) else names:
                if name.startswith("__") and not name.endswith("__"):
                    name = f"_{cls.__name__.lstrip('_')}{name}"
                try:
                    state[name] = object.__getattribute__(exc, name)
                except AttributeError:  # not set, or __dict__ itself
                    pass
        state.pop("__dict__", None)
        state.pop("__weakref__", None)
        return type(exc), reduced[1], state

    def __reduce__(self):
        return remake, self.parts()


def _builtin(cls: type) -> type:
    """The built-in class that an exception's class is derived from."""
    return next(c for c in cls.__mro__ if c.__module__ == "builtins")


def remake(cls: type, args: tuple, state: dict) -> BaseException:
    """An exception with these arguments and attributes, made without user code except for a __new__."""
    exc = cls.__new__(cls, *args)
    try:
        _builtin(cls).__init__(exc, *args)  # for the attributes that an OSError or a UnicodeError has beside its arguments
    except Exception:
        _set(exc, "args", args)
    for name, value in state.items():
        _set(exc, name, value)
    return exc


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


# The exception that a caller gets in place of a user's, made of the names of its deployment and method, the traceback and the exception. With
# --ray-compat it is a RayTaskError too.
user_error: Optional[Callable[[str, str, Exception], Exception]] = None


def decode_error(data: bytes) -> Exception:
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
        except (Exception, *_CONTROL):
            exc = None
        if not issubclass(type(exc), Exception):
            exc = None
        elif user_error is not None:
            exc = user_error(where, e.pop("traceback", ""), exc)
    if exc is None:
        text = e.get("message", "")
        if reason == "user" and e.get("type"):
            text = f"{e['type']}: {text}"
        if where and reason not in _PHRASES:
            text = f"{where}: {text}"
        exits = reason == "user" and e.get("type") in ("SystemExit", "KeyboardInterrupt")  # the replica's process ends with the call
        exc = exceptions.refused(text, e) if reason == "backpressure" else exceptions.for_reason("replica_died" if exits else reason)(text)
    exc = outcome(exc, where)
    if e.get("traceback"):
        _guard.set_cause(exc, RemoteTraceback(e["traceback"]))
    _guard.set_attribute(exc, "_helve", data)
    return exc


_PHRASES = ("backpressure", "cancelled", "no_method")  # reasons whose texts begin with phrases that users of Ray Serve match on
_CONTROL = (SystemExit, GeneratorExit, asyncio.CancelledError)  # KeyboardInterrupt belongs to the reader


def outcome(exc: BaseException, where: str = "") -> Exception:
    """An exception that is safe to raise as the outcome of a call. StopIteration would end a reader's `for` as if
    all items had been read, and CancelledError a task that was not cancelled; neither goes through a future. Such
    exceptions are wrapped.
    """
    cls = type(exc)
    if issubclass(cls, (StopIteration, StopAsyncIteration)) or not issubclass(cls, Exception):
        text = _guard.text(exc)
        made = RuntimeError(f"{where or 'the call'} raised {_guard.type_name(exc)}{': ' if text else ''}{text}")
        made.__cause__ = exc
        return made
    return exc


class Failure:
    """The failure of a call. Every reader gets an exception of its own. A raised exception refers to the frames that
    it went through, and these to the response: a response that kept it would live, with all objects of those
    frames, until the cyclic collector runs. For example, a stream in a variable beside `except` would keep its
    generator running.
    """

    __slots__ = ("_data", "_error")

    def __init__(self, error: Optional[BaseException], data: Optional[bytes] = None):
        """Made of an exception that was caught here, or of an envelope that came."""
        self._error, self._data = None, data
        if error is None:
            return
        field = _guard.field
        if any(field(error, name) is not None for name in ("__traceback__", "__cause__", "__context__")):
            own = _guard.attribute(error, "_helve")
            if type(own) is bytes:
                self._data = own
                return
            cause = None
            if _guard.has_frames(error) or field(error, "__cause__") is not None:
                cause = RemoteTraceback(_guard.trace(error))
            error = _again(outcome(error))
            _guard.set_cause(error, cause)
        self._error = outcome(error)

    def exception(self) -> Exception:
        if self._data is not None:
            try:
                return decode_error(self._data)
            except Exception as e:
                return exceptions.RayServeException(f"an error that does not parse: {e}")
        error = _again(self._error)
        _guard.set_cause(error, _guard.field(self._error, "__cause__"))
        return error


def _again(exc: Exception) -> Exception:
    """Another exception like it, without its traceback."""
    try:
        return remake(*_Remade(exc).parts())
    except Exception:
        return BaseException.with_traceback(exc, None)
