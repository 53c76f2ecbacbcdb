"""The lines that serve.run prints while it waits, and the errors of a deploy. The node says what the deploy waits for."""

from __future__ import annotations

import concurrent.futures
import sys
import time
from typing import Any, Callable, Optional

from helve._errors import RayServeException
from helve.serve._status import seconds

LOOK = 0.5  # seconds between two looks at the node
QUIET = 2.0  # seconds without a line: most deploys are over by then
BETWEEN = 5.0  # seconds between two lines, at least
_said: set = set()  # the durable nodes of which where() has told


class ControlError(RuntimeError):
    """An error that the node has answered. type is a word of the node's, "" for most errors."""

    def __init__(self, text: str, reason: str, type: str):
        super().__init__(text)
        self.reason, self.type = reason, type


def failure(app: str, e: ControlError) -> Exception:
    """The exception of a deploy for the user."""
    if e.type == "route_taken":
        return RayServeException(f"{e}. Failed to deploy application {app!r}")
    if e.reason == "bad_input":
        return ValueError(str(e))
    return RuntimeError(f"Deploying application {app} failed: {e}")


def wait(app: str, reply: concurrent.futures.Future, ask: Callable[[], dict], show: Optional[Callable[[str], None]] = None) -> dict:
    """Waits for the reply to a deploy. ask gives the status of the node; show prints one line or block."""
    lines = Progress(app, time.monotonic(), show or _print)
    while True:
        concurrent.futures.wait([reply], LOOK)
        if reply.done():
            return reply.result()
        try:
            status = ask()
        except Exception:  # the node is gone, as the reply says too
            return reply.result()
        if not reply.done():
            lines.look(status["applications"].get(app) or {}, time.monotonic(), time.time())


def _print(text: str) -> None:
    sys.stderr.write(text + "\n")  # in one write: other threads print too
    sys.stderr.flush()


def warn_of_left(left: list, own: list) -> None:
    """Warns of the directories that a durable node has not kept. Of the entries of sys.path those count from which the program has imported modules: for
    example, a script in a home directory that has all of its code itself loses nothing.
    """
    from helve import _code

    for entry in left:
        path = entry["path"]
        if path not in own or _code.imported_from(path):
            _print(
                f"warning: the node keeps no copy of {path}: {entry['why']}. The application runs from there, so do not remove or change it; a roll-back does "
                "not bring its files back. A program in a directory of its own is kept."
            )


def where(driver: Any) -> None:
    """Says that the program runs its applications in a durable node, once for each program."""
    if driver.durable and driver.dir not in _said:
        _said.add(driver.dir)
        _print(f"This program runs its applications in the durable node at {driver.dir} (pid {driver.pid}). With HELVE_NODE=local it has a node of its own.")


def ready(app: str, url: str, driver: Any) -> None:
    """Says where an application is served, and that it goes on if it does. url is "" without HTTP."""
    stays = f" It goes on when this program ends; serve.delete({app!r}) ends it." if driver.durable else ""
    if url:
        _print(f"Application {app!r} is ready at {url}.{stays}")
    elif stays:
        _print(f"Application {app!r} is ready, without HTTP.{stays}")


def unchanged(app: str) -> None:
    """Says that a deploy has changed nothing, and has made no revision."""
    _print(f"Application {app!r} is unchanged: this code runs with these options already.")


class Progress:
    """The decision which lines to print. A line comes when the deploy has taken QUIET seconds, and then when its text without the times has
    changed, at most each BETWEEN seconds. A start that fails and is made again is a block of its own, at once.
    """

    def __init__(self, app: str, begun: float, show: Callable[[str], None]):
        self.app, self.show, self.due, self.said = app, show, begun + QUIET, ""
        self.failures: dict[str, int] = {}
        self.errors: dict[str, str] = {}

    def look(self, app: dict, now: float, clock: float) -> None:
        """now is the time of the program's monotonic clock, clock the seconds since 1970."""
        deployments = app.get("deployments") or {}
        for name, d in sorted(deployments.items()):
            failed, most = d.get("failures", 0), d.get("max_failures", 0)
            if self.failures.get(name, 0) < failed < most:
                why = " as before" if d["message"] == self.errors.get(name) else ""
                block = "" if why else "\n" + _indent(d["message"])
                self.show(f"Application {self.app!r}: attempt {failed} of {most} to start deployment {name} failed{why}, trying again.{block}")
                self.errors[name] = d["message"]
            self.failures[name] = failed
        if now < self.due:
            return
        plain, text = [], []
        for name, d in sorted(deployments.items()):
            if d["ready"] < d["wanted"]:
                step, took = _oldest(d, clock)
                ready = f"{name} ({d['ready']} of {d['wanted']} replicas ready"
                plain.append(f"{ready}; {step})")
                text.append(f"{ready}{f'; one waits for {step}, for {took:.0f} s' if step else ''})")
        if text and plain != self.said:
            self.said, self.due = plain, now + BETWEEN
            self.show(f"Application {self.app!r} waits for {', '.join(text)}.")


def _oldest(d: dict, clock: float) -> tuple:
    """The step that the replica waits for that has waited longest, and for how many seconds."""
    waits = [(seconds(r["wait"]["since"]), r["wait"]["for"]) for r in d["replicas"] if r.get("wait")]
    if not waits:
        return "", 0.0
    since, step = min(waits)
    return step, max(clock - since, 0.0)


def _indent(text: Any) -> str:
    return "\n".join("    " + line for line in str(text).splitlines())
