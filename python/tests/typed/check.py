"""The types of the public names, by both checkers: `make types`.

pyright in strict mode and mypy --strict accept the programs of this directory, and refuse exactly the lines of refused.py that say so. They accept the
programs of examples/python and examples/fastapi and the Python blocks of the README and of docs/, too, but for fragments (see test_pages.py) and
programs that import ray, which has no types here. For these mypy has two settings less, see python/pyproject.toml, which also says how it checks the
package itself.

Each checker runs once, over everything, and beside the other: their start takes longer than the programs do. completion.py asks beside them what an
editor shows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Set, Tuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent))

import completion  # noqa: E402
from test_pages import PAGES, blocks  # noqa: E402

DIRECTORIES = [HERE, ROOT / "examples/python", ROOT / "examples/fastapi"]
MARK = re.compile(r"# error: (?P<pyright>[\w ]+), (?P<mypy>[\w-]+)$")

# Rules of style, not of types. For example, a route of FastAPI is a function that its module does not use.
NOT_CHECKED = {rule: False for rule in ("reportUnusedClass", "reportUnusedFunction", "reportUnusedExpression", "reportUnusedVariable", "reportUnusedImport")}


class Mistake(NamedTuple):
    """An error that a checker has found."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text} [{self.rule}]"


def gather(to: Path) -> Dict[str, str]:
    """Writes all programs to a directory, where both checkers find them. The result has their places by the paths of the files.

    A program of a page whose first line is a comment with the name of a file gets that name, unless it is taken, because another one may import it.
    """
    places: Dict[str, str] = {}

    def write(name: str, place: str, text: str) -> None:
        file = to / f"{name}.py"
        if str(file) in places:
            file = to / f"{name}_{len(places)}.py"
        file.write_text(text, encoding="utf-8")
        places[str(file)] = place

    for directory in DIRECTORIES:
        for file in sorted(directory.glob("*.py")):
            if file.parent != HERE or file.name not in ("check.py", "completion.py"):
                write(file.stem, str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))
    for page in PAGES:
        above = ""
        for block in blocks(page, ("python",)):
            if block.mark in ("fragment", "other"):
                continue
            above = (above if block.mark == "continues" else "") + block.text
            if not re.search(r"^\s*(import|from) (helve\.)?ray", above, re.M):
                named = re.match(r"# (\w+)\.py\n", above)
                write(named[1] if named else re.sub(r"\W+", "_", block.place), f"{block.place}, its line", above)
    return places


def start_pyright(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(config)], stdout=subprocess.PIPE, text=True)


def of_pyright(said: str) -> List[Mistake]:
    found = json.loads(said)["generalDiagnostics"]
    return [
        Mistake(d["file"], d["range"]["start"]["line"] + 1, d.get("rule", "syntax"), d["message"]) for d in found if d["severity"] in ("error", "warning")
    ]


def start_mypy(files: List[str]) -> subprocess.Popen[str]:
    options = ["--config-file", str(ROOT / "python/pyproject.toml"), "--no-error-summary", "--hide-error-context", "--show-absolute-path"]
    environment = {**os.environ, "MYPY_CACHE_DIR": str(ROOT / ".cache/mypy")}
    return subprocess.Popen([sys.executable, "-m", "mypy", *options, *files], stdout=subprocess.PIPE, text=True, env=environment)


def of_mypy(said: str) -> List[Mistake]:
    found = []
    for line in said.splitlines():
        m = re.match(r"(?P<file>[^:]+):(?P<line>\d+): error: (?P<text>.*?)(?:  \[(?P<rule>[\w-]+)\])?$", line)
        if m:
            found.append(Mistake(m["file"], int(m["line"]), m["rule"] or "", m["text"]))
        elif ": note: " not in line:
            found.append(Mistake("mypy", 0, "", line))
    return found


def unlike(found: List[Mistake], refused: Path, checker: str) -> List[Mistake]:
    """The errors that are not expected, and the expected ones that are not there."""
    wanted: Dict[int, str] = {}
    for number, line in enumerate(refused.read_text(encoding="utf-8").splitlines(), 1):
        m = MARK.search(line)
        if m:
            wanted[number] = m[checker]
        elif "# error:" in line:
            raise SystemExit(f"{refused}:{number}: a mark is `# error: rule of pyright, rule of mypy`")
    there: Set[Tuple[int, str]] = {(m.line, m.rule) for m in found if m.file == str(refused)}
    wrong = [m for m in found if m.file != str(refused) or m.line not in wanted]
    return wrong + [Mistake(str(refused), n, rule, "this error was expected, and is not there") for n, rule in wanted.items() if (n, rule) not in there]


def main() -> int:
    directory = ROOT / ".cache/types"  # always the same: mypy keeps its results by the names of modules
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    places = gather(directory)
    config = directory / "pyrightconfig.json"
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.10", "enableTypeIgnoreComments": False, "include": ["."], "exclude": [], **NOT_CHECKED}
    config.write_text(json.dumps(settings))
    pyright, mypy = start_pyright(config), start_mypy([*places, str(ROOT / "python/src/helve")])
    editor = ROOT / ".cache/editor"
    editor.mkdir(exist_ok=True)
    not_shown = completion.check(editor)
    of_both = {"pyright": of_pyright(pyright.communicate()[0]), "mypy": of_mypy(mypy.communicate()[0])}
    wrong = [(checker, m) for checker, found in of_both.items() for m in unlike(found, directory / "refused.py", checker)]
    for checker, m in wrong:
        print(f"{checker}: {m._replace(file=places.get(m.file, m.file))}")
    for text in not_shown:
        print(text)
    mistakes = len(wrong) + len(not_shown)
    print(f"types: {len(places)} programs and the package, {mistakes} mistakes")
    return 1 if mistakes else 0


if __name__ == "__main__":
    raise SystemExit(main())
