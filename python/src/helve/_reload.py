"""`helve run --reload`. This process has the node and watches the files; it imports nothing of the program. A second process, the loader, imports
the program and hands its applications to the node (_loader.py). When a file changes, a new loader does that again: replicas whose code is the
same go on, and so do those of a program that cannot be loaded or started.

For example, app.py imports models.py. A save of models.py replaces the replicas of its classes, one by one, while requests go on; a save with a
mistake shows the mistake, and changes nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from typing import Any, Dict, List, Optional

from helve import _driver, _loader, _run, _until, _watch
from helve._errors import RayServeException
from helve._flags import Command, Mistake
from helve._names import HIDDEN
from helve.serve._http_options import HTTPSettings

MAIN = "import sys\nif sys.path[:1] == ['']:\n    del sys.path[0]\nfrom helve._cli import main\nmain()"


def run(command: Command, args: List[str]) -> int:
    """Runs a program until it is interrupted, and loads it again when its files change. args are those of `run`."""
    from helve import _find

    if os.environ.get(_find.ENV):
        raise Mistake(f"--reload starts a node of its own, and {_find.ENV} names another: unset it")
    for d in command["reload-dir"] or ():
        if not os.path.isdir(d):
            raise Mistake(f"{command.origin['reload-dir']} {d}: there is no such directory")
    wishes = _until.Wishes()
    try:
        driver = _driver.own(HTTPSettings())
    except (ValueError, RayServeException) as e:
        raise _run.failure(e) from None
    reloader = Reloader(command, args, driver, wishes)
    try:
        reloader.serve()
    finally:
        reloader.stop()
    return wishes.end(reloader.driver)


class Reloader:
    """The watch of the files, and the loader of the moment."""

    def __init__(self, command: Command, args: List[str], driver: Any, wishes: Any):
        self.command, self.args, self.driver, self.wishes = command, args, driver, wishes
        if not driver.dir:
            raise Mistake("--reload needs a node that other programs can attach to, and this one is none (see its warning above)", 1)
        main = command.script or command.file
        if command.script and not os.path.isfile(command.script):
            raise Mistake(f"{command.script}: No such file or directory")
        place = os.path.dirname(os.path.abspath(command.script)) if command.script and not command["app-dir"] else os.path.abspath(command["app-dir"] or ".")
        self.watch = _watch.Watch(command["reload-dir"] or [place], [main] if main else [])
        self.files: set = {os.path.abspath(main)} if main else set()  # of the program, as far as it was loaded
        self.loader: Optional[Loader] = None
        self.applications: set = set()  # of the loaders that have succeeded
        self.ok = False  # a version of the program serves
        self.http: Any = None  # the options of the file that the node has
        self.saved: set = set()  # files that have changed since the last load
        driver.on_end(wishes.ended.set)

    def serve(self) -> None:
        self.wishes.serving = True
        _say(f"watching {_count(self.watch.count())} below {', '.join(map(_short, self.watch.directories))}")
        self.load()
        while not self.wishes.ended.is_set():
            if self.loader is not None:
                self.loader.read(self.watch.period)
                self.heed(self.loader)
            else:
                self.wishes.ended.wait(self.watch.period)
            if not self.wishes.ended.is_set() and self.watch.touched():
                changed = self.watch.settled()
                if changed:
                    self.change(changed)

    def change(self, changed: List[str]) -> None:
        """Loads the program again, unless one of its files cannot be compiled."""
        self.saved.update(changed)
        first = _short(changed[0])
        what = "changed" if os.path.exists(changed[0]) else "is gone"
        _say(f"reloading: {first} {what}" + (f", and {len(changed) - 1} more" if len(changed) > 1 else ""))
        for path in changed:
            mistake = _syntax(path) if path in self.files else ""
            if mistake:
                print(mistake, file=sys.stderr, end="", flush=True)
                self.failed()
                return
        self.load()

    def load(self) -> None:
        self.stop()
        for path in self.saved:
            _drop_bytecode(path)
        self.saved.clear()
        before = self.learn()
        self.loader = Loader(self.args, self.driver.dir, before, self.ok)

    def heed(self, loader: "Loader") -> None:
        """Acts on the reports of a loader, and on its end."""
        self.take(loader)
        status = loader.process.poll()
        if status is None:
            return
        loader.read(0)  # its last words
        self.take(loader)
        os.close(loader.fd)
        self.loader = None
        if not self.command.script:
            if status or not loader.finished:
                self.failed()
            return
        if status:
            self.failed(f"{self.command.script} ended with {_status(status)}")
        else:
            self.done(loader)
            _say(f"{self.command.script} has ended, and its applications serve on" if self.applications else f"{self.command.script} has ended")

    def take(self, loader: "Loader") -> None:
        for report in loader.reports():
            if "files" in report:
                self.files.update(report["files"])
                self.watch.add(report["files"], loader.since)
            if "application" in report:
                self.told(loader, report)
            if report.get("done"):
                self.done(loader)

    def told(self, loader: "Loader", report: Dict[str, Any]) -> None:
        if self.command.script and not loader.finished:
            if loader.again:
                self.changed(loader, [report["application"]])
            self.ok = True

    def done(self, loader: "Loader") -> None:
        """The program's applications are there: those of the version before that are not in it any more end."""
        if loader.finished:
            return
        loader.finished = True
        for name in sorted(self.applications - loader.applications):
            try:
                self.driver.control("delete", name=name)
                _say(f"application {name!r} is not in the program any more, and has ended")
            except RuntimeError:  # it is gone already
                pass
        if not self.command.script:
            if loader.again:
                self.changed(loader, sorted(loader.applications))
            if None not in (loader.http, self.http) and loader.http != self.http:
                _say("http_options have changed: the node takes them when helve run is started again")
            self.http = loader.http
        self.applications = set(loader.applications)
        self.ok = self.ok or bool(loader.applications)

    def changed(self, loader: "Loader", names: List[str]) -> None:
        """Says how long the reload took, and which deployments have other replicas."""
        now = self.replicas()
        new, same = [], []
        for key in sorted(now):
            if key[0] in names:
                (new if now[key] - loader.before.get(key, set()) else same).append(key[1])
        text = "nothing had to restart" if not new else f"{', '.join(new)} restarted" + (f"; {', '.join(same)} went on" if same else "")
        _say(f"reloaded in {time.monotonic() - loader.begun:.2f} s: {text}")

    def failed(self, why: str = "") -> None:
        self.learn()
        what = "the version before serves on" if self.ok or self.applications else "nothing serves yet"
        _say(f"{why + '; ' if why else 'not reloaded: ' if self.ok else 'not loaded: '}{what}; waiting for the next change")

    def learn(self) -> Dict[tuple, set]:
        """The running replicas. The node is asked, since the loader may not have told yet: for example, a file is saved in the moment between
        the line that says that the application is ready and the report of the loader that it has done."""
        found = self.replicas()
        self.ok = self.ok or any(found.values())
        self.applications |= {name for name, _ in found}
        return found

    def replicas(self) -> Dict[tuple, set]:
        """The ids of the running replicas by application and deployment."""
        try:
            status = self.driver.control("status")
        except Exception:  # the node is gone, which ends the run
            return {}
        found = {}
        for name, app in (status.get("applications") or {}).items():
            if not name.startswith(HIDDEN):
                for deployment, d in (app.get("deployments") or {}).items():
                    found[name, deployment] = {r["replica_id"] for r in d["replicas"] if r.get("state") == "RUNNING"}
        return found

    def stop(self) -> None:
        """Ends the loader, if there is one. A script gets a SIGTERM, and may end in its own way."""
        if self.loader is not None:
            self.loader.stop(_loader.STOP if self.command.script else 0.0)
            self.loader = None


