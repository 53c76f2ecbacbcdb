"""Pickles of values and of argument lists. Large buffers stay outside of a pickle if its writer can carry them
separately.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Callable, Optional

PROTOCOL = 5
APART = 128 << 10  # bytes; larger buffers travel outside of their pickle: copying them into it costs more than a segment

PLAIN_TYPES = frozenset((bytes, str, int, float, bool, type(None)))
pickled, loads = pickle.dumps, pickle.loads
SECRET = "helve.secret"  # marks the references of _secret in a pickle
persistent_id: Optional[Callable] = None  # gives the reference in the place of a value that no pickle may have; None for no such value

_pickler: Optional[type] = None  # made when first needed: the import of cloudpickle takes longer than many a script


class _Bytes:
    """A large bytes object, which pickle itself always writes into the pickle. It unpickles to the bytes."""

    __slots__ = ("value",)

    def __init__(self, value: bytes):
        self.value = value

    def __reduce_ex__(self, protocol):
        return bytes, (pickle.PickleBuffer(self.value),)


def _make_pickler() -> type:
    global _pickler
    from collections import ChainMap
    from dataclasses import MISSING
    from types import CodeType

    import cloudpickle

    reduce = cloudpickle.Pickler.dispatch_table[CodeType]

    def code(obj: CodeType):
        # From 3.1.3 on cloudpickle writes "<dynamic-code>" for the file of every function that it pickles by value. A
        # traceback without the lines of one's own program is of little use.
        made, args = reduce(obj)[:2]
        return made, tuple(obj.co_filename if type(a) is str and a == "<dynamic-code>" else a for a in args)

    from helve._annotations import complete, with_module_names, with_names

    class Pickler(cloudpickle.Pickler):
        dispatch_table = ChainMap(
            {CodeType: code, type(MISSING): lambda m: "MISSING"},  # the sentinel of dataclasses, which is compared by `is`
            cloudpickle.Pickler.dispatch_table,
        )

        def _dynamic_function_reduce(self, func):
            return with_names(super()._dynamic_function_reduce(func), func)

        def reducer_override(self, obj):
            cls = type(obj)
            if cls.__name__ in ("Request", "WebSocket") and cls.__module__ in ("starlette.requests", "starlette.websockets", "helve._request"):
                raise TypeError(f"a {cls.__name__} cannot be passed to another deployment: pass what it needs, such as await request.json()")
            if not isinstance(obj, type):
                return super().reducer_override(obj)
            complete(obj)
            return with_module_names(super().reducer_override(obj), obj)

    _pickler = Pickler
    return Pickler


def _aside(buffers: Optional[list]):
    """The callback that keeps large buffers out of a pickle: its result says whether a buffer goes in."""
    if buffers is None:
        return None

    def callback(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < APART:
            return True
        buffers.append(raw)
        return False

    return callback


def _cloudpickle(value: Any, buffers: Optional[list]) -> bytes:
    with io.BytesIO() as file:
        (_pickler or _make_pickler())(file, PROTOCOL, buffer_callback=_aside(buffers)).dump(value)
        return file.getvalue()


def dumps(value: Any, buffers: Optional[list] = None) -> bytes:
    """cloudpickle, with a shortcut for values that plain pickle writes in the same way. Large buffers are appended
    to buffers, in the order in which loads() wants them; without a list they go into the pickle.
    """
    if type(value) in PLAIN_TYPES:
        if buffers is None or type(value) is not bytes or len(value) < APART:
            return pickled(value, PROTOCOL)
        return pickled(_Bytes(value), PROTOCOL, buffer_callback=_aside(buffers))
    return _cloudpickle(value, buffers)


def dumps_replacing(value: Any, replace: Callable[[Any], Any]) -> bytes:
    """cloudpickle of a value in which some objects are replaced, at any depth: the result of replace for an object
    is its __reduce__, or NotImplemented. It may pickle another value meanwhile.
    """

    class Replacing(_pickler or _make_pickler()):  # type: ignore[misc]
        def reducer_override(self, obj):
            reduced = replace(obj)
            return super().reducer_override(obj) if reduced is NotImplemented else reduced

    kind: type = Replacing
    if persistent_id is not None:
        kind = type("Referring", (Replacing,), {"persistent_id": staticmethod(persistent_id)})
    with io.BytesIO() as file:
        kind(file, PROTOCOL).dump(value)
        return file.getvalue()


def loads_code(data: bytes) -> Any:
    """The value of a pickle of dumps_replacing()."""
    if SECRET.encode() not in data:
        return loads(data)
    from helve import _secret

    return _secret.loads(data)


def dumps_plain(value: Any, buffers: Optional[list] = None) -> bytes:
    """dumps() with pickle itself, which writes functions and classes by their names."""
    if buffers is not None and type(value) is bytes and len(value) >= APART:
        value = _Bytes(value)
    return pickled(value, PROTOCOL, buffer_callback=_aside(buffers))


def _wrapped(v: Any) -> Any:
    return _Bytes(v) if type(v) is bytes and len(v) >= APART else v


def dumps_call(plain: bool, args: tuple, kwargs: dict, buffers: Optional[list] = None) -> bytes:
    """A whole argument list; plain is true if pickle itself writes it."""
    large = False
    for v in (*args, *kwargs.values()) if kwargs else args:
        if type(v) not in PLAIN_TYPES:
            break
        large = large or type(v) is bytes and len(v) >= APART
    else:
        plain = True
        if not large:
            return pickled((args, kwargs), PROTOCOL)
    if buffers is not None:
        args, kwargs = tuple(map(_wrapped, args)), {k: _wrapped(v) for k, v in kwargs.items()}
    if plain:
        return pickled((args, kwargs), PROTOCOL, buffer_callback=_aside(buffers))
    return _cloudpickle((args, kwargs), buffers)


__all__ = ["APART", "PLAIN_TYPES", "dumps", "dumps_call", "dumps_plain", "dumps_replacing", "loads", "loads_code", "pickled"]
