"""docs/mixed.md: its program in Python, with the program in Go of internal/e2e/mixed/ranker."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from helve.serve import _go

ROOT = Path(__file__).parents[2]


def test_the_program_of_the_page(tmp_path):
    page = (ROOT / "docs" / "mixed.md").read_text()
    program = re.search(r"```python\n(.*?)```", page, re.S)[1]
    (tmp_path / "program.py").write_text('from helve import serve\nserve.start(http_options={"port": None})\n' + program)
    shutil.copy(_go.compiled("Ranker", str(ROOT / "internal" / "e2e" / "mixed" / "ranker")), tmp_path / "ranker")  # an executable in place of its source
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "['two words', 'three']\n", done.stderr
