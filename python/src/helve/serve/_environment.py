"""The runtime_env of deployments and of the whole program: its checks, which Ray has too, and its form for the node."""

from __future__ import annotations

import os
import re
from typing import Any, List, Optional, Tuple

from helve import _limits, _refused

KEYS = ("env_vars", "working_dir", "py_modules", "pip", "uv", "excludes", "config")
_ELSEWHERE = {  # keys of Ray's runtime_env that nodes do not have, with their alternatives
    "conda": "use pip, or start the program with the interpreter of the conda environment",
    "container": "start the program inside of the container",
    "image_uri": "start the program inside of the container",
    "java_jars": "nodes run no Java",
    "py_executable": "start the program with that interpreter: workers have the driver's",
    "worker_process_setup_hook": "do it in the deployment's constructor",
    "nsight": "start the program under the profiler",
    "_nsight": "start the program under the profiler",
    "rocprof_sys": "start the program under the profiler",
    "mpi": "nodes start no MPI programs",
}
_PIP = ("packages", "pip_check", "pip_install_options", "pip_version")
_UV = ("packages", "uv_check", "uv_pip_install_options", "uv_version")
_BESIDE_FILE = ("-r", "--requirement", "-c", "--constraint")  # options of a requirements file with a path that is relative to the file
_PATHS = (*_BESIDE_FILE, "-f", "--find-links", "-e", "--editable")


def environment(at: str, value: Any) -> dict:
    """A runtime_env in the form of the node's option: relative paths are absolute, a requirements file is its lines, and uv is pip. The
    files and directories are looked for at the deploy.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{at}: must be a dict, is {_limits.shown(value)}")
    given = {str(key): v for key, v in dict.items(value) if v is not None and str(key) != "_ray_commit"}
    for key in given:
        if key in _ELSEWHERE:
            raise NotImplementedError(f"{at}[{key!r}] is not there: {_ELSEWHERE[key]}")
        if key not in KEYS:
            near = _refused.close_name(key, KEYS)
            raise ValueError(f"{at}: unknown key {_limits.shown(key)}{f'; did you mean {near!r}' if near else ''}; there are {', '.join(KEYS)}")
    if "pip" in given and "uv" in given:
        raise ValueError(f"{at}: the 'pip' field and the 'uv' field of runtime_env cannot be specified at the same time; leave one out")
    out: dict = {}
    for key, v in given.items():
        if key in _CHECKS:
            made = _CHECKS[key](f"{at}[{key!r}]", v)
            if made is not None:
                out["pip" if key == "uv" else key] = made
    return out


def merge(*layers: Optional[dict]) -> dict:
    """Environments in the form of the node, the strongest last. env_vars are merged by their names; another key is replaced as a whole. For
    example, {"env_vars": {"A": "1"}, "pip": {...}} under {"env_vars": {"B": "2"}} has both variables, and the packages.
    """
    out: dict = {}
    for layer in layers:
        for key, v in (layer or {}).items():
            out[key] = {**out.get(key, {}), **v} if key == "env_vars" else v
    return out


def missing(environment: dict) -> List[Tuple[str, str]]:
    """The keys and paths of an environment, in the form of the node, that are not there on this machine."""
    places = [("working_dir", environment.get("working_dir")), *(("py_modules", p) for p in environment.get("py_modules") or ())]
    return [(key, path) for key, path in places if path and not os.path.exists(path)]


# ---- keys


def _variables(at: str, value: Any) -> dict:
    if not isinstance(value, dict):
        raise TypeError(f"{at} must be of type Dict[str, str], got {type(value)}")
    for name, v in dict.items(value):
        if not isinstance(name, str) or not isinstance(v, str):
            raise TypeError(f"{at} must be of type Dict[str, str], but {_limits.shown(name)} has the value {_limits.shown(v)} of type {type(v)}")
    return _limits.variables(at, value)


def _place(at: str, value: Any) -> str:
    """The path of a directory, file or archive on this machine."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"{at} must be a string, got {type(value)}: give the path of a directory or archive")
    value = _limits.text(at, value)
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.\-]*)://", value)
    if scheme and scheme[1].lower() == "file":
        value = value[len("file://"):]
    elif scheme:
        raise NotImplementedError(f"{at}: nodes fetch nothing from {scheme[1]}://, as in {_limits.shown(value)}; copy it to this machine and give the path")
    if not value:
        raise ValueError(f"{at} is not a valid path: it is empty")
    return os.path.abspath(os.path.expanduser(value))


