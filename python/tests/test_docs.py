"""The code of docs/fastapi.md: its programs run, and its curl commands print what the page says."""

import re
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from helve import _driver, serve

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fastapi.md"
BLOCKS = re.findall(r"^```(python|console)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    serve.shutdown()
    serve.start(http_options={"port": port})
    yield port
    serve.shutdown()
    _driver._http = None


def test_the_page_has_code():
    assert [kind for kind, _ in BLOCKS].count("console") >= 4 and len(BLOCKS) >= 10


def test_the_code_of_the_page(port):
    for i, (kind, text) in enumerate(BLOCKS):
        text = text.replace("localhost:8000", f"127.0.0.1:{port}")
        if kind == "python":
            exec(compile(text, f"docs/fastapi.md block {i}", "exec"), {"__name__": f"fastapi_block_{i}"})
            continue
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.M):
            done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60)
            assert done.stdout.rstrip("\n") == output.rstrip("\n"), (command, done.stderr)
