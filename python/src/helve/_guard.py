"""The one place that calls methods of a user's exception to describe it: __str__, __module__ of its class, a
property __cause__. Each of them may raise, and the failure has to be reported all the same. For example, a
constructor raises an exception whose __str__ raises; serve.run() still reports its class.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, Callable

_name_of = type.__dict__["__name__"].__get__  # a metaclass may have a property of this name
_OWN = os.path.dirname(__file__) + "/"
_BEFORE = ("<frozen ", "/importlib/__init__.py", "/asyncio/", "/concurrent/futures/", "/threading.py", "/cloudpickle/", "/pickle.py")
_FRAMEWORKS = ("/site-packages/starlette/", "/site-packages/fastapi/", "/site-packages/anyio/")


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
    without the frames before the first of the user's. An exception that came from another replica has the frames of both, as in _traceback.py.
    """
    return guarded(lambda: _of_call(exc) or _format(exc), lambda e: _bare(exc))


def _of_call(exc: BaseException) -> Any:
    """The text of an exception that a call has raised here; None for one that began here."""
    if field(exc, "__cause__") is None or not has_frames(exc):
        return None
    from helve import _traceback
    from helve._encoding import RemoteTraceback

    if type(field(exc, "__cause__")) is not RemoteTraceback:
        return None
    shown = _traceback.render(exc, field(exc, "__traceback__"))
    return None if shown is None else _plain(shown)


def hide_own_frames(exc: BaseException) -> None:
    """Takes Helve's frames out of the tracebacks of an exception, where frames of other code remain, and of its causes."""
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
        if last is not None or e is not exc:  # a cause that another thread of Helve's has raised has no frames at all
            BaseException.__dict__["__traceback__"].__set__(e, first)
        todo += (field(e, "__cause__"), field(e, "__context__"))


def install_hooks() -> None:
    """Has Python, IPython (notebooks) and pytest show exceptions without Helve's frames. It may run again. A program that has its own
    sys.excepthook or handler of IPython keeps it, and the variable HELVE_TRACEBACKS=full keeps the frames.
    """
    if not _hidden():
        return
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _excepthook
    if "IPython" in sys.modules:
        guarded(_install_in_notebook, lambda e: None)
    if "pytest" in sys.modules:
        for name, module in list(sys.modules.items()):
            if name.startswith("helve.") and module is not None:
                vars(module).setdefault("__tracebackhide__", _hidden)


def _hidden(info: Any = None) -> bool:
    """Whether Helve's frames are left out. pytest calls it for each frame of a module that has it as __tracebackhide__."""
    return os.environ.get("HELVE_TRACEBACKS") != "full"


def _install_in_notebook() -> None:
    shell = sys.modules["IPython"].get_ipython()
    if shell is not None and not shell.custom_exceptions:
        shell.set_custom_exc((BaseException,), _show_in_notebook)


def _show_in_notebook(shell: Any, kind: type, exc: BaseException, tb: Any, tb_offset: Any = None) -> None:
    """IPython's text of an exception, without Helve's frames and with those of the replica. For example, the cell `await handle.remote("x")`
    shows its line, and then the line of the method that raised.
    """
    from helve import _traceback

    remote = guarded(lambda: _traceback.in_replica(exc), lambda e: "")
    guarded(lambda: hide_own_frames(exc), lambda e: None)
    tb = field(exc, "__traceback__") or tb
    if remote:
        set_cause(exc, None)
        BaseException.__dict__["__suppress_context__"].__set__(exc, True)
    lines = list(shell.InteractiveTB.structured_traceback(kind, exc, tb, tb_offset=tb_offset))
    if remote:
        lines.insert(len(lines) - 1, remote)
    shell._showtraceback(kind, exc, lines)


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
    t.stack[:] = without_frameworks(frames)
    for other in (t.__cause__, t.__context__, *(getattr(t, "exceptions", None) or ())):
        _strip(other, seen)


def without_frameworks(frames: list) -> list:
    """The frames without those of web frameworks that lead to other code. For example, of 20 frames of FastAPI and Starlette and one of a route
    that raised, the last remains; of an exception that Starlette itself has raised, all remain.
    """
    def framework(f: Any) -> bool:
        return any(part in f.filename for part in _FRAMEWORKS)

    last = max((i for i, f in enumerate(frames) if not framework(f)), default=-1)
    return [f for i, f in enumerate(frames) if i > last or not framework(f)]


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


__all__ = ["attribute", "exit_code", "field", "guarded", "has_frames", "hide_own_frames", "install_hooks", "last_frame", "own_file", "set_attribute", "set_cause", "text", "trace", "type_name", "without_frameworks"]
