"""Writes golden.json: pickles by CPython in all its protocols, each with the value as the Go test shows it.

Run by hand, in this directory: python3 gen.py
"""

import base64
import collections
import datetime as dt
import decimal
import enum
import hashlib
import json
import pickle
import struct
import uuid
import zlib


class Model:
    def __init__(self):
        self.x = 1


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


class Color(enum.Enum):
    RED = 1


class Slots:
    __slots__ = ("a",)


def show(v) -> str:
    if v is None or isinstance(v, bool):
        return {None: "nil", True: "true", False: "false"}[v]
    if isinstance(v, int):
        return str(v)
    if isinstance(v, float):
        return "f" + struct.pack(">d", v).hex()
    if isinstance(v, str):
        return "s" + v.encode().hex()
    if isinstance(v, (bytes, bytearray)):
        return "b" + bytes(v).hex()
    if isinstance(v, (list, tuple, set, frozenset, collections.deque)):
        return "[" + ",".join(map(show, v)) + "]"
    if isinstance(v, dict):
        return "{" + ",".join(show(k) + ":" + show(x) for k, x in v.items()) + "}"
    if isinstance(v, dt.datetime):
        if v.tzinfo is None:
            return show(v.isoformat())
        return "t" + v.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
    if isinstance(v, dt.date):
        return show(v.isoformat())
    if isinstance(v, dt.timedelta):
        return "d" + str((v.days * 86400 + v.seconds) * 10**9 + v.microseconds * 1000)
    if isinstance(v, decimal.Decimal):
        return show(str(v))
    raise TypeError(type(v))


def pack(p: bytes) -> str:
    return base64.b64encode(zlib.compress(p, 9)).decode()


def short(text: str) -> str:
    return text if len(text) < 500 else hashlib.sha256(text.encode()).hexdigest()


shared = ["shared", {"k": b"v"}]
counter = collections.Counter("aab")
default = collections.defaultdict(list)
default["x"].append(1)
deque = collections.deque([1, "two"], 5)

plain = [
    None, True, False, 0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**63) - 1,
    2**2000, -(2**2047), 2**2048, 127, 128, -128, -129, 0.0, -0.0, 1.5, 1e300, 5e-324, float("inf"), float("-inf"), float("nan"),
    "", "x", "héllo\n\\u0041 \\ \x00\x1a\r", "😀", "y" * 255, "z" * 256, "z" * 70000, b"", b"\x00\xff", b"q" * 256, bytes(range(256)),
    bytearray(), bytearray(b"\x01\xfe"), [], [1], [1, [2, [3]]], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), list(range(2500)),
    set(), {1}, frozenset(), frozenset((1, 2)), {}, {"a": 1}, {1: "x", "y": None}, {str(i): i for i in range(2100)},
    [shared, shared, (shared,)], {"a": shared, "b": shared}, {"deep": [{"er": [()]}]},
    collections.OrderedDict(), collections.OrderedDict([("b", 1), ("a", 2)]), counter, default, deque, collections.deque(),
    decimal.Decimal("-1.50"), dt.date(2026, 1, 2), dt.date(1, 1, 1), dt.timedelta(days=-1, microseconds=5), dt.timedelta(seconds=90),
    dt.datetime(2026, 1, 2, 3, 4, 5), dt.datetime(2026, 1, 2, 3, 4, 5, 678900, fold=1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
    dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.timezone.utc), dt.datetime(2026, 7, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    [dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc)] * 3 + [dt.datetime(1960, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-8), "PST"))],
]

recursive = []
recursive.append([recursive])
refused = [
    ("__main__.Model", Model()), ("__main__.Model", [1, {"m": Model()}]), ("__main__.Model", Model), ("__main__.Point", Point(1, 2)),
    ("__main__.Color", Color.RED), ("builtins.complex", 1j), ("uuid.UUID", uuid.UUID(int=5)), ("builtins.len", len), ("", recursive),
    ("ValueError", ValueError("x")), ("range", range(3)), ("datetime.time", dt.time(3)), ("surrogate", "\ud800"),
    ("292 years", dt.timedelta(days=300000)), ("datetime.timezone", dt.timezone.utc), ("__main__.Slots", Slots()),
    ("builtins.slice", slice(1)), ("builtins.type", type(None)), ("builtins.list", {"k": {"cls": list}}),
]

out = []
for v in plain:
    for protocol in range(6):
        out.append({"protocol": protocol, "pickle": pack(pickle.dumps(v, protocol)), "shows": short(show(v))})
for why, v in refused:
    for protocol in range(6):
        try:
            p = pickle.dumps(v, protocol)
        except TypeError:  # __slots__ need protocol 2
            continue
        out.append({"protocol": protocol, "pickle": pack(p), "refused": why})
buffers = [pickle.PickleBuffer(b"out"), pickle.PickleBuffer(bytearray(b"of band"))]
sent = []
p = pickle.dumps([buffers[0], "x", buffers[1]], 5, buffer_callback=sent.append)
out.append({"protocol": 5, "pickle": pack(p), "shows": show([b"out", "x", b"of band"]), "buffers": [bytes(b.raw()).hex() for b in sent]})
out.append({"protocol": 5, "pickle": pack(pickle.dumps([buffers[0], buffers[1]], 5)), "shows": show([b"out", b"of band"])})

with open("golden.json", "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(o, separators=(",", ":")) for o in out) + "\n]\n")
