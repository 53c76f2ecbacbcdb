"""Programs of tests that run as users run them: by the command line, in a process of their own."""

import os
import subprocess
import sys
import textwrap

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("HELVE_", "RAY_"))}


def helve(*args, cwd, env=None, timeout=120):
    """`python -m helve args...`, and its end."""
    return subprocess.run(
        [sys.executable, "-m", "helve", *map(str, args)], cwd=cwd, env={**ENVIRONMENT, **(env or {})}, capture_output=True, text=True, timeout=timeout,
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
