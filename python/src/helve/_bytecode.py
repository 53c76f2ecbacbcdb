"""The program's own modules without bytecode."""

from __future__ import annotations

import importlib.machinery
import os
import sysconfig

THEIRS = {"site-packages", "dist-packages"}  # parts of the paths of installed packages, also of an environment in the program's directory


def from_source() -> None:
    """From now on this process compiles the program's own modules from their sources, and neither reads nor writes bytecode of them. Python takes bytecode if the size of the module is the same,
    and its time in whole seconds. For example, a script deploys a directory, changes a digit in a module, and deploys again, all within a second: Python would take the bytecode of the
    first deploy, and its values would be in the second one. Times cannot tell in every case: the bytecode may be written after the second save. Modules of Python itself, of Helve and of
    installed packages keep their bytecode, because their imports would take seconds.
    """
    plain = importlib.machinery.SourceFileLoader.path_stats
    others = (sysconfig.get_path("stdlib") + os.sep, os.path.dirname(os.path.abspath(__file__)) + os.sep)

    def path_stats(self, path):  # type: ignore[no-untyped-def]
        if not path.startswith(others) and THEIRS.isdisjoint(path.split(os.sep)):
            raise OSError("the program's own module has no bytecode")  # the loader goes on to the source then
        return plain(self, path)

    importlib.machinery.SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]


__all__ = ["from_source"]
