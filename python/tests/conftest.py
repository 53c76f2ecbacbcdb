"""Fixtures of several files."""

import pytest
from fake_node import Node


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
