"""`helve ray-check`: the names of Ray that a program uses and that Helve does not have, each with its place and what to use instead. The
program is read, and not run.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterator, Optional

from helve import _refused

SKIP = frozenset(("__pycache__", "node_modules", "site-packages", "build", "dist"))


@dataclass(order=True, frozen=True)
class Finding:
    """A name that is not there."""

    file: str
    line: int
    column: int
    name: str
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.name}: {self.instead}"


class Reader(ast.NodeVisitor):
    """Finds the names of Ray in one file. A variable that an import made has one meaning in the whole file."""

    def __init__(self, file: str):
        self.file = file
        self.aliases: dict[str, str] = {}  # variable -> the name of Ray that it stands for
        self.found: set[Finding] = set()
        self.names: set[str] = set()

    def report(self, node: ast.AST, name: str, instead: str) -> None:
        self.found.add(Finding(self.file, node.lineno, node.col_offset + 1, name, instead))  # type: ignore[attr-defined]

    def check(self, node: ast.AST, name: str) -> None:
        self.names.add(name)
        text = mistake(name)
        if text is not None:
            self.report(node, *text)

    # ---- imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if _ray(alias.name):
                self.aliases[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
                self.names.add(alias.name)
                text = module_mistake(alias.name)
                if text is not None:
                    self.report(node, alias.name, text)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level or not _ray(module) and module != "helve":
            return
        text = module_mistake(module) if module != "helve" else None
        for alias in node.names:
            name = f"{module}.{alias.name}"
            if alias.name == "*" or not _ray(name):
                continue
            self.aliases[alias.asname or alias.name] = name
            if text is not None:
                self.names.add(name)
                self.report(alias, name, text)
            else:
                self.check(alias, name)

    # ---- uses

    def path(self, node: ast.AST) -> Optional[str]:
        """The name of Ray that an expression is, such as ray.serve.run; None for others."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id)
        if isinstance(node, ast.Attribute):
            of = self.path(node.value)
            return None if of is None else f"{of}.{node.attr}"
        return None

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self.path(node)
        if name is None:
            self.generic_visit(node)
        else:
            self.check(node, name)

    def visit_Call(self, node: ast.Call) -> None:
        name = self.path(node.func)
        known = parameters(name) if name is not None else None
        deployment = name is not None and _plain(name) == "serve.deployment"
        if deployment and known is not None:
            from helve.serve._options import OPTIONS

            known = [*known, *OPTIONS]  # with Helve's own
        options = deployment or isinstance(node.func, ast.Attribute) and node.func.attr == "options"
        for keyword in node.keywords:
            if keyword.arg is None:
                continue
            refused = _refused.option(keyword.arg) if options else None
            if refused is not None:
                self.report(keyword, f"option {keyword.arg}", refused)
            elif known is not None and keyword.arg not in known:
                text = f"{name} has no such parameter{_refused.close_names(keyword.arg, known)}"
                self.report(keyword, f"{name}({keyword.arg}=...)", text)
        self.generic_visit(node)


def _ray(name: str) -> bool:
    return name == "ray" or name.startswith("ray.") or name == "helve.serve" or name.startswith("helve.serve.")


def _plain(name: str) -> str:
    """A name as the table has it: without the package in front of serve."""
    for prefix in ("ray.", "helve."):
        if name.startswith(prefix + "serve"):
            return name[len(prefix):]
    return name


def module_mistake(name: str) -> Optional[str]:
    """What is wrong with the import of a module; None for nothing."""
    plain = _plain(name)
    row = _refused.table()["modules"].get(plain)
    if row is not None:
        return row.get("instead")
    parent, _, last = plain.rpartition(".")
    if parent and _refused.table()["modules"].get(parent, {}).get("names", {}).get(last, {}).get("is") == "yes":
        return None
    if plain.startswith("serve.") and _ours(plain) is not None:
        return None
    return _text(_refused.module(name))


