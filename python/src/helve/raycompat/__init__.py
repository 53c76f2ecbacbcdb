"""The module ``ray`` for programs that are written for Ray Serve: after ``install()`` their ``import ray`` and ``from ray import serve`` find Helve.

``helve run --ray-compat`` installs it before a program begins. A test-suite calls ``helve.raycompat.install()`` in its conftest.py, or sets
HELVE_RAY_COMPAT=1 and runs ``helve ray-compat pytest ...``. The modules of a Ray that is installed too are not touched until then.
"""

from __future__ import annotations

import os
import sys

ENV = "HELVE_RAY_COMPAT"  # in the environment of the program and of its workers
PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "path")  # on PYTHONPATH of the processes that the program starts


def install() -> None:
    """Makes ``ray`` Helve's, in this process and in the workers that it starts. A second call does nothing."""
    from helve.raycompat.finder import Finder

    if installed():
        return
    theirs = [name for name in sys.modules if name == "ray" or name.startswith("ray.")]
    if theirs:
        raise ImportError(
            "helve.raycompat.install() comes too late: this process has imported ray already; call it first, or start the program with `helve run --ray-compat`"
        )
    from helve import _encoding, _errors

    sys.meta_path.insert(0, Finder())
    _encoding.user_error = _task_error
    _errors.use("replica_died", _replica_died)
    os.environ[ENV] = "1"
    if PATH not in sys.path:
        sys.path.insert(1, PATH)  # multiprocessing gives its processes this path, and not PYTHONPATH
    path = os.environ.get("PYTHONPATH", "")
    if PATH not in path.split(os.pathsep):
        os.environ["PYTHONPATH"] = PATH + (os.pathsep + path if path else "")


def _task_error(where: str, traceback: str, error: Exception) -> Exception:
    """The exception of a user's method as its caller gets it: of its own type, and a RayTaskError."""
    from helve.raycompat.exceptions import RayError, task_error

    return error if isinstance(error, RayError) else task_error(where, traceback, error)


def _replica_died(text: str) -> Exception:
    """The exception of a call whose replica died: a RayActorError, because Ray's replicas are actors."""
    from helve.raycompat.exceptions import ReplicaDiedError

    return ReplicaDiedError(text)


def installed() -> bool:
    """Whether ``import ray`` finds Helve in this process."""
    finder = sys.modules.get("helve.raycompat.finder")
    return finder is not None and any(type(f) is finder.Finder for f in sys.meta_path)


def wanted() -> bool:
    """Whether the environment asks for it."""
    return os.environ.get(ENV, "") not in ("", "0")


__all__ = ["ENV", "install", "installed", "wanted"]
