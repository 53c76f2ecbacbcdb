"""The command ``helve`` of the Python package: `helve run` for Python programs, `helve ray-check`, and every other command by the binary
of the package.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, NoReturn, Optional

from helve._flags import Command, Mistake, is_python, parse, strange, takes_value


def main(argv: Optional[list] = None) -> NoReturn:
    args = sys.argv[1:] if argv is None else argv
    try:
        try:
            status: Any = dispatch(args)
        except SystemExit as e:  # of a user's program, for example
            status = e.code
        _flush()
        sys.exit(status)
    except Mistake as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.code)
    except KeyboardInterrupt:  # of an application that was still starting, for example
        sys.exit(130)
    except BrokenPipeError:  # `helve ray-check . | head`
        _drop_output()
        sys.exit(141)
    except OSError as e:  # of this command itself, for example a full disk behind stdout; a user's program has its own errors
        print(f"error: {e}", file=sys.stderr)
        try:
            _flush()
        except OSError:
            _drop_output()
        sys.exit(1)


def _flush() -> None:
    """Writes the rest of stdout. Python would do so at its end, and have a line of its own for a failure."""
    try:
        sys.stdout.flush()
    except (AttributeError, ValueError):  # it is None where its descriptor is closed, and a program may have closed it or put something else in its place
        pass


def _drop_output() -> None:
    """Has the rest of stdout go nowhere, which could not be written: Python would try again at its end, and end with the status 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def dispatch(args: list) -> int:
    """Runs a command, and returns its exit status."""
    command, rest = (args[0], args[1:]) if args else ("", [])
    if command == "run":
        if _for_python(rest):
            return run(rest)
        _check_target(rest)
    if args == ["--version"] or args == ["version"]:
        return _versions(command)
    if command == "ray-check":
        from helve import _raycheck

        return _raycheck.main(rest)
    if command == "ray-compat" and rest[:1] != ["serve"]:
        return run_module(rest)
    if command == "init" and not {"--go", "--python", "-h", "--help"} & set(rest):
        args = ["init", "--python", *rest]
    return binary(args)


def _versions(command: str) -> int:
    """`helve --version` is one line, and `helve version` has the binary and the interpreter too. It fails if the binary is of another version."""
    import helve

    if command == "--version":
        print(f"helve {helve.__version__}")
        return 0
    from helve import _version

    text, same = _version.report()
    print(text, flush=True)
    return 0 if same else 1


def _check_target(args: list) -> None:
    """Refuses targets that are Python programs in a form that `run` does not have, and says which form it has."""
    for arg in args:
        if arg.startswith(("-", "exec:")):
            return
        place, colon, attribute = arg.partition(":")
        path = Path(place if place.endswith(".py") else place + ".py")
        if not (path.is_file() or colon and Path(place).is_dir()):
            return
        if not colon:
            raise Mistake(f"{arg}: write {path} for a script, or {path.stem}:NAME for the application NAME of its module")
        attribute, again, _ = attribute.partition(":")
        if again:
            raise Mistake(f"{arg}: write {path.stem}:{attribute}, with one colon")
        directory = f"--app-dir {path.parent} " if str(path.parent) != "." else ""
        raise Mistake(f"{arg}: write helve run {directory}{path.stem}:{attribute}, with the name of a module")


def _for_python(args: list) -> bool:
    """Whether `run` with these arguments is for Python: they name a Python program, or have a flag that only Python programs take. Help is the
    binary's.
    """
    before = ""
    for arg in args:
        if arg in ("--", "-h", "--help") or arg.startswith("exec:") and not takes_value(before):
            return False
        if arg == "--ray-compat":
            return "-h" not in args and "--help" not in args
        if not arg.startswith("-") and not takes_value(before) and is_python(arg):
            return True
        before = arg if arg.startswith("-") and "=" not in arg else ""
    return False


def binary(args: list) -> int:
    """Becomes the binary of the package, which has the other commands."""
    from helve import _driver

    try:
        path = _driver.binary()
    except Exception as e:
        raise Mistake(str(e), 1) from None
    _flush()
    if args[:1] in (["start"], ["deploy"], ["plan"], ["build"], ["ray-compat"]):  # applications in Python are built by this interpreter, and run with it
        os.environ.setdefault("HELVE_PYTHON", sys.executable)
    try:
        os.execv(path, ["helve", *args])
    except OSError as e:
        raise Mistake(f"{path}: {e.strerror}", 1) from None


