"""The limits of names, options and calls: the sender's checks of the limits of docs/wire.md. A mistake is an
exception at the line that made it, or of the one call that is over a limit; all that is sent is within the
limits. For example, an infinite number of seconds is not JSON, and a node that cannot read a request ends the
connection of all applications.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Optional

MAX_META = MAX_SLOTS = 65535
MAX_DEPTH = 64
MAX_CALLS = 1 << 20  # under way on one connection
MAX_BACKLOG = 1 << 30  # bytes in the write queue; over it new calls fail
MAX_CONTROLS = 4096  # control requests under way on one connection
MAX_CONTROL_BYTES = 512 << 20  # bytes of these together, or two of the largest body
MAX_METHOD = 1024  # bytes of a method's name; a longer name is no method
MAX_NAME = 128  # bytes of the name of an application or a deployment
MAX_ID = 16 << 10  # bytes of a model id or session id, or of another text in an option
ROUTES, ROUTE_BYTES = 4096, 8 << 20  # a connection has at most this many routes at a time: then their numbers are reused
MAX_SECONDS = 100 * 365 * 86400  # a time limit that means "never"; a Go duration has 292 years
MAX_TEXT = 256 << 10  # bytes of the message and of the traceback of an error that is sent; a longer one loses its middle

_NESTED = 500  # depth of a user config: a worker's parser takes twice that


def shown(value: Any) -> str:
    """A value in the text of an error, shortened."""
    try:
        text = repr(value)
    except Exception:  # a user's __repr__, or an integer of more than 4300 digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def cut(text: str) -> str:
    """A text of an error without its middle, if it is long. A second cut does not change it."""
    if len(text) <= MAX_TEXT // 4:
        return text
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2 - 100
    begin, end = data[:half].decode("utf-8", "ignore"), data[-half:].decode("utf-8", "ignore")
    return f"{begin}\n... ({len(data)} bytes, of which the middle is left out) ...\n{end}"


def utf8(what: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what}: must be text that UTF-8 can say, is {shown(value)}: it has surrogates") from None


def text(what: str, value: Any, most: int = MAX_ID) -> str:
    """An option that is text: exactly a str, of at most this many bytes."""
    if not isinstance(value, str):
        raise TypeError(f"{what}: must be text, is {shown(value)}")
    value = str.__str__(value)  # a subclass may compare and hash in a way of its own
    n = len(utf8(what, value))
    if "\0" in value:
        raise ValueError(f"{what}: must not have a zero character, is {shown(value)}")
    if n > most:
        raise ValueError(f"{what}: must be at most {most} bytes long, is {shown(value)} of {n} bytes")
    return value


def method_name(what: str, value: Any) -> str:
    """A method's name. A name that no method can have is no mistake of the code that passes it on: the call fails
    with it.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what}: must be text, is {shown(value)}")
    value = str.__str__(value)
    utf8(what, value if len(value) <= MAX_METHOD else value[:MAX_METHOD])
    return value


def name(what: str, value: Any) -> str:
    """The name of an application or a deployment: any text that can be printed on one line, such as "a/b"."""
    if not isinstance(value, str):
        raise TypeError(f"{what}: must be text, is {shown(value)}")
    value = str.__str__(value)
    if not value.strip():
        raise ValueError(f"{what}: must not be empty, is {shown(value)}")
    if len(utf8(what, value)) > MAX_NAME:
        raise ValueError(f"{what}: must be at most {MAX_NAME} bytes long, is {shown(value)}")
    if not value.isprintable():
        raise ValueError(f"{what}: must be text that can be printed on one line, is {shown(value)}")
    return value