def mistake(name: str) -> Optional[tuple]:
    """(name, what to use instead) for a name that is not there; None for others. Only the part that the table knows is looked at: of
    ray.serve.run.options, ray.serve.run.
    """
    modules = _refused.table()["modules"]
    parts = _plain(name).split(".")
    package = name[: len(name) - len(_plain(name))]
    for i in range(1, len(parts)):
        module, part = ".".join(parts[:i]), parts[i]
        at = package + ".".join(parts[: i + 1])
        if module == "ray" and part == "serve":
            continue
        row = modules.get(module, {}).get("names", {}).get(part)
        last = i == len(parts) - 1
        if row is not None and (last or f"{module}.{part}" not in modules):
            return None if row["is"] == "yes" else (at, row["instead"])
        inner = modules.get(f"{module}.{part}")
        if inner is not None:
            if "instead" in inner:
                return at, inner["instead"]
            continue
        if part.startswith("__") or module in modules and not modules[module]["names"]:  # a module of which the table lists no names
            return None
        ours = _ours(module)
        if ours is not None and hasattr(ours, part):
            return None
        if part.startswith("_"):
            return at, "it is private to Ray; docs/ray-serve.md lists the public names"
        return at, f"there is no such name{_refused.close_names(part, modules.get(module, {}).get('names', {}))}"
    return None


def _ours(plain: str) -> Optional[object]:
    """The module of Helve for serve and its submodules; None for others."""
    if plain != "serve" and not plain.startswith("serve."):
        return None
    try:
        return importlib.import_module("helve." + plain)
    except ImportError:
        return None


def _text(message: str) -> str:
    return message.partition(" is not in Helve: ")[2] or message


def parameters(name: str) -> Optional[list]:
    """The parameters of a function or class of the table; None if the table does not say."""
    module, _, last = _plain(name).rpartition(".")
    return _refused.table()["modules"].get(module, {}).get("names", {}).get(last, {}).get("parameters")


def files(paths: list) -> Iterator[Path]:
    """The Python files at and below paths."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        for directory, below, names in os.walk(path):
            below[:] = sorted(d for d in below if d not in SKIP and not d.startswith(".") and not (Path(directory) / d / "pyvenv.cfg").exists())
            yield from (Path(directory) / n for n in sorted(names) if n.endswith(".py"))


def check(source: str, file: str) -> Reader:
    """Reads a program. It raises SyntaxError for a text that is none."""
    tree = ast.parse(source, file)
    reader = Reader(file)
    for node in ast.walk(tree):  # imports first: a function may use a module that the file imports below
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            reader.visit(node)
    reader.visit(tree)
    return reader


def main(argv: list) -> int:
    p = argparse.ArgumentParser(
        prog="helve ray-check", description="List the names of Ray that Python programs use and Helve does not have, with what to use instead. "
        "The exit status is 1 if there are any.",
    )
    p.add_argument("paths", nargs="+", metavar="PATH", help="a file, or a directory with files")
    p.add_argument("-o", "--output", choices=("text", "json"), default="text", help="the form of the list")
    options = p.parse_args(argv)
    found: list = []
    read = names = 0
    for path in files(options.paths):
        read += 1
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            print(f"error: {path}: {getattr(e, 'strerror', None) or e}", file=sys.stderr)
            return 2
        try:
            reader = check(source, str(path))
        except (SyntaxError, ValueError) as e:
            found.append(Finding(str(path), getattr(e, "lineno", None) or 1, 1, "syntax", f"the file is no program of this version of Python: {getattr(e, 'msg', e)}"))
            continue
        names += len(reader.names)
        found += reader.found
    found.sort()
    if not read:
        print(f"error: {', '.join(options.paths)}: no Python programs are there", file=sys.stderr)
        return 2
    if options.output == "json":
        print(json.dumps([asdict(f) for f in found], indent=2))
    else:
        for f in found:
            print(f)
        where = f"{read} file{'s' if read != 1 else ''}"
        print(
            f"{len(found)} use{'s' if len(found) != 1 else ''} of what Helve does not have, in {where}" if found
            else f"{where}: Helve has all {names} names of Ray that they use; run them with `helve run --ray-compat`"
        )
    return 1 if found else 0


__all__ = ["Finding", "check", "main"]
