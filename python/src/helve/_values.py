"""Values that MessagePack has no form for, as they go to Go and come from it (docs/wire.md): handles, arrays and numbers of numpy, and integers of
more than 64 bits. A program that never calls Go does not import this module.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any, Callable, Optional

import msgspec

HANDLE_EXT, ARRAY_EXT, BIG_EXT = 1, 2, 66
KINDS = "biuf"  # kinds of numbers of numpy that Go has too: bool, int, uint, float
DIMENSIONS = 32
_ALIGNED = 16  # the values of an array begin at a multiple of it, so that they are read where they lie

handle_of: Optional[Callable[[dict], Any]] = None  # set by helve.serve.handle, which is above this module
_HEAD = struct.Struct("<cBBB")


def _array(array: Any) -> list:
    """The header and the items of an array of numpy, as the data of the extension. The items are not copied if they lie in order."""
    import numpy

    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in KINDS or size > 8:
        raise TypeError(f"an array of dtype {array.dtype} cannot be sent to Go, which has bool, integers and floats; send array.tolist(), or use request_serialization and response_serialization")
    if array.ndim > DIMENSIONS:
        raise TypeError(f"an array of {array.ndim} dimensions cannot be sent to Go; at most {DIMENSIONS}")
    items: Any = numpy.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    head = _HEAD.pack(kind.encode(), size, array.ndim, 0) + struct.pack(f"<{array.ndim}Q", *array.shape)
    head += bytes(-len(head) % _ALIGNED)
    return [head, memoryview(items.reshape(-1)).cast("B") if items.size else b""]


def read_array(data: Any) -> Any:
    """The array of the extension's data. It has memory of its own, and may be written to."""
    try:
        import numpy
    except ImportError:
        raise TypeError("the value has an array, and numpy is not installed here") from None
    kind, size, dims, _ = _HEAD.unpack_from(data)
    head = _HEAD.size + 8 * dims
    head += -head % _ALIGNED
    if kind.decode("latin-1") not in KINDS or size not in (1, 2, 4, 8) or dims > DIMENSIONS or head > len(data):
        raise ValueError("an array that does not parse")
    shape = struct.unpack_from(f"<{dims}Q", data, _HEAD.size)
    return numpy.frombuffer(bytearray(data[head:]), dtype=f"<{kind.decode()}{size}").reshape(shape)


def _plain(value: Any) -> Any:
    """A value of a class that msgspec does not know, in a form that msgspec knows."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return msgspec.msgpack.Ext(ARRAY_EXT, b"".join(_array(value)))
        if isinstance(value, numpy.generic):
            plain = value.item()
            if type(plain) is not type(value):
                return plain
    reference = getattr(type(value), "_reference", None)  # of a handle
    if reference is not None:
        return msgspec.msgpack.Ext(HANDLE_EXT, json.dumps(reference(value)).encode())
    raise TypeError(f"Encoding objects of type {type(value).__qualname__} is unsupported: it cannot be sent to Go, which takes plain data, dataclasses and arrays of numpy")


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode


def pack(value: Any) -> bytes:
    """A value as MessagePack. An array by itself is copied once."""
    if type(value).__name__ == "ndarray" and type(value).__module__ == "numpy":
        head, items = _array(value)
        size = len(head) + len(items)
        if size >= 1 << 16:
            return b"".join((struct.pack(">BIb", 0xC9, size, ARRAY_EXT), head, items))
    return _encode(value)


def _extension(code: int, data: memoryview) -> Any:
    if code == HANDLE_EXT and handle_of is not None:
        return handle_of(json.loads(bytes(data)))
    if code == ARRAY_EXT:
        return read_array(data)
    if code == BIG_EXT:
        return int.from_bytes(data[1:], "big") * (-1 if data[0] == 1 else 1)
    return msgspec.msgpack.Ext(code, bytes(data))


unpack = msgspec.msgpack.Decoder(ext_hook=_extension).decode

__all__ = ["pack", "read_array", "unpack"]
