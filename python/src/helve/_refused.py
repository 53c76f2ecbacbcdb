"""The names of Ray Serve's API that Helve refuses, and what to use instead. The table of all names is _surface.json; ``helve ray-check`` and
the tests read it too.
"""

from __future__ import annotations

import functools
import json
import opcode
import os
import sys
from typing import Any, Callable, Iterable, NoReturn, Optional

IMPORT_FROM = opcode.opmap["IMPORT_FROM"]


@functools.lru_cache(maxsize=None)
def table() -> dict:
    """The content of _surface.json."""
    with open(os.path.join(os.path.dirname(__file__), "_surface.json"), encoding="utf-8") as file:
        return json.load(file)


def _own(module: str) -> str:
    """A module of Ray by its name in the table. For example, ray.serve.config and helve.serve.config are serve.config."""
    for prefix in ("helve.serve", "ray.serve"):
        if module == prefix or module.startswith(prefix + "."):
            return module.partition(".")[2]
    return module


def instead(module: str, name: str) -> Optional[str]:
    """What to use instead of a name of a module; None if the name is not refused."""
    row = table()["modules"].get(_own(module), {}).get("names", {}).get(name)
    return None if row is None or row["is"] == "yes" or row.get("when") == "used" else row["instead"]


def option(name: str) -> Optional[str]:
    """What to use instead of an option of deployments; None if the option is not refused."""
    row = table()["options"].get(name)
    return None if row is None or row["is"] == "yes" else row["instead"]


def module(name: str) -> str:
    """The text for a module that is not there."""
    rows, own = table()["modules"], _own(name)
    at = own
    while at:  # ray.data.preprocessors is refused as a part of ray.data
        if "instead" in rows.get(at, {}):
            return f"{name} is not in Helve: {rows[at]['instead']}"
        at = at.rpartition(".")[0]
    if any(part.startswith("_") for part in own.split(".")):
        return f"{name} is not in Helve: it is a private module of Ray, and no program can rely on it; the public names are in docs/ray-serve.md"
    parent, _, last = own.rpartition(".")
    hint = close_names(last, [m[len(parent) + 1:] for m in rows if m.startswith(parent + ".")])
    return f"{name} is not in Helve{hint or ': it serves deployments only, with the API of ray.serve'}; docs/ray-serve.md lists what there is"


def close_name(name: str, known: Iterable[str]) -> Optional[str]:
    """The one of the known names that a typo may have meant; None if none is close."""
    import difflib  # when there is a mistake

    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)


def close_names(name: str, known: Iterable[str]) -> str:
    """A question for the one of the known names that a typo may have meant; "" if none is close."""
    close = close_name(name, known)
    return f"; did you mean {close!r}?" if close else ""


def message(module: str, name: str, known: Iterable[str] = ()) -> str:
    """The text for a name that a module does not have."""
    text = instead(module, name)
    if text is not None:
        return f"{_own(module)}.{name} is not in Helve: {text}"
    return f"module {module!r} has no attribute {name!r}{close_names(name, known)}"


def fail(module: str, name: str, known: Iterable[str] = ()) -> NoReturn:
    """The end of a module's __getattr__: the error for a name that it does not have. known are the names that a typo may have meant.

    `from module import name` gets an ImportError, because Python would replace the text of an AttributeError by its own.
    """
    if name.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    text = message(module, name, known or _public(module))
    importer = sys._getframe(2)
    if importer.f_lasti >= 0 and importer.f_code.co_code[importer.f_lasti] == IMPORT_FROM:
        raise ImportError(text, name=module)
    raise AttributeError(text, name=name, obj=None)  # without these Python adds a suggestion of its own to the one of the text


def attributes(module: str, load: Optional[Callable[[str], Any]] = None, known: Iterable[str] = ()) -> Callable[[str], Any]:
    """The function __getattr__ of a module whose refused names are errors that say what to use instead. load gives the attributes that
    are imported when they are first used, and raises KeyError for others.
    """

    def __getattr__(name: str) -> Any:
        if load is not None:
            try:
                return load(name)
            except KeyError:
                pass
        fail(module, name, known)

    return __getattr__


def _public(module: str) -> list:
    found = sys.modules.get(module)  # None for a module under another name that is being imported
    return [n for n in vars(found) if not n.startswith("_")] if found is not None else []


class Finder:
    """The last finder of imports. It refuses the modules of Ray Serve that Helve does not have, by their names below helve.serve."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.startswith("helve.serve.") and "instead" in table()["modules"].get(_own(name), {}):
            raise ImportError(module(name), name=name)


def install() -> None:
    if Finder not in sys.meta_path:
        sys.meta_path.append(Finder)


__all__ = ["Finder", "attributes", "close_name", "close_names", "fail", "install", "instead", "message", "module", "option", "table"]
