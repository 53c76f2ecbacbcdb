"""The reports of a worker to its node about itself: log records with their levels, and the stacks of its threads
when its event loop stands still. They go over a pipe of their own (docs/control.md), so that no printed line is ever
taken for a report.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import sys
import threading
import time
import traceback
from typing import Any

from helve import _logging, _origins, _stalls

LINE = 60_000  # bytes of a report: the node takes lines of 64 KiB
BLOCK = 8_000  # characters of the text of one record

_pipe = -1  # the descriptor of the node's pipe; -1 without one
_owner = 0  # the process that owns the pipe: a forked child has a copy, and its lines would mix with the owner's
_lock = threading.RLock()  # one line at a time; a signal handler may log in the middle of another record


def _tell(kind: str, text: str = "") -> None:
    """Writes one line."""
    if _pipe < 0 or os.getpid() != _owner:
        return
    line = f"{kind} {text}".replace("\n", "\\n").encode(errors="backslashreplace") + b"\n"
    try:
        with _lock:
            while line:
                line = line[os.write(_pipe, line):]
    except OSError:
        pass  # the node is gone


def tells() -> bool:
    """Whether this process has the pipe: a forked child has none."""
    return _pipe >= 0 and os.getpid() == _owner


def tell_record(record: dict, parts: tuple = ("text", "message", "attributes")) -> None:
    """Reports a record: docs/control.md has its fields. Of one that is longer than a line of the node's may be, the texts are cut."""
    line = json.dumps(record, ensure_ascii=False, default=_logging.shown)
    most = LINE // 2
    while len(line) * 4 > LINE and len(line.encode(errors="backslashreplace")) > LINE and most > 64:
        for part in parts:
            value = record.get(part)
            if isinstance(value, str) and len(value) > most:
                record[part] = value[:most] + "..."
            elif isinstance(value, dict) and len(json.dumps(value, default=_logging.shown)) > most:
                del record[part]
        most //= 2
        line = json.dumps(record, ensure_ascii=False, default=_logging.shown)
    _tell("record", line)


def _named(level: int) -> str:
    for least, name in ((logging.ERROR, "ERROR"), (logging.WARNING, "WARNING"), (logging.INFO, "INFO")):
        if level >= least:
            return name
    return "DEBUG"


class Handler(logging.Handler):
    """Sends records to the node with their level, which text alone may not show."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            first, *rest = self.format(record).split("\n")
            text = "\n".join([first, *("  " + line for line in rest)])  # no line of the rest looks like the beginning of a record
            if not tells():
                print(text, file=sys.stderr)
                return
            message = record.getMessage()
            if record.exc_text:
                message += "\n" + record.exc_text
            request, trace = _logging.ids(record)
            tell_record({
                "time": record.created, "level": _named(record.levelno), "request_id": request, "trace_id": trace, "logger": record.name,
                "message": message, "text": text, "attributes": _logging.extra(record),
            })
        except Exception:
            self.handleError(record)


class Printed(io.TextIOWrapper):
    """sys.stdout or sys.stderr of a worker: text goes to the node with the request for which it was printed, in whole lines. Bytes that are
    written to its buffer or its descriptor go to the node as before, without a request. So do the lines of a forked child.
    """

    def __init__(self, stream: Any, name: str):
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=True)
        self.mode, self.stream = "w", name
        self.begun = ""  # a line without its end

    def write(self, text: str) -> int:
        if not tells():
            return super().write(text)
        with _lock:
            lines, newline, self.begun = (self.begun + text).rpartition("\n")
            if len(self.begun) > LINE:
                lines, newline, self.begun = lines + newline + self.begun, "\n", ""
        if newline:
            self.tell(lines)
        return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def tell(self, text: str) -> None:
        request, trace = _logging.ids()
        record = {"stream": self.stream, "request_id": request, "trace_id": trace}
        if len(text) <= BLOCK:
            tell_record({**record, "time": time.time(), "message": text})
            return
        block: list = []
        size = 0
        for line in [*text.split("\n"), None]:
            if line is None or (block and size + len(line) > BLOCK):
                tell_record({**record, "time": time.time(), "message": "\n".join(block)})
                block, size = [], 0
            if line is not None:
                block.append(line)
                size += len(line) + 1

    def finish(self) -> None:
        """Reports a line that has no end, before the process ends."""
        with _lock:
            text, self.begun = self.begun, ""
        if text and tells():
            self.tell(text)


def set_up_logging() -> None:
    """Sends the loggers ray.serve and helve.serve to the node, as the deployment's logging_config says (_logging.py), and warnings of loggers
    that have no handler, with their requests, as well as printed text. Logging that the user configures, with logging.basicConfig or otherwise, stays
    unchanged: the node finds its levels in the text.
    """
    global _pipe, _owner
    _pipe, _owner = int(os.environ.pop("HELVE_TELL_FD", "-1")), os.getpid()
    if _pipe >= 0:
        os.set_inheritable(_pipe, False)
    sys.stdout, sys.stderr = Printed(sys.stdout, "stdout"), Printed(sys.stderr, "stderr")
    config = os.environ.pop("HELVE_LOGGING", "")
    _logging.set_up(Handler(), json.loads(config) if config else None)
    logging.lastResort = Handler(logging.WARNING)
    logging.lastResort.setFormatter(logging.Formatter("%(name)s -- %(message)s"))
    _origins.follow()


def finish() -> None:
    """Reports the last lines that were printed without an end."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Printed):
            stream.finish()


class Watchdog:
    """A thread that checks whether the event loop turns. It tells the node the stacks of all threads when the loop
    did not turn for after seconds, and tells it when the loop turns again. Shorter stalls are records (_stalls.py). A fork does not
    start it: it watches the process that made it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, after: float):
        self.loop, self.after = loop, after
        self.asked, self.told = 0.0, False  # of the thread
        self.stopped = threading.Event()
        threading.Thread(target=self.watch, name="helve-watchdog", daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()

    def watch(self) -> None:
        looks = _stalls.Looks(self.after / 2)
        while not self.stopped.wait(looks.pause()):
            turned = threading.Event()
            self.asked = time.monotonic()
            try:
                self.loop.call_soon_threadsafe(turned.set)
            except RuntimeError:  # the loop is closed
                return
            if turned.wait(min(_stalls.LOOK, self.after)) or self.stopped.is_set():
                continue
            self.told = False
            _stalls.until(turned, self.stopped, threading.main_thread().ident or 0, self.after, self.tell)
            if self.told:
                turned.wait()
                _tell("responsive")

    def tell(self) -> None:
        self.told = True
        self.dump()
        _tell("unresponsive", f"{time.monotonic() - self.asked:.3f}")

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
