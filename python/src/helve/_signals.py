"""Signals to all processes of a service or of a terminal (SIGTERM by systemd, Ctrl-C): a worker goes on while its
node drains, and the node ends it.
"""

from __future__ import annotations

import os
import signal
from typing import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def shield(orphan: Callable[[], bool], end: Callable[[str], None]) -> None:
    """Receives the signals from now on, unless user code sets a handler of its own. A signal ends a worker only if
    orphan() says that it has no node. The signals have handlers and are not SIG_IGN, which programs that the
    worker starts would inherit. A forked child is not a worker: it has the default actions, so that
    Process.terminate() of multiprocessing works.
    """

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
