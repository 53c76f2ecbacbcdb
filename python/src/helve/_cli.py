"""The command ``helve`` of the Python package: `helve run` for Python programs, `helve ray-check`, and every other command by the binary
of the package.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, NoReturn, Optional

# module:attribute, for example "app:entrypoint" or "my.models:build". A URL's scheme is none: exec: belongs to the binary.
MODULE_AND_ATTRIBUTE = re.compile(r"(?!exec:|unix:)[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
FLAGS_OF_BINARY = frozenset(("--http", "--isolation", "--state-dir", "--worker-grace", "--arena-size", "--max-body", "--admin"))


COMMANDS = """Python programs:
  helve run SCRIPT.py [argument...]               as `python SCRIPT.py`
  helve run MODULE:APPLICATION [key=value...]     an application of a module, until it is interrupted; `helve run --help` has the flags
  helve run --ray-compat ...                      the same for programs that import ray
  helve ray-check PATH...                         the names of Ray that programs use and Helve does not have
  helve ray-compat MODULE [argument...]           `python -m MODULE`, for example pytest, for programs that import ray
"""


class Mistake(Exception):
    """A command that cannot be done, with a text for the user."""

    def __init__(self, text: str, code: int = 2):
        super().__init__(text)
        self.code = code


def is_python(target: str) -> bool:
    """Whether an argument of `run` names a Python program: a script, or module:application."""
    return target.endswith(".py") or MODULE_AND_ATTRIBUTE.fullmatch(target) is not None


def main(argv: Optional[list] = None) -> NoReturn:
    args = sys.argv[1:] if argv is None else argv
    try:
        sys.exit(dispatch(args))
    except Mistake as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.code)
    except KeyboardInterrupt:  # of an application that was still starting, for example
        sys.exit(130)
    except BrokenPipeError:  # `helve ray-check . | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)


def dispatch(args: list) -> int:
    """Runs a command, and returns its exit status."""
    command, rest = (args[0], args[1:]) if args else ("", [])
    if command == "run" and _for_python(rest):
        return run(rest)
    if command == "run":
        _check_target(rest)
    if args[:1] in ([], ["-h"], ["--help"], ["help"]) and len(args) < 2:
        print(COMMANDS, flush=True)
    if command == "run" and {"-h", "--help"} & set(rest):
        print(_parser().format_help() + "\nThe same command runs applications in Go:\n", flush=True)
    if args == ["--version"] or args == ["version"]:
        return _versions(command)
    if command == "ray-check":
        from helve import _raycheck

        return _raycheck.main(rest)
    if command == "ray-compat":
        return run_module(rest)
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
        directory = f"--app-dir {path.parent} " if str(path.parent) != "." else ""
        raise Mistake(f"{arg}: write helve run {directory}{path.stem}:{attribute}, with the name of a module")


def _for_python(args: list) -> bool:
    """Whether `run` with these arguments is for Python: they name a Python program, or have a flag that only Python programs take."""
    before = ""
    for arg in args:
        if arg == "--":
            return False
        if arg.startswith("-"):
            if arg == "--ray-compat":
                return True
        elif before not in FLAGS_OF_BINARY:
            if is_python(arg):
                return True
            if arg.startswith("exec:"):
                return False
        before = arg
    return False


def binary(args: list) -> int:
    """Becomes the binary of the package, which has the other commands."""
    from helve import _driver

    try:
        path = _driver.binary()
    except Exception as e:
        raise Mistake(str(e), 1) from None
    sys.stdout.flush()
    try:
        os.execv(path, ["helve", *args])
    except OSError as e:
        raise Mistake(f"{path}: {e.strerror}", 1) from None


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="helve run", usage="helve run [flags] SCRIPT.py [argument...] | MODULE:APPLICATION [key=value...]", allow_abbrev=False,
        description="Run a Python program. A script runs as `python SCRIPT.py` does. MODULE:APPLICATION is an application, or a function that "
        "makes one from the arguments key=value; it runs until it is interrupted.",
    )
    p.add_argument("target", metavar="TARGET", help="a script, or MODULE:APPLICATION")
    p.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="of the script, or key=value for the function that makes the application")
    p.add_argument("--ray-compat", action="store_true", help="`import ray` and `from ray import serve` are Helve's: programs for Ray Serve run unmodified")
    p.add_argument("--name", default=None, help="name of the application (default: default)")
    p.add_argument("--route-prefix", default=None, help="its path over HTTP (default: /)")
    p.add_argument("--host", default=None, help="address of the HTTP ingress (default: 127.0.0.1)")
    p.add_argument("--port", type=int, default=None, help="its port (default: 8000; 0 picks one)")
    p.add_argument("--http", default=None, metavar="HOST:PORT", help="both in one")
    p.add_argument("--app-dir", "--working-dir", default=None, metavar="DIRECTORY", help="where modules are looked for first (default: the current directory)")
    p.add_argument("--blocking", action="store_true", default=True, help="wait for a signal, which MODULE:APPLICATION does anyway")
    return p


def run(args: list) -> int:
    """`helve run` of a Python program."""
    options = _parser().parse_args(args)
    if options.ray_compat:
        from helve import raycompat

        raycompat.install()
    if options.http is not None:
        host, _, port = options.http.rpartition(":")
        if not port.isdigit():
            raise Mistake(f"--http {options.http}: must be HOST:PORT, for example 127.0.0.1:8000")
        options.host, options.port = options.host or host or None, int(port) if options.port is None else options.port
    if options.target.endswith(".py"):
        return run_script(options)
    if not is_python(options.target):
        raise Mistake(f"{options.target}: must be a script (SCRIPT.py) or MODULE:APPLICATION, for example app:entrypoint")
    return run_application(options)


def _start(options: argparse.Namespace) -> None:
    """Sets the options of HTTP, if there are any."""
    given = {k: v for k, v in (("host", options.host), ("port", options.port)) if v is not None}
    if given:
        from helve import serve

        serve.start(http_options=given)


# ---- scripts


def run_script(options: argparse.Namespace) -> int:
    """Runs a script as the main program of this process, which stays that until the process ends: pickles of its classes and functions
    refer to it.
    """
    if options.name is not None or options.route_prefix is not None:
        raise Mistake("--name and --route-prefix are for MODULE:APPLICATION; a script gives them to serve.run")
    path = Path(options.target)
    try:
        source = path.read_bytes()
    except OSError as e:
        raise Mistake(f"{options.target}: {e.strerror}") from None
    file = os.path.abspath(options.target)
    sys.argv = [options.target, *options.arguments]
    sys.path[:] = [os.path.abspath(options.app_dir) if options.app_dir else os.path.dirname(os.path.realpath(file)), *_rest_of_path()]
    main = ModuleType("__main__")
    main.__dict__.update(__file__=file, __builtins__=__builtins__, __spec__=None, __annotations__={}, __cached__=None)
    sys.modules["__main__"] = main
    _start(options)
    return _own_errors(lambda: exec(compile(source, file, "exec", dont_inherit=True), main.__dict__))


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
        return 130 if isinstance(e, KeyboardInterrupt) else 1
    return 0


# ---- applications


def run_application(options: argparse.Namespace) -> int:
    directory = os.path.abspath(options.app_dir) if options.app_dir else os.getcwd()
    if not os.path.isdir(directory):
        raise Mistake(f"--app-dir {options.app_dir}: there is no such directory")
    sys.path[:] = [directory, *_rest_of_path()]
    target = load(options.target, directory)
    _start(options)
    from helve import serve

    app = application(options.target, target, options.arguments)
    serve.run(
        app, blocking=True, name="default" if options.name is None else options.name,
        route_prefix="/" if options.route_prefix is None else options.route_prefix or None,
    )
    return 0


def load(path: str, directory: str) -> Any:
    """The object behind MODULE:ATTRIBUTE."""
    name, _, attribute = path.partition(":")
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as e:
        if name.endswith(".py") and os.path.exists(os.path.join(directory, name)):
            raise Mistake(f"{path}: write {name[:-3]}:{attribute}, with the name of the module", 1) from None
        if e.name == name or e.name and name.startswith(e.name + "."):
            raise Mistake(f"{path}: there is no module {e.name!r} in {directory} or elsewhere on the path of {sys.executable}; --app-dir names its directory", 1) from None
        raise Mistake(f"{path}: the import of {name!r} failed\n\n{_trace(e)}", 1) from None
    except Exception as e:
        raise Mistake(f"{path}: the import of {name!r} failed\n\n{_trace(e)}", 1) from None
    at = name
    for part in attribute.split("."):
        if not hasattr(found, part):
            from helve._refused import close_names

            raise Mistake(f"{path}: {at} has no {part!r}{close_names(part, [n for n in dir(found) if not n.startswith('_')])}", 1)
        found, at = getattr(found, part), f"{at}.{part}"
    return found


def _trace(e: BaseException) -> str:
    """The traceback of an import, from the user's first frame on."""
    tb = e.__traceback__
    while tb is not None and (tb.tb_frame.f_code.co_filename == __file__ or "importlib" in tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(e), e, tb)).rstrip()


