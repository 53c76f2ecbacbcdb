"""Code in the pages of the documentation: Python blocks compile and use names that exist, and the commands of shell blocks have their flags.

A block of Python is a whole program. The line above its fence may say otherwise:

- `<!-- continues -->`: the block goes on where the blocks above it on the page end.
- `<!-- fragment -->`: names are missing, which the text explains.
- `<!-- other: reason -->`: the block is not for Helve, for example the program before a migration. It is only compiled.

Programs of some pages run, too: test_docs.py has those of docs/fastapi.md and docs/start-python.md, test_ray_serve_page.py those of docs/ray-serve.md.
"""

import ast
import builtins
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "bench/README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]
FENCE = re.compile(r"^(?P<above>[^\n]*)\n(?P<indent> *)```(?P<kind>[a-z]+)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
MARK = re.compile(r"<!-- (continues|fragment|other)\b.*-->")


class Block(NamedTuple):
    place: str  # "docs/models.md, line 12"
    mark: str  # "", "continues", "fragment" or "other"
    text: str


def blocks(page: Path, kinds: tuple) -> list:
    text = "\n" + page.read_text(encoding="utf-8")
    found = []
    for m in FENCE.finditer(text):
        if m["kind"] in kinds:
            mark = MARK.match(m["above"].strip())
            place = f"{page.relative_to(ROOT)}, line {text.count(chr(10), 0, m.start('text'))}"
            found.append(Block(place, mark[1] if mark else "", textwrap.dedent(m["text"])))
    return found


def missing_names(tree: ast.Module) -> set:
    """The names of a program that nothing in it defines. Scopes are not told apart: that is enough to find a program that is not whole."""
    loaded, defined = set(), set(dir(builtins)) | {"__file__", "__name__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            defined.add(node.name)
    return loaded - defined


def unknown_names(tree: ast.Module) -> list:
    """The names of helve that a program imports or takes from `serve`, and that are not there."""
    wanted = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "helve":
            wanted += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            wanted += [(alias.name, "") for alias in node.names if alias.name.split(".")[0] == "helve"]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "serve":
            wanted.append(("helve.serve", node.attr))
    unknown = []
    for module, name in wanted:
        try:
            if name:
                getattr(importlib.import_module(module), name)
            else:
                importlib.import_module(module)
        except (ImportError, AttributeError):
            unknown.append(f"{module} has no {name}")
    return unknown


def mistakes(page_blocks: list) -> list:
    found = []
    above = ""
    for block in page_blocks:
        try:
            program = ast.parse(above + block.text if block.mark == "continues" else block.text)
        except SyntaxError as e:
            found.append(f"{block.place}: {e}")
            continue
        if block.mark == "other":
            continue
        found += [f"{block.place}: {unknown}" for unknown in unknown_names(program)]
        if block.mark != "fragment":
            if names := missing_names(program):
                found.append(f"{block.place}: nothing defines {', '.join(sorted(names))}: mark it as a fragment, or complete it")
            above = (above if block.mark == "continues" else "") + block.text
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_blocks(page):
    assert mistakes(blocks(page, ("python",))) == []


def test_pages_have_python_blocks():
    found = [block for page in PAGES for block in blocks(page, ("python",))]
    assert len([block for block in found if block.mark == ""]) > 15


def test_mistakes_are_found():
    texts = {
        "from helve import serve\nserve.run(app)": "nothing defines app",
        "from helve import serve\nserve.walk()": "helve.serve has no walk",
        "from helve.serve.handle import Handle": "helve.serve.handle has no Handle",
        "import helve.served": "helve.served has no",
        "def f(": "was never closed",
    }
    for text, mistake in texts.items():
        assert mistake in " ".join(mistakes([Block("a page", "", text)])), text
    assert mistakes([Block("a page", "", "a = 1\n"), Block("a page", "continues", "print(a)\n"), Block("a page", "fragment", "b")]) == []


# Programs of the pages that have a command line of cli.Main; bin/NAME is built by `make build`.
GO_PROGRAMS = {"hello", "bin/hello", "bin/helve", "go run ./examples/hello", "go run ./examples/iris"}
COMMAND = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*((?:helve|hello|bin/hello|go run \./examples/hello)\b.*)$", re.M)


def commands() -> list:
    found = []
    for page in PAGES:
        for block in blocks(page, ("sh", "console", "bash")):
            text = block.text.replace("\\\n", " ")
            for line in COMMAND.findall(text):
                found.append((block.place, line))
    return found


def help_of(command: list) -> str:
    if command == ["ray-compat"]:  # its arguments are a module and that module's
        command = []
    helve = shutil.which("helve", path=os.path.dirname(sys.executable))
    done = subprocess.run([helve, *command, "--help"], capture_output=True, text=True, timeout=60)
    return done.stdout if done.returncode == 0 else ""


def test_commands_of_pages():
    helps: dict = {}
    unknown = []
    found = commands()
    for place, line in found:
        line = line.removeprefix("go run ./examples/")
        words = shlex.split(line.split("|")[0].split(">")[0].split("<")[0].rstrip("& "), comments=True)[1:]
        flags = [re.split("=", w)[0] for w in words[: words.index("--") if "--" in words else None] if re.match("--?[a-z]", w)]
        command = words[0] if words and re.fullmatch(r"[a-z][a-z-]*", words[0]) and words[0] != "hello" else ""
        if command in ("state", "token", "autoscale"):  # they have commands of their own
            command = " ".join(words[:2])
        if command not in helps:
            helps[command] = help_of(command.split())
        if not helps[command]:
            unknown.append(f"{place}: there is no command {command!r}, in: {line}")
        unknown += [f"{place}: {command} has no flag {flag}, in: {line}" for flag in flags if not re.search(rf"(?<![\w-]){re.escape(flag)}\b", helps[command])]
    assert unknown == []
    assert len(found) >= 10
