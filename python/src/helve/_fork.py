"""Closes copies of sockets in forked children. A process that calls os.fork (or multiprocessing, which does it) has
a child with copies of the sockets to the node, and without the threads that serve them. A node sees the end of a
process when the last copy of its socket is closed, so a child that lives on would keep a node and its replicas.
In the child a copy of hold()'s descriptor becomes /dev/null. For example, a driver forks a child that sleeps for
an hour, and is killed: its node drains and ends at once.
"""

from __future__ import annotations

import os
import weakref

_held: dict[int, tuple] = {}  # descriptor -> the file that it is open on
_told: "weakref.WeakSet" = weakref.WeakSet()


def hold(fd: int) -> None:
    """Keeps a descriptor of this process out of the children that it forks. If it is closed without release(), its
    number may be another file's at the next fork: that one is left alone.
    """
    status = os.fstat(fd)
    _held[fd] = status.st_dev, status.st_ino


def release(fd: int) -> None:
    """Has to be called before the descriptor is closed."""
    _held.pop(fd, None)


def tell(connection) -> None:
    """Registers a connection, whose forked() is called in children, after their copies are closed."""
    _told.add(connection)


def _in_child() -> None:
    held = dict(_held)
    _held.clear()
    for fd, file in held.items():
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != file:
                continue
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, fd, inheritable=False)  # not closed, because objects that are copies too will close the number once more
            os.close(null)
        except OSError:
            pass
    for connection in list(_told):
        connection.forked()


os.register_at_fork(after_in_child=_in_child)

__all__ = ["hold", "release", "tell"]
