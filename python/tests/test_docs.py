"""The code of docs/fastapi.md, docs/guide-python.md and docs/migrate.md: the programs run, and the curl commands print what the pages say."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ports import free_port
from helve import _driver, serve

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str) -> list:
    """The blocks of a page but those that test_pages.py only compiles. Commands other than curl are left to test_pages.py as well."""
    return re.findall(r"^(?!<!-- (?:other|fragment))[^\n]*\n```(python|console)\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def port():
    port = free_port()
    serve.shutdown()
    serve.start(http_options={"port": port})
    yield port
    serve.shutdown()
    _driver._http = None


def test_the_page_has_code():
    assert [kind for kind, _ in blocks("fastapi.md")].count("console") >= 4 and len(blocks("fastapi.md")) >= 10


@pytest.mark.parametrize("page", ["fastapi.md", "guide-python.md", "migrate.md"])
def test_the_code_of_the_page(port, page):
    for i, (kind, text) in enumerate(blocks(page)):
        text = text.replace("localhost:8000", f"127.0.0.1:{port}")
        if kind == "python":
            exec(compile(text, f"docs/{page} block {i}", "exec"), {"__name__": f"page_block_{i}"})
            continue
        for command, output in re.findall(r"^\$ (curl .*)\n((?:(?!\$ ).*\n)*)", text, re.M):
            done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60)
            assert done.stdout.rstrip("\n") == output.rstrip("\n"), (command, done.stderr)
