"""The command line of `helve run` for Python programs, and its environment variables: a flag beats its variable, which beats a file.

Every flag has the variable HELVE_ and its name in capitals: --http-memory is HELVE_HTTP_MEMORY. The flags of the node are passed on to the
binary, which reads their variables itself. The texts of `helve run --help` are the binary's (cli/programs.go); a test compares the names.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

# Flags of Python programs: whether a value follows. --node has one only behind an equals sign.
OWN = {
    "ray-compat": False, "name": True, "route-prefix": True, "http": True, "host": True, "port": True, "app-dir": True, "reload": False,
    "reload-dir": True, "dry-run": False, "blocking": False, "node": False,
}
# Flags that a node has, too. --access-log has a value only behind an equals sign.
NODE = {
    "http-connections": True, "http-streams": True, "http-memory": True, "http-max-body": True, "http-max-header": True, "http-header-timeout": True,
    "http-body-timeout": True, "http-stall-timeout": True, "http-idle-timeout": True, "request-timeout": True, "drain-delay": True,
    "http-root-path": True, "trust-forwarded": True, "tls-certificate": True, "tls-key": True, "tls-key-password-file": True, "tls-client-ca": True,
    "max-body": True, "arena-size": True, "log-memory": True, "log-memory-deployment": True, "admin": True, "access-log": False, "log-format": True, "otlp-endpoint": True,
    "trace-ratio": True, "verbose": False, "num-cpus": True, "memory": True, "resources": True, "labels": True,
}
GO = {"isolation": True, "state-dir": True, "worker-grace": True}  # flags of applications in Go
ALIASES = {"working-dir": "app-dir", "check": "dry-run"}
SHORT = {"r": "reload", "d": "app-dir", "v": "verbose", "h": "help"}
WITHOUT_VARIABLE = ("host", "port", "node")  # parts of --http: Kubernetes sets HELVE_PORT for a service that is called helve; HELVE_NODE is for all programs
# Variables that are no flags. Those of workers and of tests are not for people to set.
OTHER = (
    "HELVE_NODE", "HELVE_PYTHON", "HELVE_BINARY", "HELVE_RUNTIME_DIR", "HELVE_CACHE", "HELVE_GPUS", "HELVE_TRACEBACKS", "HELVE_RAY_COMPAT", "HELVE_ADDRESS",
    "HELVE_OUTPUT",
)
MODULE_AND_ATTRIBUTE = re.compile(r"(?!exec:|unix:)[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


class Mistake(Exception):
    """A command that cannot be done, with a text for the user."""

    def __init__(self, text: str, code: int = 2):
        super().__init__(text)
        self.code = code


def variable(flag: str) -> str:
    return "HELVE_" + flag.upper().replace("-", "_")


def is_script(text: str) -> bool:
    return text.endswith(".py")


def is_file(text: str) -> bool:
    """Whether an argument of `run` is a file of applications."""
    return text.endswith((".yaml", ".yml"))


def is_python(text: str) -> bool:
    """Whether an argument of `run` names a Python program: a script, module:application, or a file of applications."""
    return is_script(text) or is_file(text) or MODULE_AND_ATTRIBUTE.fullmatch(text) is not None


def takes_value(flag: str) -> bool:
    """Whether the next argument is the value of --flag, or of -f."""
    name = flag.lstrip("-")
    if not flag.startswith("--"):
        name = SHORT.get(name, name)
    name = ALIASES.get(name, name)
    return {**OWN, **NODE, **GO}.get(name, False)


@dataclass
class Target:
    """One application of the command line: MODULE:ATTRIBUTE, with its arguments and flags."""

    path: str
    arguments: List[str] = field(default_factory=list)
    name: Optional[str] = None
    route_prefix: Optional[str] = None


@dataclass
class Command:
    """`helve run` with its arguments and variables."""

    targets: List[Target] = field(default_factory=list)
    script: str = ""
    arguments: List[str] = field(default_factory=list)  # of the script
    file: str = ""
    flags: Dict[str, Any] = field(default_factory=dict)  # by name: a text, True or a list of texts
    origin: Dict[str, str] = field(default_factory=dict)  # "--http" or "HELVE_HTTP", by the name of the flag

    def __getitem__(self, flag: str) -> Any:
        return self.flags.get(flag)

    def node(self) -> List[str]:
        """The flags for the node, of those that the command line has: the node reads the variables itself."""
        out = []
        for name, value in self.flags.items():
            if name in NODE and self.origin[name].startswith("--"):
                out.append(f"--{name}" if value is True else f"--{name}={value}")
        out += [f"--{name}=false" for name in self.origin if name in NODE and name not in self.flags]  # --verbose=false is over HELVE_VERBOSE=1
        return out


def parse(args: List[str], environment: Mapping[str, str]) -> Command:
    """The command of the arguments behind `run`. A script ends the flags: the rest is its own. --name and --route-prefix belong to the
    application before them, and in front of all to the first.
    """
    command, first = Command(), Target("")
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if arg.startswith("-") and arg != "-":
            _flag(command, command.targets[-1] if command.targets else first, arg, rest)
        elif is_script(arg) and not command.targets and not command.file and "=" not in arg:
            command.script, command.arguments = arg, rest
            break
        elif MODULE_AND_ATTRIBUTE.fullmatch(arg):
            command.targets.append(Target(arg) if command.targets else Target(arg, [], first.name, first.route_prefix))
        elif is_file(arg) and not command.targets:
            if command.file:
                raise Mistake(f"{arg}: run takes one file of applications, and {command.file} is one already")
            command.file = arg
        elif command.targets:
            command.targets[-1].arguments.append(arg)
        else:
            raise Mistake(f"{arg}: must be a script (SCRIPT.py), MODULE:APPLICATION, for example app:entrypoint, or a file of applications (FILE.yaml)")
    if command.file and command.targets:
        raise Mistake(f"{command.file} and {command.targets[0].path}: run takes a file of applications, or applications, and not both")
    if not (command.script or command.file or command.targets):
        raise Mistake("run what? a script (SCRIPT.py), MODULE:APPLICATION, for example app:entrypoint, or a file of applications (FILE.yaml)")
    if (command.script or command.file) and (first.name is not None or first.route_prefix is not None):
        where = "a script gives them to serve.run" if command.script else "a file has name and route_prefix"
        raise Mistake(f"--name and --route-prefix are for MODULE:APPLICATION; {where}")
    _variables(command, environment)
    return command


def _flag(command: Command, target: Target, arg: str, rest: List[str]) -> None:
    given, equals, value = arg.partition("=")
    if given.startswith("--"):
        name = ALIASES.get(given[2:], given[2:])
    else:
        name = SHORT.get(given[1:], "")
        if len(given) > 2 and not equals and given[1] == "d":  # -dDIR
            name, equals, value = "app-dir", "=", given[2:]
    if name in GO:
        raise Mistake(f"{given} is for applications in Go; a Python program's replicas are processes that end with it")
    known = {**OWN, **NODE}
    if name not in known:
        from helve._refused import close_names

        raise Mistake(f"there is no flag {given}{close_names(given, [f'--{n}' for n in known])}\nnext: helve run --help")
    if known[name]:
        if not equals:
            if not rest:
                raise Mistake(f"{given} needs a value\nnext: helve run --help")
            value = rest.pop(0)
    elif name == "access-log":
        value = value or "text"
    elif name == "node":
        value = value or "auto"
    elif equals:
        value = boolean(given, value)
    else:
        value = True  # type: ignore[assignment]
    if name in ("name", "route-prefix"):
        setattr(target, name.replace("-", "_"), value)
    elif name in ("reload-dir", "trust-forwarded"):
        values = command.flags.setdefault(name, []) if name == "reload-dir" else None
        if values is None:
            before = command.flags.get(name)
            command.flags[name] = f"{before},{value}" if before else value
        else:
            values.append(value)
    elif value is False:
        command.flags.pop(name, None)
        command.origin[name] = f"--{name}"
        return
    else:
        command.flags[name] = value
    command.origin[name] = f"--{name}"


def boolean(given: str, value: str) -> bool:
    if value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise Mistake(f"{given}: must be 1 or 0, true or false, is {value!r}")


def _variables(command: Command, environment: Mapping[str, str]) -> None:
    """Takes the flags that are not on the command line from their variables."""
    for name, value_follows in OWN.items():
        given = variable(name)
        value = environment.get(given, "")
        if not value or name in command.origin or name in WITHOUT_VARIABLE:
            continue
        if name in ("name", "route-prefix"):
            if len(command.targets) == 1:
                t = command.targets[0]
                attribute = name.replace("-", "_")
                if getattr(t, attribute) is None:
                    setattr(t, attribute, value)
            continue
        if value_follows:
            command.flags[name] = value.split(os.pathsep) if name == "reload-dir" else value
        elif not boolean(given, value):
            continue
        else:
            command.flags[name] = True
        command.origin[name] = given


def strange(environment: Mapping[str, str]) -> List[str]:
    """A line for each variable whose name is nearly that of one that there is. Other unknown names are left alone: for example, Kubernetes sets
    HELVE_SERVICE_HOST and HELVE_PORT for a service that is called helve.
    """
    known = {variable(name) for name in {**OWN, **NODE, **GO} if name not in WITHOUT_VARIABLE} | set(OTHER)
    lines = []
    for name in sorted(environment):
        if name.startswith("HELVE_") and name not in known and len(name) > len("HELVE_") + 2:
            import difflib  # when there is such a variable

            close = difflib.get_close_matches(name[6:], [k[6:] for k in known], 1, 0.75)
            if close:
                lines.append(f"{name}: there is no such variable; did you mean HELVE_{close[0]}?")
    return lines


def is_port(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None and int(text) <= 65535


def address(origin: str, text: str) -> tuple:
    """The host and the port of --http; ("", None) for no HTTP."""
    if text in ("", "none"):
        return "", None
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if not is_port(port) or text.startswith("unix:"):
        raise Mistake(f"{origin}{' ' if origin.startswith('--') else '='}{text}: must be HOST:PORT, for example 127.0.0.1:8000")
    return host, int(port)


__all__ = [
    "Command", "Mistake", "Target", "address", "boolean", "is_file", "is_port", "is_python", "is_script", "parse", "strange", "takes_value", "variable",
]
