"""Where in a value the object is that cannot be pickled, for the text of the error. For example, `model.lock` of the argument 'model' of a
deployment. It looks again at a value whose pickling has failed: at its parts, then at the parts of the part that fails, and so on.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, Callable, Iterator, Optional

from helve import _guard
from helve._pickling import dumps

DEPTH = 20  # parts within parts
PARTS = 2000  # parts of one object that are looked at


def _attributes(value: Any) -> Iterator[tuple]:
    state = getattr(value, "__dict__", None)
    if isinstance(state, dict):
        for name, part in state.items():
            yield f".{name}", part
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _of_function(fn: types.FunctionType) -> Iterator[tuple]:
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ()):
        try:
            yield f" variable {name!r}", cell.cell_contents
        except ValueError:  # not assigned yet
            pass
    for name in _global_names(fn.__code__):
        if name in fn.__globals__:
            yield f" global {name!r}", fn.__globals__[name]
    for part in (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()):
        yield " default", part


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _global_names(const)


def parts(value: Any) -> Iterator[tuple]:
    """The parts of a value that are pickled with it, each as (name, part)."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield f"[{key!r}]", part
    elif isinstance(value, (list, tuple, set, frozenset)):
        for i, part in enumerate(value):
            yield f"[{i}]", part
    if isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield f" object of {value.__name__}()", value.__self__
        yield from _of_function(value.__func__) if isinstance(value.__func__, types.FunctionType) else ()
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, type):
        for name, part in list(vars(value).items()):
            if isinstance(part, (staticmethod, classmethod)):
                part = part.__func__
            if not name.startswith("__") or name in ("__init__", "__call__"):
                yield f".{name}", part
    elif not isinstance(value, types.ModuleType):
        yield from _attributes(value)


def find(value: Any, pickle: Callable[[Any], Any] = dumps) -> Optional[tuple]:
    """The path to the first part that cannot be pickled, and the error of it; None if all of it can. The path is "" for the value itself."""
    error = _error(value, pickle)
    if error is None:
        return None
    path, seen = "", {id(value)}
    for _ in range(DEPTH):
        found = _guard.guarded(lambda: _first(value, pickle, seen), lambda e: None)
        if found is None:
            break
        name, value, error = found
        path += name
        seen.add(id(value))
    return path, error


def _first(value: Any, pickle: Callable, seen: set) -> Optional[tuple]:
    for i, (name, part) in enumerate(parts(value)):
        if i == PARTS:
            return None
        if id(part) not in seen:
            error = _error(part, pickle)
            if error is not None:
                return name, part, error
    return None


def _error(value: Any, pickle: Callable) -> Optional[Exception]:
    try:
        pickle(value)
    except Exception as e:
        return e
    return None


def _plain(e: BaseException) -> bool:
    """Whether an error may be pickle's own. Other errors, such as that of a response in a list, have a text with advice."""
    return type(e).__name__ in ("TypeError", "AttributeError", "PicklingError", "RecursionError", "ValueError", "NotImplementedError")


def text(what: str, found: tuple, then: str = "") -> str:
    """The error for people, for example "argument 'model' (.lock): cannot pickle '_thread.lock' object"."""
    path, error = found
    return f"{what}{f' ({path.strip()})' if path else ''}{then}: {_guard.text(error)}"


def argument(e: BaseException, target: tuple, args: tuple, kwargs: dict) -> BaseException:
    """The error of a call whose arguments may have failed to be pickled; other errors stay as they are."""
    if not _plain(e) or not isinstance(args, tuple):
        return e
    for name, value in (*((f"argument {i}", v) for i, v in enumerate(args, 1)), *((f"argument {k!r}", v) for k, v in kwargs.items())):
        found = find(value)
        if found is not None and _plain(found[1]):
            return TypeError(text(f"{called(target)} cannot be sent: its {name}", found, " cannot be pickled"))
    return e


def called(target: tuple) -> str:
    """A call for people. target is application, deployment and method."""
    return f"the call of {target[1]}.{target[2] or '__call__'}()"


def result(e: BaseException, deployment: str, method: str, value: Any) -> BaseException:
    """The error of a result that may have failed to be pickled."""
    what = f"the result of {deployment}.{method}()"
    if type(e).__name__ == "RayServeException" and type(value).__name__ == "DeploymentResponse":  # an await was forgotten
        return type(e)(f"`DeploymentResponse` is not serializable: {what} is one; return its value, as in `return await handle.remote(...)`")
    return _of_value(e, what, value)


def item(e: BaseException, value: Any) -> BaseException:
    """The error of an item of a stream that may have failed to be pickled."""
    return _of_value(e, "an item of the stream", value)


def _of_value(e: BaseException, what: str, value: Any) -> BaseException:
    found = find(value) if _plain(e) else None
    return e if found is None or not _plain(found[1]) else TypeError(text(what, found, " cannot be pickled"))


def of_deployment(name: str, target: Any, args: tuple, kwargs: dict, pickle: Callable) -> Optional[str]:
    """The text for a deployment that cannot be pickled: with the argument of bind(), or the part of its code; None if none is found."""
    names: list = []
    try:
        names = [p.name for p in inspect.signature(target).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        pass
    for i, value in enumerate(args):
        found = find(value, pickle)
        if found is not None:
            return text(f"deployment {name!r} argument {repr(names[i]) if i < len(names) else i + 1}", found)
    for key, value in kwargs.items():
        found = find(value, pickle)
        if found is not None:
            return text(f"deployment {name!r} argument {key!r}", found)
    found = find(target, pickle)
    if found is None:
        return None
    kind = "class" if inspect.isclass(target) else "function"
    return text(f"deployment {name!r} {kind} {getattr(target, '__name__', '?')!r}", found)


__all__ = ["argument", "find", "item", "of_deployment", "result", "text"]
