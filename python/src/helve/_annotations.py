"""The names in annotations that are strings. cloudpickle carries the globals that a function's code names; an annotation such as "Item", or every
annotation of a module with `from __future__ import annotations`, is a string, and whoever evaluates it in a replica needs its globals too. FastAPI
does so for each method that is a route.
"""

from __future__ import annotations

import sys
import types
from typing import Any, Callable, Iterator

_DEEPEST = 20  # levels of types in types, as in list[dict[str, "Item"]]


def named(annotations: Any, namespace: dict) -> dict:
    """The values in the namespace that the strings among annotations name. For example, {"item": "list[Item]"} gives Item."""
    found: dict = {}
    if annotations:
        for annotation in annotations.values():
            for name, sure in _names(annotation, 0):
                if name in namespace and name not in found and (sure or _is_type(namespace[name])):
                    found[name] = namespace[name]
    return found


def _names(annotation: Any, depth: int, sure: bool = True) -> Iterator[tuple]:
    """The names in an annotation. They are sure if the evaluation of the annotation reads them: a string in a string, as in
    "list['Item']", may be a type, and in "Literal['item']" it is none.
    """
    if depth > _DEEPEST:
        return
    annotation = getattr(annotation, "__forward_arg__", annotation)
    if isinstance(annotation, str):
        try:
            code = compile(annotation, "<annotation>", "eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return
        for name, constants in _read(code):
            if name is not None:
                yield name, sure
            for constant in constants:
                for text in constant if isinstance(constant, tuple) else (constant,):
                    if isinstance(text, str):
                        yield from _names(text, depth + 1, False)
        return
    for part in (*_sequence(getattr(annotation, "__args__", ())), *_sequence(getattr(annotation, "__metadata__", ()))):
        if not isinstance(part, type):
            yield from _names(part, depth + 1, sure and not isinstance(part, str))


def _read(code: types.CodeType) -> Iterator[tuple]:
    """The names and the constants of an expression, and of the functions in it."""
    for name in code.co_names:
        yield name, ()
    yield None, code.co_consts
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _read(constant)


def _sequence(value: Any) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else ()


def _is_type(value: Any) -> bool:
    return isinstance(value, (type, types.GenericAlias)) or type(value).__module__ == "typing"


# ---- functions and classes in pickles


def with_names(reduced: tuple, function: types.FunctionType) -> tuple:
    """What cloudpickle makes of a function, with the globals that its annotations name."""
    more = named(function.__annotations__, function.__globals__)
    if more:
        _, slots = reduced[2]
        slots["__globals__"] = {**more, **slots["__globals__"]}
    return reduced


def with_module_names(reduced: Any, cls: type) -> Any:
    """What cloudpickle makes of a class, with the names of its module that its annotations name. typing.get_type_hints, dataclasses and pydantic
    look them up in the module, which in a replica is another __main__.
    """
    if type(reduced) is not tuple or len(reduced) != 6 or not isinstance(cls.__module__, str):
        return reduced
    module = sys.modules.get(cls.__module__)
    more = named(vars(cls).get("__annotations__"), vars(module)) if module is not None else None
    if not more:
        return reduced
    return (*reduced[:2], (reduced[2], more), None, None, _Setter(reduced[5]))


class _Setter:
    """Sets the state of a class, and puts the names of its annotations into its module, where they are not there."""

    def __init__(self, setter: Callable):
        self.setter = setter

    def __call__(self, cls: type, state: tuple) -> type:
        state, more = state
        module = sys.modules.get(cls.__module__)
        if module is not None:
            for name, value in more.items():
                vars(module).setdefault(name, value)
        return self.setter(cls, state) or cls


def complete(cls: type) -> None:
    """Resolves the annotations of a model of pydantic that names a class that was defined after it."""
    if vars(cls).get("__pydantic_complete__") is False:
        rebuild = getattr(cls, "model_rebuild", None)
        if callable(rebuild):
            try:
                rebuild(raise_errors=False)
            except Exception:  # the program's own code may run; pydantic reports the model when it is used
                pass


__all__ = ["complete", "named", "with_module_names", "with_names"]
