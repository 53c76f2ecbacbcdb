"""Modules that are saved twice within a second: their bytecode is of the first save."""

import os
import subprocess
import sys

import pytest

SECOND = 1_000_000_000
WHEN = 1_700_000_000 * SECOND


def value(directory, before=""):
    """The value of the module in a new process, which writes bytecode."""
    code = f"{before}\nimport words\nprint(words.WORD)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-c", code], cwd=directory, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.mark.parametrize("saved, compiled, distrusted, want", [
    (600, 500, False, "one"),  # Python's own rule
    (600, 500, True, "two"),
    (600, 600, True, "two"),  # the clock of the file system is coarse
    (600, 700, True, "one"),  # the bytecode of the last save, as far as the times tell
])
def test_a_second_save_within_a_second(tmp_path, saved, compiled, distrusted, want):
    source = tmp_path / "words.py"
    source.write_text("WORD = 'one'\n")
    os.utime(source, ns=(WHEN, WHEN))
    assert value(tmp_path) == "one"
    [cached] = (tmp_path / "__pycache__").glob("words.*.pyc")
    os.utime(cached, ns=(WHEN + compiled * 1_000_000,) * 2)
    source.write_text("WORD = 'two'\n")
    os.utime(source, ns=(WHEN + saved * 1_000_000,) * 2)
    assert value(tmp_path, "from helve import _bytecode\n_bytecode.distrust()" if distrusted else "") == want


def test_there_is_no_bytecode_and_no_module(tmp_path):
    from helve import _bytecode

    _bytecode.drop(str(tmp_path / "none.py"))
    (tmp_path / "m.py").write_text("")
    _bytecode.drop(str(tmp_path / "m.py"))
    assert os.listdir(tmp_path) == ["m.py"]
