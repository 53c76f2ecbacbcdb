"""The versions of the package and of the binary that it starts, which must be the same. They differ if HELVE_BINARY names the binary of another
release, or if an installation in place has a binary from before the last change of the version.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import helve

FIRST_LINE = re.compile(r"helve (?:version )?(\S+)(?: \((.*)\))?")  # of `helve --version`
TIME = 10.0  # seconds for the answer of a binary


def package() -> str:
    return os.path.dirname(os.path.abspath(helve.__file__))


def of_binary(path: str) -> tuple[str, str]:
    """The version that a binary says it has, and the Go and platform that it was built with. It raises ValueError or OSError if the file is no binary
    of Helve for this machine.
    """
    try:
        done = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=TIME)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} --version does not end") from None
    found = FIRST_LINE.fullmatch(done.stdout.strip())
    if done.returncode or found is None:
        raise ValueError(f"{path} is no binary of Helve: its --version prints {done.stdout.strip()[:200]!r} and ends with status {done.returncode}")
    return found[1], found[2] or ""


def mismatch(path: str, version: str) -> str:
    """The error of a binary of another version, with what to do about it; "" if the version is the package's."""
    if version == helve.__version__:
        return ""
    return f"{path} is helve {version or 'of an unknown version'}, and the package in {package()} is helve {helve.__version__}: {advice(path)}"


def advice(path: str) -> str:
    if os.environ.get("HELVE_BINARY"):
        return "unset HELVE_BINARY, which names that binary, or have it name one of the package's version"
    if os.path.isfile(os.path.join(package(), "..", "..", "pyproject.toml")):  # in a checkout
        return f"build the binary of this checkout again: pip install -e {os.path.normpath(os.path.join(package(), '..', '..'))}"
    return f"install the package again: pip install --force-reinstall --no-deps helve-serve=={helve.__version__}"


def why(path: str) -> str:
    """The reason why a binary does not start as a node, where its version or its file says it; "" otherwise."""
    try:
        return mismatch(path, of_binary(path)[0])
    except (OSError, ValueError) as e:
        text = f"{path}: {e.strerror}" if isinstance(e, OSError) else str(e)
        if isinstance(e, OSError) and "Exec format" in text:
            text += f" (it is for another kind of machine than this one, {platform.system()} on {platform.machine()})"
        return f"{text}; {advice(path)}"


def report() -> tuple[str, bool]:
    """The lines of `helve version`, and whether package and binary are of one version."""
    from helve import _driver

    path = _driver.binary()
    lines = [f"helve {helve.__version__} at {package()}", "", f"Python {platform.python_version()} at {sys.executable}"]
    try:
        version, built = of_binary(path)
        lines[1] = f"binary {version} at {path}" + (f", {built}" if built else "")
    except (OSError, ValueError):
        lines[1] = f"binary unknown at {path}"
    reason = why(path)
    return "\n".join(lines + [reason] * bool(reason)), not reason