def boolean(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{what}: must be True or False, is {shown(value)}")
    return value


def integer(what: str, value: Any, least: int, most: int, beside: Optional[int] = None, meaning: str = "", unit: str = "") -> int:
    """An option that is an integer from least to most, or the value beside these bounds, for example -1 for "no limit"."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what}: must be an integer, is {shown(value)}")
    return _bounded(what, int.__int__(value), least, most, beside, meaning, unit)


def number(what: str, value: Any, least: float, most: float, beside: Optional[float] = None, meaning: str = "", unit: str = "") -> float:
    """An option that is a number, with bounds as in integer()."""
    return _bounded(what, _finite(what, value, "a number"), least, most, beside, meaning, unit)


def _bounded(what: str, value: Any, least: Any, most: Any, beside: Any, meaning: str, unit: str) -> Any:
    if beside is not None and value == beside:
        return value
    if value < least:
        other = "" if beside is None else f"{beside} ({meaning}) or "
        raise ValueError(f"{what}: must be {other}at least {least}{unit}, is {shown(value)}")
    if value > most:
        raise ValueError(f"{what}: must be at most {most}{unit}, is {shown(value)}")
    return value


def _finite(what: str, value: Any, kind: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{what}: must be {kind}, is {shown(value)}")
    value = int.__int__(value) if isinstance(value, int) else float.__float__(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{what}: must be finite, is {value}")
    return value


def choice(what: str, value: Any, of: list) -> str:
    """An option that is one of several words."""
    value = text(what, value)
    if value not in of:
        raise ValueError(f"{what}: must be {', '.join(of[:-1])} or {of[-1]}, is {shown(value)}")
    return value


def group(what: str, value: Any, of: dict) -> dict:
    """A dict of options, each with the check of its value: a copy, without the keys whose value is None."""
    if not isinstance(value, dict):
        raise TypeError(f"{what}: must be a dict, is {shown(value)}")
    out = {}
    for key, v in dict.items(value):
        key = str.__str__(key) if isinstance(key, str) else key
        if type(key) is not str or key not in of:
            raise TypeError(f"{what}: unknown key {shown(key)}; there are {', '.join(of)}")
        if v is not None:
            out[key] = of[key](f"{what}.{key}", v)
    return out


def variables(what: str, value: Any) -> dict:
    """An option that is a dict of environment variables."""
    if not isinstance(value, dict):
        raise TypeError(f"{what}: must be a dict, is {shown(value)}")
    out = {}
    for variable, v in dict.items(value):
        if not isinstance(variable, str) or not isinstance(v, str):
            raise TypeError(f"{what}: {shown(variable)} must be text with a value of text, has {shown(v)}")
        variable = text(what, variable)
        if not variable or "=" in variable:
            raise ValueError(f"{what}: {shown(variable)} is no name of a variable")
        out[variable] = text(f"{what}: {variable}", v, most=128 << 10)  # the kernel's limit of one variable
    return out


def texts(what: str, value: Any) -> list:
    """An option that is a list of texts."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{what}: must be a list of texts, is {shown(value)}")
    return [text(what, v) for v in value]


def quantities(what: str, value: Any) -> dict:
    """An option that is a dict of numbers by name."""
    if not isinstance(value, dict):
        raise TypeError(f"{what}: must be a dict, is {shown(value)}")
    return {text(what, key): number(f"{what}.{key}", v, 0, 1 << 60) for key, v in dict.items(value)}


_CONDITION = re.compile(r"!?(in\([^!(),]+(,[^!(),]+)*\)|[^!(),]+)")


def selector(what: str, value: Any) -> dict:
    """An option that is a dict of conditions by label."""
    if not isinstance(value, dict):
        raise TypeError(f"{what}: must be a dict, is {shown(value)}")
    out = {}
    for label, v in dict.items(value):
        condition = text(f"{what}.{label}", v)
        if not text(what, label):
            raise ValueError(f"{what}: has a label without a name")
        if not _CONDITION.fullmatch(condition):
            raise ValueError(f'{what}: {label}: must be "value", "!value", "in(value,value)" or "!in(value,value)", is {shown(condition)}')
        out[label] = condition
    return out


