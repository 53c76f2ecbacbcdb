"""How a program finds the node of another program (docs/wire.md, "Opening"): by HELVE_NODE, or among the nodes of this user that run.
A node has a private directory with a socket and a file with a secret. Its lock is held as long as the node lives. For example, after `kill -9`
of a node its directory may still be there, and is passed over.
"""

from __future__ import annotations

import fcntl
import glob
import os
import socket
import stat
import struct
from typing import Optional

from helve._errors import RayServeException
from helve._names import HIDDEN
from helve._opening import RefusedError, ask, open_connection

ENV = "HELVE_NODE"
SOCKET, TOKEN, MARK = "driver.sock", "driver.token", "helve-node"
DIAL = 5.0  # seconds for a connection to be made
_CRED = struct.Struct("3i")


class NotThereError(Exception):
    """The directory is not that of a node that runs."""


def directory(value: str) -> str:
    """The directory of a node, which may be named by one of its sockets."""
    path = os.path.abspath(value.removeprefix("unix:"))
    return os.path.dirname(path) if path.endswith(".sock") or os.path.exists(path) and not os.path.isdir(path) else path


def running() -> list:
    """The directories of the nodes of this user that run now."""
    base = os.environ.get("HELVE_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"
    return [d for d in map(os.path.dirname, sorted(glob.glob(os.path.join(glob.escape(base), "helve-*", SOCKET)))) if _locked(d)]


def _locked(path: str) -> bool:
    try:
        _private(path)
        fd = os.open(os.path.join(path, MARK), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, NotThereError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        os.close(fd)
    return False


def _private(path: str) -> None:
    """Raises for a directory or file that is not this user's alone: another user could have put it there."""
    status = os.lstat(path)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or stat.S_ISLNK(status.st_mode):
        raise NotThereError(f"{path} has the mode {stat.S_IMODE(status.st_mode):04o} and the owner {status.st_uid}; it must belong to this user alone")


def dial(path: str, connection: str = "small") -> tuple:
    """A connection to the node of a directory, the node's HELLO, and the id of its process. It blocks."""
    try:
        _private(path)
        secret = os.path.join(path, TOKEN)
        _private(secret)
        with open(secret) as f:
            token = bytes.fromhex(f.read(256).strip())
    except FileNotFoundError as e:
        raise NotThereError(f"there is no {e.filename}") from None
    except (OSError, ValueError) as e:
        raise NotThereError(str(e)) from None
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(DIAL)
        sock.connect(os.path.join(path, SOCKET))
        pid, uid, _ = _CRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CRED.size))
        if uid != os.geteuid():
            raise NotThereError(f"its process {pid} is of the user {uid}")
        return sock, open_connection(sock, token, "driver", "", connection=connection), pid
    except RefusedError:
        sock.close()
        raise
    except (OSError, ValueError, KeyError) as e:
        sock.close()
        raise NotThereError(f"it does not answer: {e}") from None
    except BaseException:
        sock.close()
        raise


def describe(path: str) -> str:
    """A node for people: its process and its applications."""
    try:
        sock, _, pid = dial(path, "ask")
        with sock:
            names = ask(sock, "status").get("applications") or {}
    except (NotThereError, OSError, ValueError, struct.error) as e:
        return str(e)
    return f"pid {pid}, " + (", ".join(sorted(n for n in names if not n.startswith(HIDDEN))) or "no application")


def only() -> Optional[str]:
    """The directory of the only node of this user that runs; None if none does."""
    found = running()
    if len(found) > 1:
        lines = "".join(f"\n  {ENV}={d}   {describe(d)}" for d in found)
        raise RayServeException(f"{len(found)} nodes of this user run here; choose one by the environment variable {ENV}:{lines}")
    return found[0] if found else None


__all__ = ["ENV", "NotThereError", "describe", "dial", "directory", "only", "running"]
