"""Stalls: times in which the event loop of a replica did not turn, because code on it ran or waited without an ``await``.

A stall of a quarter of a second or more is a record for the node (docs/control.md, ``spans``): its time, the place of the program that the loop's thread was seen at most often, and the call
whose code that is. So `helve why` tells a call that has waited for the loop from the call that has blocked it. For example, a method computes for 2 s without an await, and 20 calls
of the same replica come meanwhile: the stall has the request and the line of the method, and the 20 others name it.
"""

from __future__ import annotations

import asyncio
import collections
import os
import selectors
import sys
import threading
import time
import uuid
from types import FrameType
from typing import Any, Optional

from helve import _runtime, _spans
from helve._frames import RequestInfo, call_ids

LOOK = 0.25  # seconds between two looks at a loop, and the shortest stall
IDLE = 1.0  # seconds between two looks while the process does nothing
BUSY = 0.005  # seconds of processor time between two looks, from which on the process does something
ready = False  # whether the replica of this process takes calls: from the end of its start on
HELVE = os.path.dirname(__file__) + os.sep


class Stall:
    """A stall that is under way. Another thread than that of the loop has it."""

    def __init__(self, thread: int):
        self.thread, self.began = thread, time.time_ns() - int(LOOK * 1e9)
        self.places: collections.Counter = collections.Counter()
        self.info: Optional[RequestInfo] = None
        self.serves = ready  # else it began in the start of the replica: no call waits for an import, or for a constructor

    def look(self) -> None:
        """Notes where the thread of the loop stands."""
        frame = sys._current_frames().get(self.thread)
        if frame is None or turns(frame):
            return
        place, info = standing(frame)
        self.places[place] += 1
        self.info = self.info or info

    def end(self) -> None:
        replica = _runtime.replica
        if replica is None or not self.places or not self.serves:
            return
        place, info = self.places.most_common(1)[0][0], self.info
        record: dict = {
            "request": info.request_id if info is not None else str(uuid.uuid4()), "id": f"{next(call_ids):016x}", "app": replica.app_name, "deployment": replica.deployment,
            "replica": replica.replica_tag, "kind": "stall", "begin": self.began, "end": time.time_ns(), "name": place,
        }
        if info is not None:
            record["parent"] = f"{info.call:016x}"
            if any(info.trace):
                record["trace"] = info.trace.hex()
        _spans.report(record)


def standing(frame: Optional[FrameType]) -> tuple:
    """The innermost place of the program in a stack, such as "Terms.expand, search.py line 34", and the call that it is of, None if that is not known."""
    place, innermost, info = "", frame, None
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(HELVE):
            found: Any = frame.f_locals.get("info")
            if isinstance(found, RequestInfo):
                info = found
                break
        elif not place and users(code.co_filename):
            place = named(frame)
        frame = frame.f_back
    return place or (named(innermost) if innermost is not None else "unknown"), info


def turns(frame: FrameType) -> bool:
    """Whether a loop waits for events, as it does in each turn: no code blocks it. On a busy machine the process has only got no processor for a while."""
    code, caller = frame.f_code, frame.f_back
    return code.co_name == "select" and code.co_filename == selectors.__file__ and caller is not None and caller.f_code.co_filename == asyncio.base_events.__file__


def users(path: str) -> bool:
    return "/lib/python" not in path and "site-packages" not in path and not path.startswith("<")


def named(frame: FrameType) -> str:
    code = frame.f_code
    name = getattr(code, "co_qualname", code.co_name).partition(".<locals>.<")[0]  # of a comprehension, or a lambda: the function around it
    return f"{name}, {os.path.basename(code.co_filename)} line {frame.f_lineno}"


def begin() -> None:
    """Has the stalls of the replica reported from now on: it takes calls."""
    global ready
    ready = True


class Looks:
    """When a watchdog looks again: soon while the process does something."""

    def __init__(self, longest: float):
        self.longest, self.used = longest, time.process_time()

    def pause(self) -> float:
        used = time.process_time()
        busy, self.used = used - self.used > BUSY, used
        return min(LOOK if busy else IDLE, self.longest)


def until(turned: threading.Event, stopped: threading.Event, thread: int, after: float, told: Any) -> None:
    """Waits until the loop has turned, which it did not do for LOOK, and reports the stall. It calls told once, if that takes longer than after seconds from the begin on."""
    stall, left = Stall(thread), after - LOOK
    while True:
        if told is not None and left <= 0:
            told()
            told = None
        stall.look()
        if turned.wait(LOOK if told is None else max(min(LOOK, left), 0.001)):
            stall.end()
            return
        if stopped.is_set():
            return
        left = after - (time.time_ns() - stall.began) / 1e9


__all__ = ["LOOK", "Looks", "Stall", "begin", "standing", "until"]