def _modules(at: str, value: Any) -> list:
    """py_modules: paths, or modules that the program has imported."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{at} must be a list of strings, got {type(value)}")
    paths = []
    for v in value:
        if isinstance(getattr(v, "__file__", None), str):
            v = v.__file__
            v = os.path.dirname(v) if os.path.basename(v) == "__init__.py" else v
        elif hasattr(v, "__path__"):  # a package without __init__.py
            v = list(v.__path__)[0]
        paths.append(_place(at, v))
    return paths


def _texts(at: str, value: Any) -> list:
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise TypeError(f"{at} must be of type List[str], got {_limits.shown(value)}")
    return _limits.texts(at, value)


def _config(at: str, value: Any) -> None:
    """Ray's settings for the making of environments have no effect."""
    if not isinstance(value, dict):
        raise TypeError(f"{at} must be a dict, got {type(value)}")


def _packages(at: str, value: Any) -> list:
    """The lines of a requirements file, which may be given by its path."""
    base = beside = os.getcwd()
    if isinstance(value, (str, os.PathLike)):
        path = os.path.abspath(os.path.expanduser(_limits.text(at, os.fspath(value))))
        try:
            with open(path, encoding="utf-8") as file:
                value = file.read().replace("\\\n", " ").splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise ValueError(f"{at}: {_limits.shown(path)} is not a valid file: {e}") from None
        beside = os.path.dirname(path)
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise TypeError(f"{at} must be of type str or List[str], got {_limits.shown(value)} of {type(value)}")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in _limits.texts(at, value))
    return [_absolute(line, base, beside) for line in lines if line]


def _absolute(line: str, base: str, beside: str) -> str:
    """A line of a requirements file that does not depend on the directory of pip."""
    option, _, path = line.replace("=", " ", 1).partition(" ") if line.startswith("--") else line.partition(" ")
    path = path.strip()
    if option in _PATHS and path:
        path = os.path.join(beside if option in _BESIDE_FILE else base, os.path.expanduser(path))
        return f"{option} {path}" if os.path.exists(path) else line
    if line.startswith(("./", "../", "~/")):
        return os.path.abspath(os.path.join(base, os.path.expanduser(line)))
    return line


def _installer(at: str, value: Any, keys: tuple) -> dict:
    if not isinstance(value, dict):
        return {"packages": _packages(at, value)}
    fields = {str(key): v for key, v in dict.items(value) if v is not None}
    unknown = [key for key in fields if key not in keys]
    if unknown:
        raise ValueError(f"{at} can only have these fields: {', '.join(keys[:-1])} and {keys[-1]}, but got: {unknown}")
    if "packages" not in fields:
        raise ValueError(f"{at}: packages is missing")
    packages, check, options, version = keys
    out: dict = {"packages": _packages(f"{at}[{packages!r}]", fields[packages])}
    if check in fields:
        out["pip_check"] = _limits.boolean(f"{at}[{check!r}]", fields[check])
    if options in fields:
        out["pip_install_options"] = _texts(f"{at}[{options!r}]", fields[options])
    if version in fields and version == "pip_version":
        out["pip_version"] = _limits.text(f"{at}[{version!r}]", fields[version])
    return out


_CHECKS = {
    "env_vars": _variables,
    "working_dir": _place,
    "py_modules": _modules,
    "pip": lambda at, value: _installer(at, value, _PIP),
    "uv": lambda at, value: _installer(at, value, _UV),
    "excludes": _texts,
    "config": _config,
}

# ---- the whole program

_program: dict = {}  # the runtime_env of each application that the program runs, in the form of the node


def use(value: Optional[dict]) -> None:
    """Sets the runtime_env of every application that this program runs from now on; None for no other than the deployments' own."""
    made = environment("runtime_env", value) if value is not None else {}
    _program.clear()
    _program.update(made)


def program() -> dict:
    return dict(_program)


__all__ = ["KEYS", "environment", "merge", "missing", "program", "use"]
