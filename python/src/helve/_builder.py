"""The arguments of a function that makes an application: texts of the command line, or values of a file, in the types that the function's
annotations name.

For example, `helve run app:build size=3 names=a,b` calls `build(size=3, names=["a", "b"])` for `def build(size: int, names: list[str])`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import json
import sys
import types
import typing
from typing import Any, Callable, Dict, List, Union

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_UNIONS = (Union, getattr(types, "UnionType", Union))
_LISTS = {list: list, tuple: tuple, set: set, frozenset: frozenset, collections.abc.Sequence: list, collections.abc.Iterable: list}
_NONE = type(None)
_MISSING = inspect.Parameter.empty


class ArgumentError(ValueError):
    """An argument that the function does not take. key is its name, "" for a mistake of the function itself."""

    def __init__(self, key: str, text: str):
        super().__init__(text)
        self.key = key


def call(builder: Callable, given: Dict[str, Any]) -> Callable[[], Any]:
    """The call of a builder with arguments, which are checked here. The builder itself runs when the result is called."""
    types_of = _hints(builder)
    parameters = list(_signature(builder).parameters.values())
    if len(parameters) == 1 and parameters[0].kind is not inspect.Parameter.VAR_KEYWORD:
        whole = _whole(types_of.get(parameters[0].name, _MISSING), given)
        if whole is not _MISSING:
            return lambda: builder(whole)
    fields, rest = {}, False
    for p in parameters:
        if p.kind is inspect.Parameter.VAR_KEYWORD:
            rest = True
        elif p.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
            raise ArgumentError("", f"the parameter {p.name!r} has no name that key=value could use: write it without * and /")
        else:
            fields[p.name] = (types_of.get(p.name, _MISSING), p.default is _MISSING)
    values = _values(fields, given, rest)
    return lambda: builder(**values)


def _signature(builder: Callable) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # which evaluates annotations here, and not where they are written
        import annotationlib

        return inspect.signature(builder, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(builder)


def _hints(target: Any) -> dict:
    """The types of a function's parameters or of a class's fields. An annotation that cannot be evaluated is left out, and hides no other. For
    example, its name is imported under `if TYPE_CHECKING:` alone.
    """
    while isinstance(target, functools.partial):
        target = target.func
    if not isinstance(target, type) and not inspect.isroutine(target):  # an object that is called
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:
        pass
    names = getattr(inspect.unwrap(target), "__globals__", None) or vars(sys.modules.get(getattr(target, "__module__", ""), types))

    def one() -> None: ...

    found = {}
    for name, annotation in _annotations(target).items():
        one.__annotations__ = {name: annotation}
        try:
            found.update(typing.get_type_hints(one, names, include_extras=True))
        except Exception:
            pass
    return found


def _annotations(target: Any) -> dict:
    """The annotations as they are written, or as far as they can be evaluated."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(target, format=annotationlib.Format.FORWARDREF)
    return getattr(target, "__annotations__", {})


