"""Placeholders of files, such as ${env:API_KEY}, where the code of a program meets their values.

The node hands the arguments of a function that makes an application to the builder in the form of records, "${!env:API_KEY}", with the values beside them. The
function gets the values. What it binds is pickled, and kept by the node: `persistent_id` writes the placeholder in the place of each value, also
inside of a longer text, and `loads` puts the value of the worker's own environment in its place. For example, the function gets "hunter2" and
binds Model to "redis://:hunter2@host": the pickle has "redis://:${!env:PASSWORD}@host".
"""

from __future__ import annotations

import base64
import io
import os
import pickle
import re
from typing import Any, Dict, Optional

from helve._pickling import SECRET

LEAST = 6  # characters of a value that is found inside of a longer text: a shorter one, such as "true", is a word of other texts too
_PLACEHOLDER = re.compile(r"\$\{!(env|file|secret):([^}]*)\}")
_known: Dict[str, str] = {}  # placeholders by their values
_hidden: Optional[re.Pattern] = None  # the values that are found inside of texts


def use(values: Dict[str, str]) -> None:
    """Sets the values, by their placeholders, that are taken out of what is pickled from now on. No values take nothing out."""
    global _hidden
    from helve import _pickling

    _known.clear()
    _known.update((value, placeholder) for placeholder, value in values.items() if value)
    long = sorted((v for v in _known if len(v) >= LEAST), key=len, reverse=True)
    _hidden = re.compile("|".join(map(re.escape, long))) if long else None
    _pickling.persistent_id = persistent_id if _known else None


def opened(value: Any, values: Optional[Dict[str, str]] = None) -> Any:
    """A value of JSON with the values of its placeholders: the given ones, else those of this process."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda m: (values or {}).get(m[0]) if m[0] in (values or {}) else _look(m[1], m[2]), value)  # type: ignore[arg-type, return-value]
    if isinstance(value, dict):
        return {k: opened(v, values) for k, v in value.items()}
    return [opened(v, values) for v in value] if isinstance(value, list) else value


def found(value: Any) -> Dict[str, str]:
    """The placeholders of a value of JSON with their values in this process."""
    if isinstance(value, str):
        return {m[0]: _look(m[1], m[2]) for m in _PLACEHOLDER.finditer(value)}
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {k: v for one in inside for k, v in found(one).items()}


def _look(kind: str, name: str) -> str:
    """The value of a placeholder in this process."""
    if kind == "secret":
        return base64.b64decode(name + "=" * (-len(name) % 4)).decode()
    name, has_default, default = name.partition(":-")
    if kind == "env":
        value = os.environ.get(name)
    else:
        try:
            with open(name, encoding="utf-8", newline="") as file:
                value = re.sub(r"\r?\n\Z", "", file.read())
        except FileNotFoundError:
            value = None
        except (OSError, UnicodeDecodeError) as e:
            raise RuntimeError(f"${{file:{name}}}: the file cannot be read: {getattr(e, 'strerror', None) or e}") from None
    if value is None and not has_default:
        raise RuntimeError(f"${{{kind}:{name}}}: there is no such {'environment variable' if kind == 'env' else 'file'} where the replica runs")
    return default if value is None else value


def sealed(value: Any) -> Any:
    """A value of JSON with placeholders in the place of their values."""
    if isinstance(value, str):
        if value in _known:
            return _known[value]
        return _hidden.sub(lambda m: _known[m[0]], value) if _hidden is not None else value
    if isinstance(value, dict):
        return {k: sealed(v) for k, v in value.items()}
    return [sealed(v) for v in value] if isinstance(value, (list, tuple)) else value


def persistent_id(value: Any) -> Optional[str]:
    """The reference that a pickle has in the place of a text with a value inside; None for all else. The text in it is in base64, because a placeholder may have
    another value in its name.
    """
    kind = type(value)
    if kind is not str and kind is not bytes:
        return None
    try:
        text = value if kind is str else value.decode()
    except UnicodeDecodeError:
        return None
    closed = sealed(text)
    return None if closed == text else f"{SECRET}:{kind.__name__}:{base64.b64encode(closed.encode()).decode()}"


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        mark, _, rest = str(pid).partition(":")
        kind, _, text = rest.partition(":")
        if mark != SECRET:
            raise pickle.UnpicklingError(f"a reference of an unknown kind: {mark!r}")
        text = opened(base64.b64decode(text).decode())
        return text.encode() if kind == "bytes" else text


def loads(data: bytes) -> Any:
    """The value of a pickle that was written with `persistent_id`."""
    return _Unpickler(io.BytesIO(data)).load()


__all__ = ["LEAST", "found", "loads", "opened", "persistent_id", "sealed", "use"]
