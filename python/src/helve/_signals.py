"""Signals that are sent to all processes of a service, or to a terminal's (SIGTERM by systemd, Ctrl-C): a worker goes on while its
node drains, and is ended by it."""

from __future__ import annotations

import os
import signal
from typing import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def shield(orphan: Callable[[], bool], end: Callable[[str], None]) -> None:
    """Takes the signals from now on; code that sets a handler of its own has that. They end a worker only while orphan() says that it has no
    node. Handlers and not SIG_IGN, which programs would inherit that the worker starts. A forked child is not a worker: it has the
    default actions, so that Process.terminate() of multiprocessing works."""

    def heed(number: int, frame: object) -> None:
        if orphan():
            end(f"helve: {signal.Signals(number).name} while no node had taken over")

    def restore() -> None:
        for s in SIGNALS:
            if signal.getsignal(s) is heed:
                signal.signal(s, signal.default_int_handler if s == signal.SIGINT else signal.SIG_DFL)

    for s in SIGNALS:
        if signal.getsignal(s) is not signal.SIG_IGN:
            signal.signal(s, heed)
    os.register_at_fork(after_in_child=restore)


__all__ = ["shield"]
