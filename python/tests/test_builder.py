"""The arguments of functions that make applications, in the types of their annotations."""

import enum
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Dict, List, Literal, Optional, Tuple, TypedDict, Union

import pytest
from helve import _builder
from pydantic import BaseModel, Field


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    word: str
    times: int = 1
    names: List[str] = []
    inner: Optional[Dict[str, int]] = None


@dataclass
class Data:
    word: str
    ratio: float = 0.5


class Typed(TypedDict):
    size: int


def called(builder, **given):
    return _builder.call(builder, given)()


@pytest.mark.parametrize("tp, text, value", [
    (int, "3", 3), (float, "3", 3.0), (str, "3", "3"), (bool, "yes", True), (bool, "0", False), (bool, "False", False),
    (Optional[int], "none", None), (Optional[int], "3", 3), (Optional[str], "none", "none"), (Union[int, str], "3", 3), (Union[str, int], "x", "x"),
    (List[int], "1,2", [1, 2]), (List[int], "[1, 2]", [1, 2]), (List[str], "", []), (Tuple[int, str], "1,a", (1, "a")), (Tuple[int, ...], "1, 2", (1, 2)),
    (list, "a,b", ["a", "b"]), (set, "a,a", {"a"}), (Dict[str, int], '{"a": 1}', {"a": 1}), (Literal["a", "b"], "a", "a"), (Path, "/x", Path("/x")),
    (Colour, "red", Colour.RED), (Model, '{"word": "x"}', Model(word="x")), (Optional[List[float]], "1,2", [1.0, 2.0]),
    (int, 3, 3), (float, 3, 3.0), (List[int], [1], [1]), (Dict[str, int], {"a": 1}, {"a": 1}), (Optional[int], None, None),
])
def test_values(tp, text, value):
    got = _builder.converted("key", text, tp)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize("tp, value, error", [
    (int, "x", "key: must be an int, is 'x'"), (int, "1.5", "key: must be an int, is '1.5'"), (int, True, "key: must be an int, is True"),
    (float, "x", "key: must be a float, is 'x'"), (bool, "perhaps", "key: must be a bool, is 'perhaps' (true or false)"), (str, 3, "key: must be a str, is 3"),
    (List[int], "1,x", "key: must be a list of int, is '1,x'"), (Dict[str, int], "{", "key: must be a dict, is '{' (JSON: "),
    (Optional[int], "x", "key: must be an int or none, is 'x'"), (Literal["a", "b"], "c", "key: must be 'a' or 'b', is 'c' ("),
    (Tuple[int, int], "1", "key: must be a tuple of int, is '1' (2 values)"),
])
def test_values_that_do_not_fit(tp, value, error):
    with pytest.raises(_builder.ArgumentError) as e:
        _builder.converted("key", value, tp)
    assert str(e.value).startswith(error)


class TestBuilders:
    def test_a_parameter_for_each_key(self):
        def build(size: int, names: List[str] = ["x"], rate: float = 1.5):
            return size, names, rate

        assert called(build, size="3", names="a,b") == (3, ["a", "b"], 1.5)

    @pytest.mark.parametrize("annotation", [None, dict, Dict[str, str], "not.there"])
    def test_one_dict(self, annotation):
        def build(args):
            return args

        if annotation is not None:
            build.__annotations__["args"] = annotation
        assert called(build, a="1") == {"a": "1"}

    def test_a_dict_of_numbers(self):
        def build(args: Dict[str, int]):
            return args

        assert called(build, a="1") == {"a": 1}

    def test_models(self):
        def build(args: Model):
            return args

        assert called(build, word="a", times="2", names="x,y", inner='{"k": 1}') == Model(word="a", times=2, names=["x", "y"], inner={"k": 1})

    def test_dataclasses_and_typed_dicts(self):
        def data(args: Data):
            return args

        def typed(args: Typed):
            return args

        assert called(data, word="a", ratio="0.25") == Data("a", 0.25)
        assert called(typed, size="3") == {"size": 3}

    def test_no_parameter_and_any(self):
        def rest(**kwargs):
            return kwargs

        assert called(lambda: 3) == 3
        assert called(rest, a="1") == {"a": "1"}

    @pytest.mark.parametrize("given, error", [
        ({"sise": "3"}, "there is no argument 'sise'; did you mean 'size'?; it takes size (int), names (list of str)"),
        ({}, "size is missing; it takes size (int), names (list of str)"),
        ({"size": "x"}, "size: must be an int, is 'x'"),
    ])
    def test_mistakes(self, given, error):
        def build(size: int, names: List[str] = ()):
            return size

        with pytest.raises(_builder.ArgumentError) as e:
            called(build, **given)
        assert str(e.value) == error

    @pytest.mark.parametrize("given, error", [
        ({"wort": "x"}, "there is no argument 'wort'; did you mean 'word'?; it takes word (str), times (int), names (list of str), inner (dict or none)"),
        ({}, "word is missing"),
        ({"word": "a", "times": "x"}, "times: Input should be a valid integer"),
    ])
    def test_mistakes_of_models(self, given, error):
        def build(args: Model):
            return args

        with pytest.raises(_builder.ArgumentError) as e:
            called(build, **given)
        assert str(e.value).startswith(error)

    def test_a_parameter_without_a_name(self):
        def build(a, /, b=1):
            return a

        with pytest.raises(_builder.ArgumentError, match="'a' has no name that key=value could use"):
            called(build, a="1")

    def test_an_annotation_that_cannot_be_evaluated_hides_no_other(self):
        def build(size: int, other: "NotThere" = None):  # noqa: F821
            return size, other

        assert called(build, size="3", other="x") == (3, "x")
        with pytest.raises(_builder.ArgumentError, match="size: must be an int, is 'x'"):
            called(build, size="x")

    def test_objects_that_are_called(self):
        class Builder:
            def __call__(self, size: int, times: int = 1):
                return size * times

        assert called(Builder(), size="3") == 3
        assert called(functools.partial(Builder(), times=2), size="3") == 6
        assert called(functools.partial(Builder().__call__, 4), times="2") == 8

    def test_the_limits_of_an_annotation(self):
        def build(size: Annotated[int, Field(gt=3)], names: Annotated[List[int], "of people"] = []):
            return size, names

        assert called(build, size="4", names="1,2") == (4, [1, 2])
        with pytest.raises(_builder.ArgumentError, match="size: must be an int, is '3' .Input should be greater than 3"):
            called(build, size="3")

    def test_one_annotated_model(self):
        def build(args: Annotated[Model, "of the application"]):
            return args

        assert called(build, word="a").word == "a"
