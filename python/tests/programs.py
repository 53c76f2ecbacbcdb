"""Programs of tests that run as users run them: by the command line, in a process of their own."""

import os
import re
import subprocess
import sys
import tempfile
import textwrap

# The nodes of the programs are in a directory of these tests: in the common one a program without a node would find those of tests beside it.
# So are durable nodes, which would be in the usual place of this user.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k in ("HELVE_RUNTIME_DIR", "HELVE_STATE_DIR") or not k.startswith(("HELVE_", "RAY_"))}


def helve(*args, cwd, env=None, timeout=120):
    """`python -m helve args...`, and its end."""
    with tempfile.TemporaryDirectory(dir=ENVIRONMENT["HELVE_RUNTIME_DIR"], ignore_cleanup_errors=True) as alone:  # no other node is found there
        return subprocess.run(
            [sys.executable, "-m", "helve", *map(str, args)], cwd=cwd, env={**ENVIRONMENT, "HELVE_RUNTIME_DIR": alone, **(env or {})},
            capture_output=True, text=True, timeout=timeout,
        )


def program(directory, name, text):
    """A file with a program, and its path."""
    path = directory / name
    path.write_text(textwrap.dedent(text))
    return path


def output(done):
    """The output of a program that has succeeded."""
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


SLOW = "The node waits for calls that still run"  # the beginning of a line of the driver, where the end of its node takes over two seconds


def own_lines(stderr):
    """The lines of the program itself. Lines of its replicas and of its node begin with a name in parentheses; they come from other processes, and so
    anywhere between the program's own. On a slow machine the driver adds a line, too.
    """
    return [line for line in stderr.splitlines() if not re.match(r"\(\S+\) ", line) and not line.startswith(SLOW)]
