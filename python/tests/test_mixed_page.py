"""docs/mixed.md: its program in Python, with the program in Go of internal/e2e/mixed/ranker."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from helve.serve import _go

ROOT = Path(__file__).parents[2]


RANKER = ROOT / "internal" / "e2e" / "mixed" / "ranker"


def test_the_program_of_the_page(tmp_path):
    """The page has both programs whole, so that a reader who copies them has programs that run."""
    page = (ROOT / "docs" / "mixed.md").read_text()
    source = (RANKER / "main.go").read_text()
    assert re.search(r"```go\n(.*?)```", page, re.S)[1] == source[source.index("package main"):]
    program = re.search(r"```python\n(.*?)```", page, re.S)[1]
    (tmp_path / "program.py").write_text('from helve import serve\nserve.start(http_options={"port": None})\n' + program)
    shutil.copy(_go.compiled("Ranker", str(RANKER)), tmp_path / "ranker")  # an executable in place of its source
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "['two words', 'three']\n", done.stderr
