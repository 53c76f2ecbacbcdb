"""Fixtures of the examples' tests."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def local():
    """Each example has a node of its own. Without this a program attaches to a durable node that this user runs, and deploys the example there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HELVE_NODE", "local")
        yield
