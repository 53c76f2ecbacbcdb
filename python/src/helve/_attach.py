"""How a worker connects to its node, and to the next node when that has ended (docs/wire.md, "A node that is gone")."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import threading
from typing import Any, Optional

from helve import _fork
from helve._errors import ReplicaUnavailableError, for_reason
from helve._opening import ask, open_connection

DIAL = 0.05  # seconds between two looks for the next node
LINGER = 1.0  # seconds that the event loop has to end the process itself when its node is gone, and no other is awaited

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def duration(text: str) -> float:
    """Seconds of a duration as Go writes it: 30s, 1m0.5s, 0s."""
    parts = re.findall(r"([0-9.]+)(h|ms|us|µs|ns|m|s)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"{text!r} is not a duration")
    return sum(float(n) * _UNITS[u] for n, u in parts)


class Node:
    """The node that a worker belongs to, and the one that takes its place."""

    def __init__(self, token: bytes, path: str, id: str, grace: float):
        self.token, self.path, self.id, self.grace = token, path, id, grace
        self.leash = Leash(grace)

    def dial(self, resume: Optional[dict] = None) -> tuple:
        """A connection that is open, and the node's HELLO. It blocks."""
        sock = socket.socket(socket.AF_UNIX)
        _fork.hold(sock.fileno())  # beside the connection before, which goes on while its node hands over
        try:
            sock.connect(self.path)
            welcome = open_connection(sock, self.token, "worker", self.id, resume)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        self.leash.hold(sock)
        return sock, welcome

    def ask(self, op: str, **fields: Any) -> dict:
        """Asks the node on a connection of its own, and waits for the answer. The caller may be code on the event
        loop, which would block the answer on the other connection.
        """
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(self.path)
                open_connection(sock, self.token, "worker", self.id, connection="ask")
                reply = ask(sock, op, **fields)
            except (OSError, struct.error) as e:
                raise ReplicaUnavailableError(f"the node does not answer: {e}") from None
        if "error" in reply:
            raise for_reason(reply["error"].get("reason", ""))(reply["error"]["message"])
        return reply


class Leash:
    """A thread that ends the process when its node is gone and no other has taken it over within the grace. The
    event loop does that only while it turns: a method that blocks it would keep the process of a killed node
    alive.
    """

    def __init__(self, grace: float):
        self.wait, self.why = grace or LINGER, f"no node took over within {grace:g} s" if grace else "the node is gone"
        self.changed = threading.Condition()
        self.fd = -1
        self.alone = False  # the node is gone, and no other has taken over
        self.watched = -1
        threading.Thread(target=self.watch, name="helve-leash", daemon=True).start()

    def hold(self, sock: socket.socket) -> None:
        """Watches a new connection, by a descriptor of its own: the loop's may be closed, and its number reused for
        another file.
        """
        with self.changed:
            if self.fd >= 0:
                _fork.release(self.fd)
                os.close(self.fd)
            self.fd = os.dup(sock.fileno())
            self.alone = False
            _fork.hold(self.fd)
            self.changed.notify()

    def orphaned(self) -> bool:
        """Whether there is no node, also when its end is not noticed yet. It takes no lock: it is for signal
        handlers.
        """
        if self.alone or self.watched < 0:
            return self.alone
        gone = select.poll()
        gone.register(self.watched, select.POLLRDHUP)
        return any(event & ~select.POLLNVAL for _, event in gone.poll(0)) or self.alone

    def watch(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.fd >= 0)
                fd, self.fd = self.fd, -1
                self.watched = fd
            gone = select.poll()
            gone.register(fd, select.POLLRDHUP)
            gone.poll()
            _fork.release(fd)
            os.close(fd)
            with self.changed:
                self.alone = self.fd < 0
                if not self.changed.wait_for(lambda: self.fd >= 0, self.wait):
                    give_up("helve: " + self.why)


def end_family() -> None:
    """Ends the descendants of this worker (in Go: internal/worker/family.go), as a living node would."""
    name = os.environ.get("HELVE_FAMILY")
    if not name:
        return
    mark = f"HELVE_FAMILY={name}".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if int(pid) != os.getpid() and mark in f.read().split(b"\0"):
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass  # it has ended, or belongs to another user


def give_up(why: str) -> None:
    """Ends the process and its descendants without writing to stderr: its reader may be gone, and its pipe full."""
    try:
        end_family()
    except OSError:
        pass  # no /proc
    try:
        os.set_blocking(2, False)
        os.write(2, why.encode() + b"\n")
    except OSError:
        pass
    os._exit(1)


__all__ = ["DIAL", "Node", "duration", "give_up"]
