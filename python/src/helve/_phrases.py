"""Texts of errors of calls, in workers. They have the phrases of Ray Serve that its users match on."""

from __future__ import annotations

from typing import Any, Callable

from helve import _refused


def _name(fn: Callable) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__


def returned_generator(fn: Callable) -> TypeError:
    """A method that yields was called without stream=True."""
    return TypeError(f"Method '{_name(fn)}' returned a generator. You must use `handle.options(stream=True)` to call generators on a deployment.")


def returned_none(fn: Callable, value: Any) -> TypeError:
    """A method that does not yield was called with stream=True."""
    return TypeError(
        f"Called method '{_name(fn)}' with `handle.options(stream=True)` but it did not return a generator. It returned {type(value).__name__}."
    )


def no_method(name: str, have: list, deployment: str) -> str:
    """A deployment has no method of the name."""
    names = [n for n in have if not n.startswith("__")]
    near = _refused.close_name(name, names)
    text = f"Tried to call a method '{name}' that does not exist. Available methods: {names}. "
    if near:
        return text + f"Did you mean '{near}'? The deployment is {deployment}."
    if name == "__call__":
        return text + f"handle.remote() calls `__call__`, and the class of deployment {deployment} has none: call handle.METHOD.remote()."
    if not names and "__call__" in have:
        return text + f"The deployment is {deployment}, whose `__call__` runs by handle.remote()."
    return text + f"The deployment is {deployment}."


__all__ = ["no_method", "returned_generator", "returned_none"]
