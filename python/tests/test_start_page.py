"""docs/start-python.md: its programs run in a directory of their own, and its commands print the lines that the page shows.

A block of Python that begins with `# NAME.py` is a file. In a block of `console` a line `$ COMMAND` is run, and the lines below it must be in its output in their
order; `...` stands for any text. `helve run` serves until the next command that starts a node.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ports import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "start-python.md"
BLOCKS = re.findall(r"^```(python|console)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
BIN = os.path.dirname(sys.executable)


def absent(lines: list, output: str) -> list:
    """The lines that are not in the output, in their order."""
    pattern = [re.escape(line).replace(re.escape("..."), ".*") for line in lines]
    position, left = 0, []
    for line in pattern:
        found = re.compile(rf"^{line}", re.M).search(output, position)
        if found:
            position = found.end()
        else:
            left.append(line)
    return left


class Terminal:
    def __init__(self, directory: Path):
        self.directory = directory
        self.port = free_port()
        self.server = None
        self.environment = dict(os.environ, PATH=f"{BIN}:{os.environ['PATH']}", PYTHONDONTWRITEBYTECODE="1")

    def run(self, command: str) -> str:
        """What a command prints. A server is started, and has printed its address."""
        command = command.replace("localhost:8000", f"127.0.0.1:{self.port}")
        words = shlex.split(command)
        if words[:2] == ["helve", "run"] or (words[0] == "python" and words[1].endswith(".py")):
            self.stop()
            words = ["helve", "run", "--port", str(self.port), *(words[2:] if words[0] == "helve" else words[1:])]
        serves = words[:2] == ["helve", "run"] and any(":" in word for word in words[4:])
        output = self.directory / "output"
        with open(output, "wb") as file:
            process = subprocess.Popen(words, cwd=self.directory, stdout=file, stderr=subprocess.STDOUT, env=self.environment)
        if not serves:
            process.wait(60)
            return self.text(output)
        self.server = process
        deadline = time.monotonic() + 60
        while "is ready at" not in self.text(output):
            assert process.poll() is None and time.monotonic() < deadline, self.text(output)
            time.sleep(0.02)
        return self.text(output)

    def text(self, output: Path) -> str:
        return output.read_text().replace(f"127.0.0.1:{self.port}", "127.0.0.1:8000")

    def stop(self) -> None:
        if self.server:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(60)
            self.server = None


@pytest.fixture
def terminal(tmp_path):
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.stop()


def test_the_page(terminal):
    commands = 0
    for kind, text in BLOCKS:
        if kind == "python":
            name = text.partition("\n")[0].removeprefix("# ")
            assert name.endswith(".py"), "a program of the page begins with the name of its file"
            (terminal.directory / name).write_text(text)
            continue
        for command, lines in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.M):
            commands += 1
            output = terminal.run(command)
            assert absent(lines.splitlines(), output) == [], f"$ {command}\n{output}"
    assert commands >= 8


def test_absent_lines():
    assert absent(["a", "c ..."], "a\nb\nc 3\n") == []
    assert absent(["c", "a"], "a\nb\nc\n") == ["a"]