class Loader:
    """The process that loads the program, and its reports."""

    def __init__(self, args: List[str], node: str, before: Dict[tuple, set], again: bool):
        """before are the replicas that run, and again says that a version of the program serves."""
        self.before, self.again, self.begun, self.finished = before, again, time.monotonic(), False
        self.since = time.time_ns()
        self.applications: set = set()
        self.http: Any = None
        read, write = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", MAIN, "run", *args],  # type: ignore[attr-defined]
                pass_fds=(write,), env={**os.environ, _loader.ENV: f"{write}:{node}"},
            )
        finally:
            os.close(write)
        self.fd = read
        os.set_blocking(read, False)
        self.rest = b""
        self.over = False

    def read(self, timeout: float) -> None:
        """Waits for a report, the end of the process or the end of the time."""
        if self.over:
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
            return
        try:
            if not select.select([self.fd], [], [], timeout)[0]:
                return
            while True:
                part = os.read(self.fd, 1 << 16)
                if not part:
                    self.over = True
                    return
                self.rest += part
        except BlockingIOError:
            pass

    def reports(self) -> List[Dict[str, Any]]:
        *lines, self.rest = self.rest.split(b"\n")
        found = [json.loads(line) for line in lines]
        for report in found:
            if "application" in report:
                self.applications.add(report["application"])
            if "http" in report:
                self.http = report["http"]
        return found

    def stop(self, patience: float) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience)
            except BaseException as e:  # also a second Ctrl-C
                self.process.kill()
                self.process.wait()
                if not isinstance(e, subprocess.TimeoutExpired):
                    raise
        os.close(self.fd)


def _syntax(path: str) -> str:
    """The error of a Python file that cannot be compiled, as Python shows it; "" for a good one, and for one that is gone."""
    if not path.endswith(".py"):
        return ""
    try:
        with open(path, "rb") as f:
            compile(f.read(), path, "exec", dont_inherit=True)
    except OSError:
        return ""
    except (SyntaxError, ValueError) as e:
        return "".join(traceback.format_exception_only(type(e), e))
    return ""


def _drop_bytecode(path: str) -> None:
    """Removes the bytecode of a file. Python takes it for that of the file if the size and the second of the save are the same. For example, with
    two saves in one second that change one digit, the program of the first would be loaded.
    """
    if path.endswith(".py"):
        for optimization in ("", 1, 2):
            try:
                os.unlink(importlib.util.cache_from_source(path, optimization=optimization))
            except (OSError, NotImplementedError):  # there is none, or it cannot be written either
                pass


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _count(n: int) -> str:
    return "1 file" if n == 1 else f"{n} files"


def _short(path: str) -> str:
    """A path as a user has it before their eyes: relative to the current directory, if it is in it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _status(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


__all__ = ["run"]
