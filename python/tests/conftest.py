"""Fixtures of several files."""

import atexit
import os
import shutil
import signal
import tempfile

import pytest

os.environ["HELVE_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="ht-")  # nodes of other programs of this user are not found from here
os.environ["HELVE_STATE_DIR"] = os.path.join(os.environ["HELVE_RUNTIME_DIR"], "none")  # nor a durable one in its usual place, in which a program would deploy

def _remove(directory: str, of: int) -> None:
    if os.getpid() == of:  # not in a process that a test has forked
        shutil.rmtree(directory, ignore_errors=True)


atexit.register(_remove, os.environ["HELVE_RUNTIME_DIR"], os.getpid())
# A shell that starts the tests in the background may let them ignore SIGINT, and each program that they start does so too: a test of Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("HELVE_NODE", "HELVE_PARENT_NODE", "PYTHONUNBUFFERED"):  # programs of users buffer their output
    os.environ.pop(name, None)

from eventually import eventually  # noqa: E402
from fake_node import Node  # noqa: E402

from helve import _driver, _find  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def alone():
    """Each file begins and ends without a node, so that files may run in any order and in several processes. The node of a program that a test has killed
    ends by itself: until then another file would find it.
    """
    _driver.shutdown()
    _driver._http = None
    yield
    _driver.shutdown()
    _driver._http = None
    eventually(lambda: not _find.running())


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
