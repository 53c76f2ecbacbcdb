"""Fixtures of several files."""

import os
import tempfile

import pytest

os.environ["HELVE_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="ht-")  # nodes of other programs of this user are not found from here
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
