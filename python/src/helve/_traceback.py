"""The traceback of a failed call as a program prints it when nothing catches the exception: the lines of the program, the lines of the replica,
and the exception once. Frames of Helve are left out. For example::

    Traceback (most recent call last):
      File "client.py", line 9, in <module>
        print(handle.remote("x").result())
      in replica Model#001, method __call__:
      File "model.py", line 4, in __call__
        raise ValueError(x)
    ValueError: x
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any, Optional

from helve import _guard
from helve._encoding import RemoteTraceback, parse_envelope

HEAD = "Traceback (most recent call last):\n"


def render(exc: BaseException, tb: Optional[TracebackType]) -> Optional[str]:
    """The text; None for an exception that is not of a call, nor a Ctrl-C while one is waited for."""
    data = _guard.attribute(exc, "_helve")
    failed = type(data) is bytes or type(_guard.field(exc, "__cause__")) is RemoteTraceback or type(exc).__module__ == "helve.serve.exceptions"
    stopped = isinstance(exc, KeyboardInterrupt) and _ours(tb)
    if not failed and not stopped:
        return None
    whole = traceback.TracebackException(type(exc), exc, tb)
    frames = []
    for frame in whole.stack:
        if _guard.own_file(frame.filename):
            if stopped:  # the code that it waited in is Helve's or Python's
                break
            continue
        frames.append(frame)
    whole.stack[:] = _guard.without_frameworks(frames)
    cause = _guard.field(exc, "__cause__")
    lines = [HEAD, *whole.stack.format()]
    if type(cause) is not RemoteTraceback:
        if whole.__cause__ is not None or (whole.__context__ is not None and not whole.__suppress_context__):
            return "".join(whole.format())
        return "".join([*lines, *whole.format_exception_only()])
    remote = cause.text.rstrip("\n") + "\n"
    said = list(whole.format_exception_only())
    body = _only_frames(remote)
    if body is not None:
        return "".join([*lines, _where(data), *body, *said])
    return "".join([remote, "\nThe exception above was raised in a replica; it ended the call of\n\n", *lines, *said])


def _only_frames(remote: str) -> Optional[list]:
    """The lines of the frames of a traceback without causes, which may be none; None for one that has causes."""
    if HEAD not in remote:  # an exception of Helve's about what the method has returned, for example
        return []
    if remote.count(HEAD) != 1 or not remote.startswith(HEAD):
        return None
    body = remote[len(HEAD) :].splitlines(keepends=True)
    return body[: next((i for i, line in enumerate(body) if not line.startswith(" ")), len(body))]


def in_replica(exc: BaseException) -> str:
    """The frames of the replica that has raised the exception of a call; "" for another exception, and for one with causes."""
    data, cause = _guard.attribute(exc, "_helve"), _guard.field(exc, "__cause__")
    if type(data) is not bytes or type(cause) is not RemoteTraceback:
        return ""
    body = _only_frames(cause.text.rstrip("\n") + "\n")
    return "" if body is None else "".join([_where(data), *body])


def _where(data: Any) -> str:
    e = parse_envelope(data) if type(data) is bytes else {}
    where = e.get("replica") or e.get("deployment")
    return f"  in replica {where}{', method ' + e['method'] if e.get('method') else ''}:\n" if where else "  in the replica:\n"


def _ours(tb: Optional[TracebackType]) -> bool:
    while tb is not None:
        if _guard.own_file(tb.tb_frame.f_code.co_filename):
            return True
        tb = tb.tb_next
    return False


__all__ = ["in_replica", "render"]
