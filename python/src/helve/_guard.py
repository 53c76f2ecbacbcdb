"""The one place that calls methods of a user's exception to describe it: __str__, __module__ of its class, a
property __cause__. Each of them may raise, and the failure has to be reported all the same. For example, a
constructor raises an exception whose __str__ raises; serve.run() still reports its class.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any, Callable

_name_of = type.__dict__["__name__"].__get__  # a metaclass may have a property of this name
_OWN = str(Path(__file__).parent) + "/"
_BEFORE = ("<frozen ", "/importlib/__init__.py", "/asyncio/", "/concurrent/futures/", "/threading.py", "/cloudpickle/", "/pickle.py")


def type_name(value: Any) -> str:
    """The name of a value's class."""
    return _name_of(type(value))


def text(exc: BaseException) -> str:
    """str(exc)."""
    return guarded(lambda: _plain(str(exc)), lambda e: f"<its text failed: {type_name(e)}>")


def guarded(fn: Callable[[], Any], otherwise: Callable[[BaseException], Any]) -> Any:
    """The result of fn, or, if user code in it raises, the result of otherwise for the exception."""
    try:
        return fn()
    except BaseException as e:  # also SystemExit: reading a text does not end the process
        return otherwise(e)


def _plain(s: str) -> str:
    """The text alone: an instance of a subclass has methods of its own."""
    return "".join([s])


def attribute(exc: BaseException, name: str) -> Any:
    """An attribute that was set on an exception, without its class's __getattr__, __getattribute__ and properties;
    None if there is none.
    """
    return guarded(lambda: object.__getattribute__(exc, "__dict__").get(name), lambda e: None)


def set_attribute(exc: BaseException, name: str, value: Any) -> None:
    """Sets an attribute for attribute(), also of an exception that refuses attributes, as a frozen dataclass does."""
    guarded(lambda: object.__getattribute__(exc, "__dict__").__setitem__(name, value), lambda e: None)


def field(exc: BaseException, name: str) -> Any:
    """A field that every exception has, such as __cause__, even if its class has another attribute of that name."""
    return BaseException.__dict__[name].__get__(exc)


def set_cause(exc: BaseException, cause: Any) -> None:
    BaseException.__dict__["__cause__"].__set__(exc, cause)


def own_file(name: str) -> bool:
    """Whether a file is one of Helve's modules."""
    return name.startswith(_OWN)


def has_frames(exc: BaseException) -> bool:
    """Whether an exception went through code that is not Helve's."""
    entry = field(exc, "__traceback__")
    while entry is not None and entry.tb_frame.f_code.co_filename.startswith(_OWN):
        entry = entry.tb_next
    return entry is not None


def trace(exc: BaseException) -> str:
    """The traceback of an exception and of its causes: the frames of the user's code, without Helve's own and
    without the frames before the first of the user's.
    """
    return guarded(lambda: _format(exc), lambda e: _bare(exc))


def hide_own_frames(exc: BaseException) -> None:
    """Takes Helve's frames out of the tracebacks of an exception and of its causes, where frames of other code remain."""
    todo, seen = [exc], set()
    while todo:
        e = todo.pop()
        if e is None or id(e) in seen:
            continue
        seen.add(id(e))
        first = last = None
        entry = field(e, "__traceback__")
        while entry is not None:
            if not entry.tb_frame.f_code.co_filename.startswith(_OWN):
                if last is None:
                    first = entry
                else:
                    last.tb_next = entry
                last = entry
            entry = entry.tb_next
        if last is not None:
            last.tb_next = None
            BaseException.__dict__["__traceback__"].__set__(e, first)
        todo += (field(e, "__cause__"), field(e, "__context__"))


def install_excepthook() -> None:
    """Has Python show the exceptions that end this program without Helve's frames. A program that has its own sys.excepthook keeps it, and the
    variable HELVE_TRACEBACKS=full keeps the frames.
    """
    if sys.excepthook is sys.__excepthook__ and os.environ.get("HELVE_TRACEBACKS") != "full":
        sys.excepthook = _excepthook


def _excepthook(kind: type, exc: BaseException, tb: Any) -> None:
    from helve import _traceback

    shown = guarded(lambda: _traceback.render(exc, tb), lambda e: None)
    if shown is not None and sys.stderr is not None:
        sys.stderr.write(shown)
        sys.stderr.flush()
        return
    guarded(lambda: hide_own_frames(exc), lambda e: None)
    sys.__excepthook__(kind, exc, field(exc, "__traceback__") or tb)


def last_frame(exc: BaseException) -> Any:
    """(file, line, function) of the user's code that raised an exception; None if there is none."""
    entry, found = field(exc, "__traceback__"), None
    while entry is not None:
        code = entry.tb_frame.f_code
        if not code.co_filename.startswith(_OWN):
            found = code.co_filename, entry.tb_lineno, code.co_name
        entry = entry.tb_next
    return found


def _format(exc: BaseException) -> str:
    whole = traceback.TracebackException(type(exc), exc, field(exc, "__traceback__"))
    _strip(whole, set())
    return _plain("".join(whole.format()))


def _strip(t: traceback.TracebackException, seen: set) -> None:
    if t is None or id(t) in seen:
        return
    seen.add(id(t))
    frames = [f for f in t.stack if not f.filename.startswith(_OWN)]
    while frames and any(part in f"/{frames[0].filename}" for part in _BEFORE):
        frames.pop(0)
    t.stack[:] = frames
    for other in (t.__cause__, t.__context__, *(getattr(t, "exceptions", None) or ())):
        _strip(other, seen)


def _bare(exc: BaseException) -> str:
    """The frames alone, of an exception whose own methods fail."""
    frames = guarded(lambda: traceback.format_tb(field(exc, "__traceback__")), lambda e: [])
    return "Traceback (most recent call last):\n" + "".join(frames) + f"{type_name(exc)}: {text(exc)}\n"


def exit_code(exc: BaseException) -> int:
    """The exit status of a program that raises exc, a SystemExit or a KeyboardInterrupt."""
    if not issubclass(type(exc), SystemExit):
        return 130
    code = SystemExit.__dict__["code"].__get__(exc)
    if code is None:
        return 0
    if type(code) is int:
        return code & 0xFF
    guarded(lambda: print(code, file=sys.stderr), lambda e: None)
    return 1


__all__ = ["attribute", "exit_code", "field", "guarded", "has_frames", "hide_own_frames", "install_excepthook", "last_frame", "own_file", "set_attribute", "set_cause", "text", "trace", "type_name"]