def alternatives(what: str, value: Any) -> list:
    """An option that is a list of dicts with a label_selector."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{what}: must be a list of dicts, is {shown(value)}")
    out = []
    for v in value:
        if not isinstance(v, dict) or set(v) != {"label_selector"}:
            raise ValueError(f"{what}: must be a list of dicts with label_selector alone, has {shown(v)}")
        out.append({"label_selector": selector(f"{what}.label_selector", v["label_selector"])})
    return out


def one_of(what: str, value: Any, of: list) -> int:
    """An option that is one of several integers."""
    value = integer(what, value, min(of), max(of))
    if value not in of:
        raise ValueError(f"{what}: must be {' or '.join(map(str, of))}, is {shown(value)}")
    return value


def json_object(what: str, value: Any) -> dict:
    """An option that is a JSON object."""
    if not isinstance(value, dict):
        raise TypeError(f"{what}: must be a dict, is {shown(value)}")
    return as_json(what, value)


def share(what: str, value: Any, positive: bool = False) -> Any:
    """An option that is a number of replicas, or a part of them such as "25%"."""
    shape = 'must be an integer or a percentage such as "25%"'
    if isinstance(value, str):
        digits = str.__str__(value[:-1] if value.endswith("%") else value)
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
            raise ValueError(f"{what}: {shape}, is {shown(value)}")
        n, most = int(digits), 100 if value.endswith("%") else 100_000
        value = f"{n}%" if value.endswith("%") else n
    elif isinstance(value, int) and not isinstance(value, bool):
        n, most = int.__int__(value), 100_000
    else:
        raise TypeError(f"{what}: {shape}, is {shown(value)}")
    if n < 0 or positive and n == 0:
        raise ValueError(f"{what}: must {'be more than 0' if positive else 'not be negative'}, is {shown(value)}")
    if n > most:
        raise ValueError(f"{what}: must be at most {most}{'%' if isinstance(value, str) else ''}, is {shown(value)}")
    return value


def shares(what: str, value: Any) -> list:
    """An option that is a list of shares, each more than 0."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{what}: must be a list of numbers or percentages, is {shown(value)}")
    return [share(what, v, positive=True) for v in value]


def seconds(what: str, value: Any, positive: bool = False, beside: Optional[float] = None, meaning: str = "") -> float:
    """An option that is a time in seconds, or the negative value beside, for example -1 for "until resume"."""
    value = _finite(what, value, "a number of seconds")
    if beside is not None and value == beside:
        return value
    if value < 0 and beside is not None:
        raise ValueError(f"{what}: must be {beside} ({meaning}) or not negative, is {shown(value)}")
    if value < 0:
        raise ValueError(f"{what}: must not be negative, is {shown(value)}")
    if positive and value < 1e-9:
        raise ValueError(f"{what}: must be more than 0, is {value}")
    if value > MAX_SECONDS:
        raise ValueError(f"{what}: must be at most {MAX_SECONDS} (100 years), is {shown(value)}")
    return value


def wait(what: str, value: Any) -> Optional[float]:
    """The time to wait for an answer, in seconds. None and infinity mean no limit."""
    if value is None or type(value) is int and 0 <= value <= MAX_SECONDS:
        return value
    if isinstance(value, float) and value == math.inf:
        return None
    value = _finite(what, value, "a number of seconds")
    if value < 0:
        raise ValueError(f"{what}: must not be negative, is {shown(value)}")
    return None if value > MAX_SECONDS else value


def as_json(what: str, value: Any) -> Any:
    """A value as JSON, with its present content. A value that JSON cannot have is a mistake."""
    try:
        data = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as e:
        raise TypeError(f"{what}: it must be JSON: {cut(str(e))}") from None
    value = json.loads(data)
    deepest, look = 0, [(value, 1)]
    while look and deepest <= _NESTED:
        v, depth = look.pop()
        if isinstance(v, (list, dict)):
            deepest = max(deepest, depth)
            look += [(inner, depth + 1) for inner in (v.values() if isinstance(v, dict) else v)]
    if deepest > _NESTED:
        raise ValueError(f"{what}: must be at most {_NESTED} lists and dicts deep")
    return value


def request(op: str, fields: dict) -> bytes:
    """A control request."""
    try:
        return json.dumps({"op": op, **fields}, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as e:
        raise type(e)(f"{op}: the request is not JSON: {e}") from None


__all__ = [
    "as_json", "boolean", "choice", "cut", "group", "integer", "json_object", "method_name", "name", "number", "one_of", "quantities", "request",
    "seconds", "share", "shares", "shown", "text", "texts", "utf8", "variables", "wait",
]
