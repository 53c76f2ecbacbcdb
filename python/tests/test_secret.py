"""Placeholders of files in the arguments of an application: values for the code, placeholders in what the node keeps."""

import base64
import pickle

import pytest

from helve import _pickling, _secret
from helve._pickling import dumps_replacing, loads_code

KEY = "${!env:HELVE_TEST_KEY}"
VALUE = "hunter2-and-more"


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setenv("HELVE_TEST_KEY", VALUE)
    monkeypatch.setenv("HELVE_TEST_LEVEL", "INFO")
    _secret.use({KEY: VALUE, "${!env:HELVE_TEST_LEVEL}": "INFO"})
    yield
    _secret.use({})
    assert _pickling.persistent_id is None


def pickled(value):
    return dumps_replacing(value, lambda v: NotImplemented)


class Model:
    def __init__(self, url):
        self.url = url


@pytest.mark.parametrize("value", [
    VALUE, f"redis://:{VALUE}@host", VALUE.encode(), {"a": [VALUE, {"b": (VALUE, 1, None)}]}, [VALUE, VALUE], "INFO", "an INFO line", b"\xff", 3,
])
def test_a_pickle_has_the_placeholder(known, value, monkeypatch):
    data = pickled(value)
    assert VALUE.encode() not in data
    assert loads_code(data) == value


def test_the_value_is_that_of_the_worker(known, monkeypatch):
    data = pickled((Model, (f"redis://:{VALUE}@host",), {"key": VALUE}))
    monkeypatch.setenv("HELVE_TEST_KEY", "another")
    kind, args, kwargs = loads_code(data)
    assert kind is Model and args == ("redis://:another@host",) and kwargs == {"key": "another"}


def test_classes_by_value_and_models_have_none(known):
    from pydantic import BaseModel

    class Arguments(BaseModel):
        key: str

    data = pickled(Arguments(key=VALUE))
    assert VALUE.encode() not in data and loads_code(data).key == VALUE


def test_a_placeholder_whose_name_has_a_value(monkeypatch):
    monkeypatch.setenv("HELVE_TEST_KEY", "HELVE_TEST_KEY")
    _secret.use({KEY: "HELVE_TEST_KEY"})
    try:
        assert loads_code(pickled(["HELVE_TEST_KEY"])) == ["HELVE_TEST_KEY"]
    finally:
        _secret.use({})


def test_without_secrets_a_pickle_is_as_ever():
    assert loads_code(pickled({"a": VALUE})) == {"a": VALUE} and VALUE.encode() in pickled(VALUE)


def test_values_of_placeholders(monkeypatch, tmp_path):
    file = tmp_path / "key"
    file.write_bytes(b"of a file\r\n")
    monkeypatch.setenv("HELVE_TEST_KEY", VALUE)
    marked = "${!secret:" + base64.b64encode(b"hunter2").decode().rstrip("=") + "}"
    given = {"a": f"x {KEY}", "b": [f"${{!file:{file}}}", marked, "${!env:HELVE_NONE:-d}", "${!other:x} ${env:A}", 3, None]}
    assert _secret.opened(given) == {"a": f"x {VALUE}", "b": ["of a file", "hunter2", "d", "${!other:x} ${env:A}", 3, None]}
    assert _secret.opened(KEY, {KEY: "given"}) == "given"


@pytest.mark.parametrize("text, error", [
    ("${!env:HELVE_NONE}", r"\$\{env:HELVE_NONE\}: there is no such environment variable"),
    ("${!file:/none}", r"\$\{file:/none\}: there is no such file"),
    ("${!file:/}", r"\$\{file:/\}: the file cannot be read: Is a directory"),
])
def test_a_value_that_is_not_there(text, error):
    with pytest.raises(RuntimeError, match=error):
        _secret.opened(text)


def test_options_of_the_code_have_placeholders(known):
    assert _secret.sealed([{"options": {"user_config": {"k": f"a {VALUE}", "level": "INFO"}}}]) == [
        {"options": {"user_config": {"k": f"a {KEY}", "level": "${!env:HELVE_TEST_LEVEL}"}}}
    ]


def test_a_reference_of_another_kind_is_an_error():
    class Other(pickle.Pickler):
        def persistent_id(self, value):
            return "other:str:x" if value == "x" else None

    import io

    file = io.BytesIO()
    Other(file).dump(["x", _pickling.SECRET])
    with pytest.raises(pickle.UnpicklingError, match="unknown kind"):
        loads_code(file.getvalue())
