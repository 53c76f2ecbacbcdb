"""Modules that are saved twice within a second: their bytecode is of the first save."""

import os
import subprocess
import sys

import pytest

SECOND = 1_000_000_000
WHEN = 1_700_000_000 * SECOND


def value(directory, before=""):
    """The value of the module in a new process, which may write bytecode."""
    code = f"import sys\nsys.path.insert(0, {str(directory)!r})\n{before}\nimport words\nprint(words.WORD)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-c", code], cwd=directory, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


OWN = "from helve import _bytecode\n_bytecode.from_source()"


@pytest.mark.parametrize("place, compiled, before, want", [
    ("", 500, "", "one"),  # Python's own rule
    ("", 500, OWN, "two"),
    ("", 700, OWN, "two"),  # the bytecode was written after the second save
    ("venv/lib/site-packages", 500, OWN, "one"),
])
def test_a_second_save_within_a_second(tmp_path, place, compiled, before, want):
    directory = tmp_path / place
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / "words.py"
    source.write_text("WORD = 'one'\n")
    os.utime(source, ns=(WHEN, WHEN))
    assert value(directory) == "one"
    [cached] = (directory / "__pycache__").glob("words.*.pyc")
    os.utime(cached, ns=(WHEN + compiled * 1_000_000,) * 2)
    source.write_text("WORD = 'two'\n")
    os.utime(source, ns=(WHEN + 600 * 1_000_000,) * 2)
    kept = cached.read_bytes()
    assert value(directory, before) == want
    assert cached.read_bytes() == kept


def test_no_bytecode_is_left(tmp_path):
    (tmp_path / "words.py").write_text("WORD = 'one'\n")
    assert value(tmp_path, OWN) == "one" and os.listdir(tmp_path) == ["words.py"]
