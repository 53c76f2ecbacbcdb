"""Signals to a worker: see helve._signals."""

import subprocess
import sys

import pytest

PROLOGUE = """
import multiprocessing, os, signal, subprocess, sys
from helve import _signals
orphan = False
def end(why):
    print(why, flush=True)
    os._exit(7)
_signals.shield(lambda: orphan, end)
def send(s):
    os.kill(os.getpid(), s)
    for _ in range(1000): pass  # a handler of Python runs between two steps
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", PROLOGUE + code], stdout=subprocess.PIPE, text=True, timeout=60)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_worker_goes_on_while_it_has_a_node(name):
    done = run(f"send(signal.{name}); print('goes on', flush=True); orphan = True; send(signal.{name}); print('lives', flush=True)")
    assert done.stdout == f"goes on\nhelve: {name} while no node had taken over\n"
    assert done.returncode == 7


def test_a_handler_of_the_users_own_stays():
    done = run("signal.signal(signal.SIGTERM, lambda *_: print('mine', flush=True)); send(signal.SIGTERM)")
    assert (done.stdout, done.returncode) == ("mine\n", 0)


def test_what_was_ignored_stays_so():
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + PROLOGUE + "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"


def test_what_a_worker_starts_has_the_default_actions():
    """A forked child ends by SIGTERM (multiprocessing's terminate), and so does another program."""
    done = run("""
ready = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(ready[1], b"x")
    signal.pause()
    os._exit(0)
os.read(ready[0], 1)
os.kill(pid, signal.SIGTERM)
print(os.WTERMSIG(os.waitpid(pid, 0)[1]), flush=True)
for s in ("TERM", "INT", "HUP"):
    print(subprocess.run(["/bin/sh", "-c", f"kill -{s} $$; echo lives"]).returncode, flush=True)
""")
    assert done.stdout.split() == ["15", "-15", "-2", "-1"]
    assert done.returncode == 0
