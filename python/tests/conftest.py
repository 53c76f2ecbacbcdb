"""Fixtures of several files."""

import atexit
import os
import shutil
import tempfile

import pytest

os.environ["HELVE_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="ht-")  # nodes of other programs of this user are not found from here

def _remove(directory: str, of: int) -> None:
    if os.getpid() == of:  # not in a process that a test has forked
        shutil.rmtree(directory, ignore_errors=True)


atexit.register(_remove, os.environ["HELVE_RUNTIME_DIR"], os.getpid())
for name in ("HELVE_NODE", "HELVE_PARENT_NODE"):
    os.environ.pop(name, None)

from fake_node import Node  # noqa: E402


@pytest.fixture
def node():
    """Makes nodes, which end with the test."""
    made = []

    def make(target, *args, **kwargs):
        made.append(Node(target, *args, **kwargs))
        return made[-1]

    yield make
    for n in made:
        n.stop()
