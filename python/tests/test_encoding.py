"""Values in the codecs: the value arrives, or there is an error with the path to the part that could not be written."""

import dataclasses
import json
import struct
import sys
import types

import pytest

import helve
from helve._encoding import EVENT, JSON, MSGPACK, PLAIN, decode, encode


@dataclasses.dataclass
class Point:
    x: float


@pytest.fixture(params=["json", "orjson"])
def library(request, monkeypatch):
    """The two libraries that may write JSON. orjson, where it is not installed, is as far as its null for NaN goes."""
    if request.param == "json":
        monkeypatch.setitem(sys.modules, "orjson", None)
        return

    def dumps(value, option):
        text = json.dumps(value, default=dataclasses.asdict)
        return text.replace("NaN", "null").replace("Infinity", "null").encode()

    monkeypatch.setitem(sys.modules, "orjson", types.SimpleNamespace(dumps=dumps, OPT_SERIALIZE_NUMPY=0))


@pytest.mark.parametrize(
    ("value", "error", "where"),
    [
        (float("nan"), ValueError, "the value"),
        ({"a": [1.0, {"b": float("inf")}]}, ValueError, r"a\[1\]\.b"),
        ({"a": (None, -float("inf"))}, ValueError, r"a\[1\]"),
    ],
)
def test_json_does_not_change_numbers(library, value, error, where):
    with pytest.raises(error, match=f"^{where}: "):
        encode(JSON, value)


def test_json_fields_of_dataclasses(monkeypatch):
    monkeypatch.setitem(sys.modules, "orjson", types.SimpleNamespace(dumps=lambda v, option: b'{"x":null}', OPT_SERIALIZE_NUMPY=0))
    with pytest.raises(ValueError, match="^x: JSON has no nan"):
        encode(JSON, Point(float("nan")))


def test_json_does_not_join_keys(monkeypatch):
    monkeypatch.setitem(sys.modules, "orjson", None)
    with pytest.raises(TypeError, match="^a: JSON has keys of type str only, not int"):
        encode(JSON, {"a": {1: "x", "1": "y"}})


def test_json_text_that_is_no_unicode(monkeypatch):
    monkeypatch.setitem(sys.modules, "orjson", None)
    with pytest.raises(UnicodeEncodeError):
        encode(JSON, {"a": "\ud800"})
    assert encode(JSON, {"a": [None, 1, "é", 1.5, True]}) == (JSON, '{"a":[null,1,"é",1.5,true]}'.encode())


def test_msgpack_integers_of_more_than_64_bits_are_read():
    for n in (1 << 70, -(1 << 64) - 5):
        data = bytes([n < 0]) + abs(n).to_bytes(10, "big")
        assert decode(MSGPACK, struct.pack(">BBb", 0xC7, len(data), 66) + data) == n


def test_events_are_their_fields():
    for event, want in (
        (helve.Event("a\nb", event="token", id="7", retry=1.5), {"id": "7", "event": "token", "retry": 1500, "data": "a\nb"}),
        (helve.Event({"a": [1]}), {"data": {"a": [1]}}),
        (helve.Event(b"\x00\x01"), {"data": "AAE="}),
        (helve.Event(retry=0.0001), {"retry": 1}),
        (helve.Event(), {}),
    ):
        codec, data = encode(PLAIN, event)
        assert (codec, json.loads(data)) == (EVENT, want)
