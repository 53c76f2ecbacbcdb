"""Names that mean the same in Go and in Python."""

from __future__ import annotations

from typing import Iterable, Optional

HIDDEN = "_hidden."  # applications whose names begin with it are tasks and actors of --ray-compat: serve.status() leaves them out


def snake_case(s: str) -> str:
    """A Go name in the form that Python uses. An initialism is one word: GetURL is get_url."""
    out = []
    for i, c in enumerate(s):
        if c.isupper() and i > 0 and s[i - 1] != "_":
            before = s[i - 1].islower() or s[i - 1].isdigit()
            after = i + 1 < len(s) and s[i + 1].islower()
            if before or after:
                out.append("_")
        out.append(c.lower())
    return "".join(out)


def is_private(name: str) -> bool:
    """Whether a name begins with one underscore. Handles call such methods, as in Ray Serve, and no list has them."""
    return name.startswith("_") and not name.startswith("__")


def match_name(want: str, have: Iterable[str]) -> Optional[str]:
    """Finds want in have. An exact match comes first, then the name in snake case, then a name that is the same in the other language's case. Of
    several such names none is found: "get_url" is not found among "GetURL" and "GetUrl".
    """
    have = list(have)
    snake = snake_case(want)
    for name in (want, snake):
        if name in have:
            return name
    same = {h for h in have if snake_case(h) == snake}
    return same.pop() if len(same) == 1 else None
