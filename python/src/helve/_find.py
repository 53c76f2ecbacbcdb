"""How a program finds the node of another program (docs/wire.md, "Opening"): by HELVE_NODE, or among the nodes of this user that run.
A node has a private directory with a socket and a file with a secret. Its lock is held as long as the node lives. For example, after `kill -9`
of a node its directory may still be there, and is passed over.

A durable node, of `helve start`, has a state directory too, in which the symbolic link `attach` leads to the private directory of the node that
runs now. Its keeper starts another node when one has ended. So a program names a durable node by the state directory, which stays.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from typing import Iterator, List, Optional

from helve._errors import RayServeException
from helve._names import HIDDEN
from helve._opening import RefusedError, ask, open_connection

ENV = "HELVE_NODE"
OWN = "local"  # the value of HELVE_NODE, and the address, of a node of the program's own
SOCKET, TOKEN, MARK = "driver.sock", "driver.token", "helve-node"
DURABLE = "durable"  # a file in the private directory of a durable node, with the path of its state directory
LINK = "attach"  # the link in a state directory
KEEPER = "keeper.sock"  # the socket of the keeper, in a state directory
DIAL = 5.0  # seconds for a connection to be made
_CRED = struct.Struct("3i")
_states: dict = {}  # private directories to which this process was connected -> their state directories


class NotThereError(Exception):
    """The directory is not that of a node that runs."""


def directory(value: str) -> str:
    """The directory of a node, private or state directory, which may be named by one of its sockets."""
    path = os.path.abspath(os.path.expanduser(value.removeprefix("unix:")))
    return os.path.dirname(path) if path.endswith(".sock") or os.path.exists(path) and not os.path.isdir(path) else path


def private(path: str) -> str:
    """The private directory of the node that runs now, of a state directory; another directory is its own. For example, /var/lib/helve gives
    /run/helve/helve-123.
    """
    try:
        return os.readlink(os.path.join(_states.get(path, path), LINK))
    except OSError:
        return path


def running() -> list:
    """The directories of the nodes of this user that run now; of a durable node its state directory."""
    return list(dict.fromkeys(_state(d) or d for d in _privates() if os.path.exists(os.path.join(d, SOCKET)) and _locked(d)))


def durable() -> List[str]:
    """The state directories of the durable nodes of this user that run now, or are just being started again. HELVE_STATE_DIR names one of several."""
    usual = _usual()
    at = private(usual)
    if kept(usual) or at != usual and _state(at) and _locked(at):
        if os.environ.get("HELVE_STATE_DIR"):
            return [usual]
        found = [usual]
    else:
        found = []
    found += [s for d in _privates() for s in (_state(d),) if s and (_locked(d) or kept(s))]
    return list(dict.fromkeys(found))


def kept(path: str) -> bool:
    """Whether a keeper runs in a state directory: it starts a node there if none runs."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.settimeout(DIAL)
            sock.connect(os.path.join(_states.get(path, path), KEEPER))
        except OSError:
            return False
    return True


def _usual() -> str:
    """The state directory of `helve start` without --state-dir."""
    if os.environ.get("HELVE_STATE_DIR"):
        return os.path.abspath(os.environ["HELVE_STATE_DIR"])
    if os.geteuid() == 0:
        return "/var/lib/helve"
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "helve")


def _privates() -> Iterator[str]:
    """The directories of this user that look like private ones of nodes. There may be thousands of other files beside them."""
    base = os.environ.get("HELVE_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        names = sorted(name for name in os.listdir(base) if name.startswith("helve-"))
    except OSError:
        return
    for path in (os.path.join(base, name) for name in names):
        try:
            _private(path)
        except (OSError, NotThereError):
            continue
        yield path


def _state(path: str) -> str:
    """The state directory of the durable node of a private directory; "" of another node."""
    try:
        with open(os.path.join(path, DURABLE)) as f:
            return f.read(4096)
    except (OSError, ValueError):
        return ""


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
    path = private(path)
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
        welcome = open_connection(sock, token, "driver", "", connection=connection)
        if welcome.get("durable") and welcome.get("state"):
            _states[path] = welcome["state"]
        return sock, welcome, pid
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


def only(found: Optional[list] = None) -> Optional[str]:
    """The directory of the only durable node of this user, or of the only other node that runs; None if none does. found are the nodes to choose
    from, where these are known.
    """
    if found is None:
        found = durable() or running()
    if len(found) > 1:
        lines = "".join(f"\n  {ENV}={d}   {describe(d)}" for d in found)
        raise RayServeException(f"{len(found)} nodes of this user run here; choose one by the environment variable {ENV}:{lines}")
    return found[0] if found else None


__all__ = ["ENV", "NotThereError", "describe", "dial", "directory", "durable", "kept", "only", "running"]
