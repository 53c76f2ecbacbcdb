"""The lists of names in docs/ray-serve.md, made from the table python/src/helve/_surface.json. `python python/tests/surface_page.py` writes them."""

from pathlib import Path

from helve import _refused

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ray-serve.md"
BEGIN, END = "<!-- From _surface.json, by python/tests/surface_page.py. -->\n", "<!-- The end of the lists. -->\n"


def lists():
    """The names of all modules: those that are there, and for each refused one what to use instead."""
    modules = _refused.table()["modules"]
    lines = ["", "| module | names that are there |", "|---|---|"]
    for module, rows in modules.items():
        there = [n for n, row in rows["names"].items() if row["is"] == "yes" and f"{module}.{n}" not in modules]
        if there:
            lines.append(f"| `{_ray(module)}` | {', '.join(f'`{n}`' for n in there)} |")
    lines += ["", "| refused | use instead |", "|---|---|"]
    refused: dict = {}
    for module, rows in modules.items():
        if "instead" in rows:
            refused.setdefault(rows["instead"], []).append(f"`{_ray(module)}`")
            continue
        for name, row in rows["names"].items():
            if row["is"] == "refused" and f"{module}.{name}" not in modules:
                when = " (where a deployment uses it)" if row.get("when") == "used" else ""
                refused.setdefault(row["instead"], []).append(f"`{_ray(module)}.{name}`{when}")
    for name, row in _refused.table()["options"].items():
        if row["is"] == "refused":
            refused.setdefault(row["instead"], []).append(f"option `{name}`")
    lines += [f"| {', '.join(names)} | {text} |" for text, names in refused.items()]
    return "\n".join(lines) + "\n\n"


def _ray(module):
    return module if module.startswith("ray") else f"ray.{module}"


def page():
    """The page with the lists of the table."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + lists() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page())