def _whole(wanted: Any, given: Dict[str, Any]) -> Any:
    """The value of a function's only parameter if that takes all arguments together, as in Ray Serve: a dict, a dataclass or a pydantic
    model. _MISSING for another parameter, which is one argument.
    """
    if typing.get_origin(wanted) is typing.Annotated:
        wanted = typing.get_args(wanted)[0]
    origin = typing.get_origin(wanted) or wanted
    if wanted is _MISSING or wanted is Any:
        return dict(given)
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        value = (typing.get_args(wanted) or (str, Any))[1]
        return {k: v if value is Any else converted(k, v, value) for k, v in given.items()}
    if hasattr(wanted, "model_validate"):
        return _model(wanted, given)
    if dataclasses.is_dataclass(wanted):
        hints = _hints(wanted)
        fields = {
            f.name: (hints.get(f.name, _MISSING), f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
            for f in dataclasses.fields(wanted) if f.init
        }
        return wanted(**_values(fields, given, False))
    if typing.is_typeddict(wanted):
        hints = _hints(wanted)
        return _values({name: (hints[name], name in wanted.__required_keys__) for name in hints}, given, False)
    return _MISSING


def _model(wanted: Any, given: Dict[str, Any]) -> Any:
    """A pydantic model of the arguments. A field that is a list or an object is read from its text."""
    fields = {}
    for name, f in wanted.model_fields.items():
        fields[f.alias if isinstance(f.alias, str) else name] = (f.annotation, f.is_required())
    names = {*fields, *wanted.model_fields}
    if wanted.model_config.get("extra") != "allow":
        _unknown(fields, given, names)
    parts = {k: _parted(v, fields[k][0]) if k in fields else v for k, v in given.items()}
    try:
        return wanted.model_validate(parts)
    except ValueError as e:
        errors = getattr(e, "errors", None)
        if errors is None:
            raise
        first = errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "missing":
            raise ArgumentError(key, f"{key} is missing; {_listed(fields)}") from None
        at = ".".join(map(str, first["loc"]))
        what = f"{at}: {first['msg']}, is {first['input']!r}" if at else first["msg"]
        raise ArgumentError(key, what + (f"; {_listed({key: fields[key]})}" if key in fields else "")) from None


def _values(fields: dict, given: Dict[str, Any], rest: bool) -> dict:
    """The arguments in the types of the fields; rest says that other arguments pass as they are."""
    if not rest:
        _unknown(fields, given, fields)
    for name, (_, required) in fields.items():
        if required and name not in given:
            raise ArgumentError(name, f"{name} is missing; {_listed(fields)}")
    return {k: converted(k, v, fields[k][0]) if k in fields else v for k, v in given.items()}


def _unknown(fields: dict, given: Dict[str, Any], names: Any) -> None:
    for key in given:
        if key not in names:
            from helve._refused import close_names

            raise ArgumentError(key, f"there is no argument {key!r}{close_names(key, names)}; {_listed(fields)}")


def _listed(fields: dict) -> str:
    """The arguments of a function with their types, for people."""
    if not fields:
        return "it takes none"
    texts = (name if tp is _MISSING else f"{name} ({described(tp)})" for name, (tp, _) in fields.items())
    return "it takes " + ", ".join(texts)


def described(tp: Any) -> str:
    """A type for people, for example "int", "list of str" or "int or none"."""
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if origin in _UNIONS:
        return " or ".join("none" if a is _NONE else described(a) for a in args)
    if origin is typing.Literal:
        return " or ".join(repr(a) for a in args)
    if origin is typing.Annotated:
        return described(args[0])
    if (origin or tp) in _LISTS:
        inner = [a for a in args if a is not Ellipsis]
        return f"{getattr(origin or tp, '__name__', 'list')}{f' of {described(inner[0])}' if inner else ''}"
    return getattr(origin or tp, "__name__", None) or str(tp)


def converted(key: str, value: Any, tp: Any) -> Any:
    """A value in a type. A text is read as one of the type; another value, from a file, must be of the type already."""
    try:
        return _converted(value, tp)
    except ValueError as e:
        why = f" ({e})" if str(e) else ""
        raise ArgumentError(key, f"{key}: must be {_article(described(tp))}, is {value!r}{why}") from None


def _article(name: str) -> str:
    return name if name.startswith("'") else f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _converted(value: Any, tp: Any) -> Any:
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if tp in (_MISSING, Any):
        return value
    if tp is str:
        if isinstance(value, str):
            return value
        raise ValueError("")
    if tp is bool:
        return _bool(value)
    if tp is int:
        if isinstance(value, str):
            return _number(int, value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValueError("")
    if tp is float:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return _number(float, value)
        raise ValueError("")
    if origin in _UNIONS:
        return _alternative(value, args)
    if (origin or tp) in _LISTS:
        return _sequence(value, origin or tp, args)
    if (origin or tp) is dict:
        value = _json(value, dict)
        of = args[1] if len(args) == 2 else Any
        return {k: _converted(v, of) for k, v in value.items()}
    from pydantic import TypeAdapter  # the other types: Literal, Enum, Path, datetime, models ...

    try:
        return TypeAdapter(tp).validate_python(_parted(value, tp))
    except ValueError as e:
        errors = getattr(e, "errors", None)
        raise ValueError(errors()[0]["msg"] if errors is not None else str(e)) from None


def _number(tp: Callable, value: Any) -> Any:
    try:
        return tp(value)
    except (ValueError, OverflowError):
        raise ValueError("") from None


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise ValueError("true or false")


def _alternative(value: Any, types_of: tuple) -> Any:
    """A value of one of several types: the first that takes it. "none" is None if text is none of the types."""
    if _NONE in types_of and (value is None or str not in types_of and value in ("none", "None", "null", "")):
        return None
    if isinstance(value, str):
        types_of = tuple(sorted(types_of, key=lambda t: t is str))  # a text would take every value
    for tp in types_of:
        if tp is not _NONE:
            try:
                return _converted(value, tp)
            except ValueError:
                pass
    raise ValueError("")


def _sequence(value: Any, kind: Any, args: tuple) -> Any:
    items: List[Any] = _split(value)
    if kind is tuple and args and Ellipsis not in args:
        if len(items) != len(args):
            raise ValueError(f"{len(args)} values")
        return tuple(_converted(v, t) for v, t in zip(items, args))
    return _LISTS[kind](_converted(v, args[0] if args else (str if isinstance(value, str) and value[:1] != "[" else Any)) for v in items)


def _split(value: Any) -> list:
    """The items of a list: of a file, of a text in JSON, or of a text with commas."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if not isinstance(value, str):
        raise ValueError("")
    if value[:1] == "[":
        return _json(value, list)
    return [part.strip() for part in value.split(",")] if value else []


def _json(value: Any, kind: type) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as e:
            raise ValueError(f"JSON: {e}") from None
    if not isinstance(value, kind):
        raise ValueError("")
    return value


def _parted(value: Any, tp: Any) -> Any:
    """A text in the parts of a list or an object, if the type is one of these; pydantic takes them apart no further."""
    if not isinstance(value, str):
        return value
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if origin is typing.Annotated:
        return _parted(value, args[0])
    if origin in _UNIONS:
        others = [a for a in args if a is not _NONE]
        if _NONE in args and str not in args and value in ("none", "None", "null", ""):
            return None
        return value if str in args or len(others) != 1 else _parted(value, others[0])
    if (origin or tp) in _LISTS:
        return _split(value)
    if (origin or tp) is dict or hasattr(tp, "model_validate") or dataclasses.is_dataclass(tp):
        return _json(value, dict) if value[:1] == "{" else value
    return value


__all__ = ["ArgumentError", "call", "converted", "described"]
