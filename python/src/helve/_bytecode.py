"""Bytecode of modules that were saved twice within a second."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os

SECOND = 1_000_000_000  # nanoseconds


def distrust() -> None:
    """From now on this process takes no bytecode that is older than the last save of its module. Python compares the size of the module, and its time in whole seconds. For example, a script
    deploys a directory, changes a digit in a module, and deploys again, all within a second: Python would take the bytecode of the first deploy, and its values would be in the second one.
    """
    plain = importlib.machinery.SourceFileLoader.path_stats

    def path_stats(self, path):  # type: ignore[no-untyped-def]
        drop(path)
        return plain(self, path)

    importlib.machinery.SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]


def drop(path: str) -> None:
    """Removes the bytecode of a module if it was written before the module was saved, in the same second: bytecode of another second is none for Python either."""
    try:
        cached = importlib.util.cache_from_source(path)
        source, code = os.stat(path).st_mtime_ns, os.stat(cached).st_mtime_ns
        if code <= source and code // SECOND == source // SECOND:
            os.unlink(cached)
    except (OSError, NotImplementedError, ValueError):  # there is none, or it cannot be removed
        pass


__all__ = ["distrust", "drop"]
