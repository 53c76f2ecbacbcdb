"""The reports of a worker to its node about itself: log records with their levels, and the stacks of its threads
when its event loop stands still. They go over a pipe of their own (docs/control.md), so that no printed line is ever
taken for a report.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
import traceback

from helve import _logging

_pipe = -1  # the descriptor of the node's pipe; -1 without one
_owner = 0  # the process that owns the pipe: a forked child has a copy, and its lines would mix with the owner's
_lock = threading.RLock()  # one line at a time; a signal handler may log in the middle of another record


def _tell(kind: str, text: str = "") -> None:
    """Writes one line."""
    line = f"{kind} {text}".replace("\n", "\\n").encode(errors="backslashreplace") + b"\n"
    if _pipe < 0 or os.getpid() != _owner:
        if kind == "log":
            print(text, file=sys.stderr)
        return
    try:
        with _lock:
            while line:
                line = line[os.write(_pipe, line):]
    except OSError:
        pass  # the node is gone


def _named(level: int) -> str:
    for least, name in ((logging.ERROR, "ERROR"), (logging.WARNING, "WARNING"), (logging.INFO, "INFO")):
        if level >= least:
            return name
    return "DEBUG"


class Handler(logging.Handler):
    """Sends records to the node with their level, which text alone may not show."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = _named(record.levelno)
            first, *rest = self.format(record).split("\n")
            for line in [first, *("  " + line for line in rest)]:  # no line of the rest looks like the beginning of a record
                _tell("log", f"{level} {line}")
        except Exception:
            self.handleError(record)


def set_up_logging() -> None:
    """Sends the loggers ray.serve and helve.serve to the node, as the deployment's logging_config says (_logging.py), and warnings of loggers
    that have no handler. Logging that the user configures, with logging.basicConfig or otherwise, stays unchanged: the node finds its levels in the text.
    """
    global _pipe, _owner
    _pipe, _owner = int(os.environ.pop("HELVE_TELL_FD", "-1")), os.getpid()
    if _pipe >= 0:
        os.set_inheritable(_pipe, False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # a pipe is buffered in blocks, and printed lines would come late
    config = os.environ.pop("HELVE_LOGGING", "")
    _logging.set_up(Handler(), json.loads(config) if config else None)
    logging.lastResort = Handler(logging.WARNING)
    logging.lastResort.setFormatter(logging.Formatter("%(name)s -- %(message)s"))


class Watchdog:
    """A thread that checks whether the event loop turns. It tells the node the stacks of all threads when the loop
    did not turn for after seconds, and tells it when the loop turns again. A fork does not start it: it watches
    the process that made it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, after: float):
        self.loop, self.after = loop, after
        self.stopped = threading.Event()
        threading.Thread(target=self.watch, name="helve-watchdog", daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()

    def watch(self) -> None:
        while not self.stopped.wait(self.after / 2):
            turned = threading.Event()
            asked = time.monotonic()
            try:
                self.loop.call_soon_threadsafe(turned.set)
            except RuntimeError:  # the loop is closed
                return
            if turned.wait(self.after) or self.stopped.is_set():
                continue
            self.dump()
            _tell("unresponsive", f"{time.monotonic() - asked:.3f}")
            turned.wait()
            _tell("responsive")

    def dump(self) -> None:
        names = {t.ident: t.name for t in threading.enumerate()}
        me = threading.get_ident()
        for ident, frame in sorted(sys._current_frames().items(), key=lambda f: f[0] != threading.main_thread().ident):
            if ident == me:
                continue
            _tell("stack", f"Thread {names.get(ident, ident)}:")
            for entry in traceback.format_stack(frame):
                for line in entry.splitlines():
                    _tell("stack", line)