def application(path: str, target: Any, arguments: list) -> Any:
    """The application that an object is or makes."""
    from helve.serve.deployment import Application, Deployment

    given = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            raise Mistake(f"Invalid application argument {argument!r}: must be key=value")
        given[key] = value
    if isinstance(target, Application):
        if given:
            raise Mistake(f"{path} is an application already, and takes no arguments: they are for a function that makes one (an application builder)")
        return target
    if isinstance(target, Deployment):
        raise Mistake(f"{path} is a deployment, and must be an application: write app = {target.name}.bind(...), and run that", 1)
    if not inspect.isfunction(target):
        raise Mistake(f"{path} is {_article(type(target).__name__)}, and must be an Application (made by .bind(...)) or a function that makes one", 1)
    try:
        made = target(_arguments(path, target, given))
    except Mistake:
        raise
    except Exception as e:
        raise Mistake(f"{path}: the function failed\n\n{_trace(e)}", 1) from None
    if not isinstance(made, Application):
        raise Mistake(f"{path} returned {_article(type(made).__name__)}, and must return an Application (made by .bind(...))", 1)
    return made


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"


def _arguments(path: str, builder: Callable, given: dict) -> Any:
    """The arguments for a builder, in the type of its parameter: a dict, or a pydantic model or dataclass with these fields."""
    import dataclasses
    import typing

    parameters = list(inspect.signature(builder).parameters.values())
    if len(parameters) != 1:
        raise Mistake(f"{path}: application builder functions should take exactly one parameter, a dictionary with the arguments; this one takes {len(parameters)}", 1)
    try:
        wanted = typing.get_type_hints(builder).get(parameters[0].name)
    except Exception:  # an annotation that cannot be evaluated
        wanted = None
    if hasattr(wanted, "model_validate"):
        try:
            return wanted.model_validate(given)
        except ValueError as e:
            raise Mistake(f"{path}: the arguments do not fit: {e}") from None
    if dataclasses.is_dataclass(wanted):
        try:
            return wanted(**given)
        except TypeError as e:
            raise Mistake(f"{path}: the arguments do not fit: {e}") from None
    return given


__all__ = ["Mistake", "application", "is_python", "load", "main"]
