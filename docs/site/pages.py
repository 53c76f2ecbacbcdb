"""The pages of the site, made from the Markdown of the repository: python docs/site/pages.py OUTPUT.

The pages in docs/ are plain Markdown, which GitHub shows as it is. The site needs a few changes, which this program makes on copies:

- Links out of docs/, such as ../examples/chat, lead to the repository on GitHub, but for the pages of OUTSIDE, which the site has too.
- The list of pages in docs/index.md becomes the navigation: its headings are the captions, and its links are the entries, in their order.
- Go code loses the indentation that all of its lines have: a block is a part of a file that compiles, and often stands inside of a function there.
- Drawings in SVG become a part of their page, so that they are dark where the page is.
- Diagrams of Mermaid, which GitHub draws, are left out: their tables say the same, and the library that draws them is larger than the site.
- A line `<!-- api: helve.serve without A B -->` becomes the reference of the public names of that module but A and B, from their docstrings.
"""

import importlib
import inspect
import re
import shutil
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REPOSITORY = "https://github.com/helve-serve/helve"
# Pages of the repository that stand outside of docs/, and their names in the site.
OUTSIDE = {"ARCHITECTURE.md": "architecture.md", "CHANGELOG.md": "changelog.md", "bench/README.md": "benchmarks.md"}

LINK = re.compile(r"(\]\()([^()\s]+)(\))")
PICTURE = re.compile(r"^!\[([^]]*)\]\(([^()\s]+\.svg)\)$", re.M)
FENCE = re.compile(r"^(```+).*?^\1\s*$", re.M | re.S)


def target(page: Path, link: str) -> str:
    """The link of a page as it is in the site. page is the path of its file in the repository."""
    if re.match(r"[a-z]+:", link) or link.startswith("#"):
        return link
    path, _, anchor = link.partition("#")
    anchor = "#" + anchor if anchor else ""
    file = (page.parent / path).resolve()
    name = file.relative_to(ROOT).as_posix()
    if name in OUTSIDE:
        return OUTSIDE[name] + anchor
    if file.is_relative_to(DOCS) and not file.is_relative_to(DOCS / "site"):
        return file.relative_to(DOCS).as_posix() + anchor
    return f"{REPOSITORY}/{'tree' if file.is_dir() else 'blob'}/main/{name}{anchor}"


def changed(text: str, change) -> str:
    """The text of a page after `change` for the parts that are no code, and code() for the blocks of code."""
    end, parts = 0, []
    for block in FENCE.finditer(text):
        parts += [change(text[end:block.start()]), code(block)]
        end = block.end()
    return "".join(parts) + change(text[end:])


def navigation(index: str) -> str:
    """The table of contents that the lists of docs/index.md are."""
    trees = []
    for section in re.split(r"^## ", index, flags=re.M)[1:]:
        caption, _, body = section.partition("\n")
        pages = [f"{m[1]} <{m[2].removesuffix('.md')}>" for m in re.finditer(r"^- \[([^]]+)\]\((\S+)\)", body, re.M)]
        if pages:
            trees.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]))
    return "\n\n".join(trees)


def picture(file: Path, text: str) -> str:
    """A drawing of the project, as a part of the page, so that it follows the page from light to dark. Its colours are variables in its <style>."""
    drawing = re.sub(r"^\s*<!--.*?-->\n|\n\s*\n", "", file.read_text(encoding="utf-8"), flags=re.M | re.S)
    if 'class="helve"' not in drawing:
        return f"![{text}]({file.relative_to(DOCS).as_posix()})"
    return f'```{{raw}} html\n<div class="drawing">{drawing}</div>\n```'


def code(block: re.Match) -> str:
    """A block of code as it is in the site."""
    first, _, rest = block.group(0).partition("\n")
    if first == "```mermaid":
        return ""
    if first == "```go":
        body, end, _ = rest.rpartition("```")
        return f"{first}\n{textwrap.dedent(body)}{end}"
    return block.group(0)


def reference(modules: str, seen: set) -> str:
    """The directives of autodoc for the public names of a module that are not seen yet, in the order of its `__all__`."""
    lines = []
    module, _, without = modules.partition(" without ")
    found = importlib.import_module(module)
    for name in found.__all__:
        value = getattr(found, name)
        if name.startswith("_") or name in without.split() or not inspect.getdoc(value) or not getattr(value, "__module__", "helve").startswith("helve"):
            continue
        if (identity := (value.__module__, name)) in seen:
            continue
        seen.add(identity)
        kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
        lines += [f".. auto{kind}:: {module}.{name}", ""]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def main(output: Path) -> None:
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(DOCS, output, ignore=shutil.ignore_patterns("site", "*.md"))
    (output / "_static").mkdir()
    shutil.copy(DOCS / "site" / "helve.css", output / "_static")
    shutil.copy(DOCS / "site" / "conf.py", output)
    pages = {page: output / page.relative_to(DOCS) for page in DOCS.rglob("*.md") if not page.is_relative_to(DOCS / "site")}
    pages |= {ROOT / page: output / name for page, name in OUTSIDE.items()}
    for page, copy in pages.items():
        text = page.read_text(encoding="utf-8")
        text = changed(text, lambda part: LINK.sub(lambda m: m[1] + target(page, m[2]) + m[3], part))  # noqa: B023
        if page == DOCS / "index.md":
            text += "\n" + navigation(text)
        text = PICTURE.sub(lambda m: picture(page.parent / m[2], m[1]), text)  # noqa: B023
        seen: set = set()
        text = re.sub(r"^<!-- api: ([\w. ]+) -->$", lambda m: reference(m[1], seen), text, flags=re.M)  # noqa: B023
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
