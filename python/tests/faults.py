"""Helpers of the tests that end, stop and starve processes."""

import os
import threading
import time

from helve import _driver

PATIENCE = 120  # seconds that a condition may take; a test that holds waits for a fraction of it


def until(condition, what):
    """The first true value of a condition. It is asked again and again; the waits of a millisecond only leave the processor to others."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        threading.Event().wait(0.001)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


def raised(fn):
    """The exception that fn raises."""
    try:
        value = fn()
    except Exception as e:
        return e
    raise AssertionError(f"it gave {value!r}")


def node_pid():
    return _driver._driver.process.pid


def replicas(deployment, app="default"):
    """The replicas of a deployment that run, as the node describes them."""
    status = _driver._driver.control("status")["applications"][app]["deployments"][deployment]
    return [r for r in status["replicas"] or [] if r["state"] == "RUNNING"]


def pids(deployment, app="default"):
    return {r["pid"] for r in replicas(deployment, app)}


def alive(pid):
    """Whether a process runs. A zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pss(pid):
    """The memory of a process in bytes: its own, and its part of shared memory. The pages of programs and libraries are left out, because their
    share falls and rises with other processes that run the same program.
    """
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) << 10 for line in f if line.startswith(("Pss_Anon:", "Pss_Shmem:", "SwapPss:")))


class Ledger:
    """A file to which replicas append a line for each call, so that the executed calls are known after their death."""

    def __init__(self, path):
        self.path = str(path)

    def write(self, line):
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(fd, f"{line}\n".encode())
        finally:
            os.close(fd)

    def lines(self):
        try:
            with open(self.path) as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def has(self, line):
        return line in self.lines()
