"""serve.go_deployment: deployments that are written in Go, in the graph of a Python program."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Union

from helve import _limits
from helve._encoding import MSGPACK, encode
from helve.serve import _checks
from helve.serve.deployment import Application

OPTIONS = (
    "num_replicas", "max_ongoing_requests", "max_queued_requests", "user_config", "graceful_shutdown_timeout_s", "health_check_period_s",
    "health_check_timeout_s", "construct_timeout_s", "max_constructor_retry_count", "max_replicas_per_node", "backpressure_config", "request_router",
    "request_routing_stats_period_s", "request_routing_stats_timeout_s", "runtime_env", "limits", "unresponsive_after_s", "max_unresponsive_s", "version",
)
LINES = 20  # of the output of `go build` in an error
SLOW = 2.0  # seconds of `go build` after which a line says what the program waits for


class GoDeployment:
    """A deployment of a Go build with options. It is bound, and then run, as a Deployment is. serve.go_deployment makes it."""

    __hash__ = None  # type: ignore[assignment]  # two deployments may be equal

    def __init__(self, class_name: str, build: str, app: str, name: str, options: dict):
        self._class, self._build, self._app, self._name, self._options = class_name, build, app, name, options

    @property
    def name(self) -> str:
        """The name of the deployment in the application."""
        return self._name

    @property
    def build(self) -> str:
        """The absolute path of the package directory or executable."""
        return self._build

    def bind(self, *args: Any, **kwargs: Any) -> "Application[Any]":
        """The deployment with the arguments of its constructor. Arguments that are applications are handles, which the constructor reads with
        helve.Bound; the other arguments are values, which it reads with helve.BoundArgs.
        """
        return Application(self, args, kwargs)  # type: ignore[arg-type]

    def options(
        self, *,
        name: Optional[str] = None,
        version: Optional[str] = None,
        num_replicas: Optional[int] = None,
        max_ongoing_requests: Optional[int] = None,
        max_queued_requests: Optional[int] = None,
        user_config: Any = None,
        backpressure_config: Optional[Dict[str, Any]] = None,
        graceful_shutdown_timeout_s: Optional[float] = None,
        health_check_period_s: Optional[float] = None,
        health_check_timeout_s: Optional[float] = None,
        construct_timeout_s: Optional[float] = None,
        max_constructor_retry_count: Optional[int] = None,
        max_replicas_per_node: Optional[int] = None,
        request_router: Optional[Dict[str, Any]] = None,
        request_routing_stats_period_s: Optional[float] = None,
        request_routing_stats_timeout_s: Optional[float] = None,
        runtime_env: Optional[Dict[str, Any]] = None,
        limits: Optional[Dict[str, Any]] = None,
        unresponsive_after_s: Optional[float] = None,
        max_unresponsive_s: Optional[float] = None,
        **unknown: Any,
    ) -> "GoDeployment":
        """A copy with these options changed. They go over the options in the Go program. serve.deployment describes each.
        Deployments of one build share a process: its runtime_env has the variables (`env_vars`) and the directory (`working_dir`) of all of them,
        and its limits are the sums.
        """
        given = {key: value for key, value in locals().items() if key in ("name", *OPTIONS) and value is not None}
        if unknown:
            raise _unknown(next(iter(unknown)))
        own = _deployment_name(given.pop("name", self._name))
        at = f"deployment {own!r}: "
        environment = given.get("runtime_env")
        if isinstance(environment, dict):
            for key in environment:
                if key not in ("env_vars", "working_dir"):
                    raise ValueError(f"{at}runtime_env: {_limits.shown(key)} is for Python deployments; a Go deployment has env_vars and working_dir")
        return GoDeployment(self._class, self._build, self._app, own, _checks.read(given, self._options, at))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"deployment {self._name} cannot be constructed directly; use {self._name}.bind(...) and serve.run")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GoDeployment):
            return NotImplemented
        return vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"GoDeployment(name={self._name}, build={self._build})"


def _unknown(name: str) -> TypeError:
    if name in _checks.RAY:
        return TypeError(f"options() of a Go deployment has no {name!r}, which is for Python deployments; there are name, {', '.join(OPTIONS)}")
    from helve._refused import close_name

    near = close_name(name, ("name", *OPTIONS))
    return TypeError(f"options() got an unexpected keyword argument {name!r}" + (f". Did you mean {near!r}?" if near else f"; there are name, {', '.join(OPTIONS)}"))


def _deployment_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name: must be a str, is {_limits.shown(name)}")
    return _limits.name("name", name)


def go_deployment(name: str, *, build: Union[str, "os.PathLike[str]"], app: str = "") -> GoDeployment:
    """A deployment that is written in Go, to be bound into the application of a Python program:

        ranker = serve.go_deployment("Ranker", build="./ranker", app="rank")
        handle = serve.run(ranker.bind(embedder=Embedder.bind()))

    Deployments that it uses in its own program come along, under their names there. A later serve.run compiles again, and replaces the replicas if
    the executable has other bytes. serve.run compiles and looks for the build, and not this function.

    Args:
        name: Name of the deployment in its Go program: the second argument of helve.Deploy there. It is its name in this application too, unless
            `options(name=...)` says another.
        build: Directory of the Go package with the program's main function, or an executable that `go build` has made of it. A directory is
            compiled by serve.run, which needs the go command. A relative path begins at the directory of the file that calls go_deployment.
        app: Name of the application in the Go program: the argument of helve.NewApp. It may be left out if the program has one application.

    Returns:
        The deployment, to be bound as a Python one.
    """
    name = _deployment_name(name)
    if not isinstance(build, (str, os.PathLike)) or not os.fspath(build):
        raise TypeError(f"deployment {name!r}: build: must be the path of a Go package's directory or of an executable, is {_limits.shown(build)}")
    if not isinstance(app, str):
        raise TypeError(f"deployment {name!r}: app: must be a str, is {_limits.shown(app)}")
    base = sys._getframe(1).f_globals.get("__file__")
    base = os.path.dirname(os.path.abspath(base)) if isinstance(base, str) else os.getcwd()
    return GoDeployment(name, os.path.normpath(os.path.join(base, os.path.expanduser(os.fspath(build)))), app, name, {})


def entry(name: str, d: GoDeployment, args: tuple, kwargs: dict, add: Callable[[Application], tuple], app_name: str) -> dict:
    """The deployment as it is sent to the node, but for the build, which compile_all compiles. add takes an application into the graph, and gives the
    name and the language of its deployment.
    """
    uses: set = set()

    def handle(value: Any) -> Any:
        if not isinstance(value, Application):
            return value
        used, language = add(value)
        uses.add(used)
        from helve.serve.handle import DeploymentHandle

        return DeploymentHandle(used, app_name, language=language)

    positional = [handle(v) for v in args]
    named = {key: handle(v) for key, v in kwargs.items()}
    try:
        encoded = encode(MSGPACK, [positional, named])[1]
    except Exception as e:
        raise _explained(name, positional, named, e) from None
    return {
        "name": name, "class": f"{d._app or os.path.basename(d._build)}.{d._class}", "options": _checks.for_node(name, d._options), "uses": sorted(uses - {name}),
        "go": {"build": d._build, "app": d._app, "class": d._class, "args": base64.b64encode(encoded).decode()},
    }


def _explained(name: str, positional: list, named: dict, error: Exception) -> TypeError:
    """The error of arguments that cannot be sent to Go. It names the argument."""
    for at, value in [*((f"argument {i}", v) for i, v in enumerate(positional)), *named.items()]:
        try:
            encode(MSGPACK, value)
        except Exception as e:
            if "Application" in str(e):
                e = TypeError("an application inside of a list, dict or object is no handle for Go; bind it as an argument of its own")
            return TypeError(f"deployment {name!r}: bind(): {at} cannot be sent to Go: {e}")
    return TypeError(f"deployment {name!r}: bind(): the arguments cannot be sent to Go: {error}")


# ---- go build


def compile_all(graphs: Iterable[Any]) -> None:
    """Compiles the builds of applications that are run together, each directory once: two deployments of one directory have one executable, also if
    its source changes meanwhile. A graph that is only looked at, as by `helve run --dry-run`, is not compiled.
    """
    executables: Dict[str, str] = {}
    for graph in graphs:
        for d in graph.deployments:
            if "go" in d:
                build = d["go"]["build"]
                if build not in executables:
                    executables[build] = compiled(d["name"], build)
                d["go"]["build"] = executables[build]


def compiled(name: str, build: str) -> str:
    """The executable of a build. A directory is compiled; its executable lies in the user's cache, so that `go build` links it again only if something
    has changed.
    """
    path = Path(build)
    at = f"deployment {name!r}: "
    if not path.exists():
        raise FileNotFoundError(f"{at}there is no {build}: build is the directory of a Go package, or an executable; a relative path begins at the directory of the file that calls go_deployment")
    if not path.is_dir():
        return build
    if not any(path.glob("*.go")):
        raise ValueError(f"{at}{build} has no Go files: build is the directory of a Go program's main package, or an executable")
    place = _cache() / hashlib.sha256(os.path.realpath(build).encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    out = place / (path.name or "program")
    command = ["go", "build", "-buildvcs=false", "-o", str(out), "."]
    import fcntl

    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two programs may compile one directory
        slow = threading.Timer(SLOW, lambda: print(f"Compiling {build} with go build ...", file=sys.stderr, flush=True))
        slow.daemon = True
        slow.start()
        try:
            done = subprocess.run(command, cwd=build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace")
        except FileNotFoundError:
            raise RuntimeError(
                f"{at}{build} is a directory of Go source, and there is no go command on PATH to compile it: install Go (https://go.dev/dl), or give an "
                "executable that `go build` has made of it"
            ) from None
        finally:
            slow.cancel()
    if done.returncode:
        raise RuntimeError(f"{at}`{' '.join(command)}` in {build} failed:\n{_last(done.stdout)}")
    return str(out)


def _last(output: str) -> str:
    lines: List[str] = output.strip().splitlines()
    return "\n".join(["...", *lines[-LINES:]] if len(lines) > LINES else lines)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "helve" / "go"


def is_go(deployment: Any) -> bool:
    return isinstance(deployment, GoDeployment)


__all__ = ["GoDeployment", "go_deployment"]