def run(args: list) -> int:
    """`helve run` of a Python program."""
    from helve import _loader

    loads = _loader.begin()
    try:
        os.getcwd()
    except FileNotFoundError:
        raise Mistake("the current directory is gone: change to one that is there", 1) from None
    command = parse(args, os.environ)
    if not loads:
        for line in strange(os.environ):
            print(f"warning: {line}", file=sys.stderr)
    from helve import _driver, _run

    _run.prepare(command)
    if not loads:
        _driver.command.flags = [*_driver.command.flags, "--warned"]
    if command["reload"] and not loads and not command["dry-run"]:
        from helve import _reload

        return _reload.run(command, args)
    if command["node"] is not None and not command["dry-run"]:
        _attach(command["node"])
    if command["ray-compat"]:
        from helve import raycompat

        raycompat.install()
    if command.script:
        return run_script(command)
    sys.path[:] = [_run.directory(command), *_rest_of_path()]
    return _loading(lambda: _run.run(command))


def _attach(node: str) -> None:
    """Attaches to the node of --node, in which the program runs its applications."""
    from helve import _driver
    from helve._errors import RayServeException

    try:
        _driver.at(node, None)
    except RayServeException as e:
        raise Mistake(f"--node: {e}", 1) from None


def _loading(body: Callable[[], int]) -> int:
    """Runs a program, and reports the files that it has loaded if this is the loader of a `helve run --reload`."""
    from helve import _loader

    try:
        return body()
    finally:
        if _loader.active():
            _loader.files()


# ---- scripts


def run_script(command: Command) -> int:
    """Runs a script as the main program of this process, which stays that until the process ends: pickles of its classes and functions
    refer to it.
    """
    if command["dry-run"]:
        raise Mistake("--dry-run is for MODULE:APPLICATION and files: only a script itself knows what it will run")
    path = Path(command.script)
    try:
        source = path.read_bytes()
    except OSError as e:
        raise Mistake(f"{command.script}: {e.strerror}") from None
    file = os.path.abspath(command.script)
    sys.argv = [command.script, *command.arguments]
    app_dir = command["app-dir"]
    sys.path[:] = [os.path.abspath(app_dir) if app_dir else os.path.dirname(os.path.realpath(file)), *_rest_of_path()]
    main = ModuleType("__main__")
    main.__dict__.update(__file__=file, __builtins__=__builtins__, __spec__=None, __annotations__={}, __cached__=None)
    sys.modules["__main__"] = main
    return _loading(lambda: _own_errors(lambda: exec(compile(source, file, "exec", dont_inherit=True), main.__dict__)))


def run_module(args: list) -> int:
    """`helve ray-compat MODULE arguments...` is `python -m MODULE arguments...` with `ray` from Helve, for example of pytest."""
    if not args or args[0].startswith("-"):
        raise Mistake("usage: helve ray-compat MODULE [argument...], for example helve ray-compat pytest tests")
    import runpy

    from helve import raycompat

    raycompat.install()
    sys.argv = list(args)
    sys.path[:] = [os.getcwd(), *_rest_of_path()]
    return _own_errors(lambda: runpy.run_module(args[0], run_name="__main__", alter_sys=True))


def _rest_of_path() -> list:
    """sys.path without the first entry, which Python made for this program: the directory of the script `helve`, or the current one."""
    first = sys.path[0] if sys.path else ""
    ours = {"", os.getcwd(), os.path.dirname(os.path.abspath(sys.argv[0]))}
    return sys.path[1:] if first in ours or first == os.path.dirname(os.path.realpath(sys.executable)) else list(sys.path)


def _own_errors(body: Callable[[], Any]) -> int:
    """Runs a user's program. Its traceback, if there is one, has the user's frames only."""
    try:
        body()
    except SystemExit:
        raise
    except BaseException as e:
        tb = e.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename in (__file__, "<frozen runpy>", "<frozen importlib._bootstrap>"):
            tb = tb.tb_next
        sys.excepthook(type(e), e.with_traceback(tb), tb)
        if isinstance(e, ModuleNotFoundError):
            from helve import _run

            hint = _run.for_ray(e)
            if hint:
                print(hint[1:], file=sys.stderr)
        return 130 if isinstance(e, KeyboardInterrupt) else 1
    return 0


__all__ = ["Mistake", "is_python", "main"]
