"""The builder: a process that a node starts to get applications of Python modules. It imports the modules, calls the functions that make applications, and writes
the graphs for the node.

The request is on the standard input, as JSON. The answers are lines of JSON on the descriptor ANSWERS, one for each application, in the order of the request. What the
user's code prints goes to the log of the node. For example, a request with the applications shop:app and chat:build has two answers; if the process
dies in chat:build, there is one, and the node knows which application has failed.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
from typing import List

ANSWERS = 3  # the descriptor of the answers


class _Answer:
    """The answers to a request."""

    def __init__(self, fd: int):
        os.set_inheritable(fd, False)  # processes that the user's code starts do not hold it open
        self.file = os.fdopen(fd, "wb")

    def write(self, answer: dict) -> None:
        self.file.write(json.dumps(answer).encode() + b"\n")
        self.file.flush()


class _Warnings(logging.Handler):
    """Collects the warnings of the package about an application."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> None:
    """Answers the request on the standard input, and ends the process at once: threads that the user's modules have started do not hold it up."""
    code = 1
    try:
        answers = _Answer(ANSWERS)
        request = json.load(sys.stdin)
        _prepare(request)
        for app in request["apps"]:
            answers.write({"name": app["name"], **_build(app, request)})
        code = 0
    except BaseException:  # of this module: the user's code has errors of its own
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        os._exit(code)


def _prepare(request: dict) -> None:
    """Arranges sys.path as in the workers of the application, and the module ray if programs for Ray are wanted."""
    from helve import _bytecode, _runtime

    _runtime.building = True
    _bytecode.from_source()
    path = request["path"]
    order = [*(path.get("first") or ()), *sys.path]
    library = [p for p in order if p.startswith(os.path.dirname(os.__file__)) and not p.endswith("-packages")]
    if path.get("site"):
        order = [*(p for p in order if not p.endswith("-packages")), *path["site"], *order]
    if path.get("own"):
        order = [*library, *path["own"], *order]
    sys.path[:] = dict.fromkeys(order)
    if request.get("ray"):
        from helve import raycompat

        raycompat.install()


def _build(app: dict, request: dict) -> dict:
    """The answer for one application."""
    from helve._errors import RayServeException
    from helve._flags import Mistake
    from helve.serve import _checks

    warnings = _Warnings()
    logger = logging.getLogger("helve.serve")
    _checks.say.cache_clear()  # a warning is of each application
    logger.addHandler(warnings)
    try:
        return {**_graph(app, request), "warnings": warnings.lines}
    except _ForRayError:
        return {"again": True}
    except Mistake as e:
        return {"error": str(e), "argument": getattr(e, "argument", "")}
    except (RuntimeError, TypeError, ValueError, NotImplementedError, RayServeException) as e:
        return {"error": f"{app['import_path']}: {e}"}
    except Exception as e:  # of the user's code behind an attribute, for example
        from helve import _run

        return {"error": f"{app['import_path']}: it failed\n\n{_run._trace(e)}"}
    finally:
        logger.removeHandler(warnings)


class _ForRayError(Exception):
    """The program is one for Ray Serve, and wants the module ray of Helve."""


def _graph(app: dict, request: dict) -> dict:
    from helve import _code, _run, _secret
    from helve._flags import Mistake
    from helve._hooks import hook
    from helve.serve.deployment import Graph, http_mistake

    def mistake(argument: str, text: str) -> Mistake:
        e = Mistake(f"{app['import_path']}: {text}")
        e.argument = argument  # type: ignore[attr-defined]
        return e

    secrets = app.get("secrets") or {}
    _secret.use(secrets)
    arguments = _secret.opened(app.get("args") or {}, secrets)
    planned = _run.Planned(app["import_path"], app["name"], app["route_prefix"], arguments, mistake)
    try:
        loaded = _run.load(planned, request["dir"], "runtime_env.working_dir, or the directory of the deploy, must be that of the module")
        made = _run.application(planned, loaded)
    except _run.OtherRayError as e:
        if not request.get("ray"):
            raise _ForRayError from None
        raise
    except Mistake as e:
        cause = e.__context__
        if not request.get("ray") and isinstance(cause, ModuleNotFoundError) and (cause.name or "").partition(".")[0] == "ray":
            raise _ForRayError from None
        raise
    graph = Graph(made, app["name"])
    if any("go" in d for d in graph.deployments):
        from helve.serve import _go

        _go.compile_all([graph])
    from helve._pickling import dumps

    target = graph.targets.get(graph.ingress)
    warning = http_mistake(graph.ingress, target) if target is not None and app["route_prefix"] is not None else ""
    if warning:
        logging.getLogger("helve.serve").warning("%s; write route_prefix: null if no requests are meant to come", warning)
    site = [*(request["path"].get("own") or ()), *(request["path"].get("site") or ())]
    own = [p for p in _code.own_entries() if p not in site]
    return {
        "app": {
            "name": app["name"], "route_prefix": app["route_prefix"], "ingress": graph.ingress, "docs_path": graph.docs_path(), "cwd": request["dir"],
            "blob": base64.b64encode(dumps(graph.code)).decode(), "deployments": _secret.sealed(graph.deployments), "own": own,
            "env": {"HELVE_RAY_COMPAT": "1"} if request.get("ray") else {},
        },
        "imported": [p for p in own if _code.imported_from(p)],
        "reconfigures": [name for name, target in graph.targets.items() if hook(target, "reconfigure") is not None],
    }


__all__ = ["main"]
