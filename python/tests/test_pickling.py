"""Pickles with buffers apart, and functions that keep the name of their file."""

import pickle

import pytest

from helve._pickling import APART, dumps, dumps_call, dumps_plain, loads


class Holder:
    """An object with a large buffer that pickles out of band."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Holder, (pickle.PickleBuffer(self.data),)


@pytest.mark.parametrize("write", [dumps, dumps_plain])
def test_large_buffers_stay_apart(write):
    big = bytearray(b"x" * APART)
    buffers: list = []
    written = write([Holder(big), Holder(bytearray(b"small"))], buffers)
    assert len(written) < 1000 and [len(b) for b in buffers] == [APART]
    first, second = loads(written, buffers=[bytes(b) for b in buffers])
    assert first.data == big and second.data == b"small"


@pytest.mark.parametrize("write", [dumps, dumps_plain])
def test_large_bytes_are_bytes_again(write):
    value, buffers = b"y" * (APART + 1), []
    written = write(value, buffers)
    assert len(written) < 100 and len(buffers) == 1
    got = loads(written, buffers=[memoryview(b) for b in buffers])
    assert type(got) is bytes and got == value
    assert loads(write(value)) == value  # nowhere to put them: inside


def test_argument_lists():
    args, kwargs = (1, b"z" * APART, [b"w" * APART]), {"k": b"v" * APART, "l": "text"}
    for plain in (False, True):
        buffers: list = []
        written = dumps_call(plain, args, kwargs, buffers)
        assert [bytes(b[:1]) for b in buffers] == [b"z", b"v"]  # the one inside of a list is the pickle's
        assert loads(written, buffers=buffers) == (args, kwargs)
        assert loads(dumps_call(plain, args, kwargs)) == (args, kwargs)
    assert loads(dumps_call(False, (1, "a"), {"b": None})) == ((1, "a"), {"b": None})


def test_functions_keep_their_file():
    space: dict = {}
    exec(compile("def f():\n    return 1\n", "of/the/user.py", "exec"), space)
    again = loads(dumps(space["f"]))
    assert again() == 1 and again.__code__.co_filename == "of/the/user.py"
