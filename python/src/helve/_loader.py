"""The process that loads applications for `helve run --reload`: it imports the program anew, hands the applications to the node of the process
that watches the files (_reload.py), and tells that one by a pipe, in lines of JSON: {"application", "url"} for each, {"done": true} when the
command's own applications are there, and {"files"}, the files of the program's modules.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from typing import Any, Dict, Optional

STOP = 10.0  # seconds that a script may take to end after a SIGTERM before it is killed
ENV = "HELVE_LOADER"  # "descriptor:directory of the node", for this process alone
_pipe: Optional[int] = None
_before: Dict[str, str] = {}
_lock = threading.Lock()


def begin() -> bool:
    """Whether this process is a loader. It takes the variable away, so that the programs it starts are none."""
    global _pipe
    value = os.environ.pop(ENV, "")
    if not value:
        return False
    from helve import _driver, _fork

    fd, _, node = value.partition(":")
    _pipe = int(fd)
    os.set_inheritable(_pipe, False)
    _fork.hold(_pipe)
    _driver.served = node
    _before.update(os.environ)
    threading.Thread(target=_end_with_watcher, args=(_pipe,), name="helve-loader", daemon=True).start()
    return True


def _end_with_watcher(pipe: int) -> None:
    """Ends this process when the watcher has ended, which closes the other end of the pipe. For example, a script that goes on for ever must not
    outlive a watcher that is killed.
    """
    poll = select.poll()
    poll.register(pipe, 0)  # the end of the reader is an error, which needs no event
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP)
    os.kill(os.getpid(), signal.SIGKILL)


def active() -> bool:
    return _pipe is not None


def tell(**report: Any) -> None:
    if _pipe is None:
        return
    with _lock:
        try:
            os.write(_pipe, json.dumps(report).encode() + b"\n")
        except OSError:  # the watcher has ended, and this process will
            pass


def prepared(graph: Any, env: dict) -> dict:
    """The environment for the workers of an application: with the variables that the program has set, which workers of a node that is the
    program's own child inherit. A deployment without max_constructor_retry_count makes one attempt to start: the next save is the next one.
    """
    for d in graph.deployments:
        d["options"].setdefault("max_constructor_retry_count", 1)
    own = {k: v for k, v in os.environ.items() if _before.get(k) != v and not k.startswith("HELVE_")}
    return {**own, **env}


def deployed(name: str, url: str) -> None:
    """An application is there; of a script, which goes on, it is time to look which files it has loaded."""
    files()
    tell(application=name, url=url)


def files() -> None:
    """Reports the files of the program's own modules: not those of the interpreter, of installed packages and of Helve."""
    from helve import _code, _guard

    own = tuple(os.path.join(p, "") for p in _code._own_path())
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(own) and not _guard.own_file(file):
            found.add(file)
    tell(files=sorted(found))


__all__ = ["ENV", "STOP", "active", "begin", "deployed", "files", "prepared", "tell"]
