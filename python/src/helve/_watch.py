"""Finds files that have changed, by looking at the times of files again and again: it works on every file system, also on those of containers
and of networks, and needs no other package.

One look reads the times of all directories and Python files; a directory is listed again only when its own time has changed. For example, a
project of 1,000 files costs some 4 milliseconds a look, and the time between two looks is at least twenty times that of one.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from typing import Dict, Iterable, List, Optional, Tuple

PERIOD = 0.2  # seconds between two looks, at least
SHARE = 20  # one look may take this part of the time
QUIET = 0.05  # seconds without a change after which a burst of saves is over
LONGEST = 2.0  # seconds of a burst, at most
FRESH = 2_000_000_000  # nanoseconds in which a time stamp may be that of two changes
IGNORED = frozenset(("__pycache__", "node_modules", "site-packages", "dist-packages", "venv", "env", "build", "dist"))

Stamp = Tuple[int, int, int]


class Watch:
    """The Python files below some directories, and some other files."""

    def __init__(self, directories: Iterable[str], files: Iterable[str] = ()):
        self.directories = [os.path.abspath(d) for d in directories]
        self.others = {os.path.abspath(f) for f in files}
        self.took = 0.0
        self._listed: Dict[str, tuple] = {}  # by directory: its stamp, and the directories and files in it
        self._digests: Dict[str, Optional[bytes]] = {}
        self._stamps: Dict[str, Stamp] = {}
        self._stamps = self._look()
        for path in self._stamps:
            self._digests[path] = _digest(path)

    @property
    def period(self) -> float:
        return max(PERIOD, self.took * SHARE)

    def add(self, files: Iterable[str], since: int) -> None:
        """Watches more files, which a program has read after since, in nanoseconds of the clock. A file that was saved after that has changed, because
        the program may have read it before the save.
        """
        for path in map(os.path.abspath, files):
            if path not in self._stamps:
                self.others.add(path)
                stamp = _stamp(path)
                if stamp is not None and stamp[0] < since:
                    self._stamps[path], self._digests[path] = stamp, _digest(path)

    def count(self) -> int:
        return len(self._stamps)

    def touched(self) -> bool:
        """Whether the time, size or identity of a file has changed since the last look that settled() made."""
        now = time.time_ns()
        return any(True for _ in self._differences(self._look(), now))

    def _differences(self, seen: Dict[str, Stamp], now: int) -> Iterable[str]:
        for path in seen.keys() | self._stamps.keys():
            old, new = self._stamps.get(path), seen.get(path)
            # A file whose time is of this moment may change once more without another time: its content is compared.
            if old != new or new is not None and now - new[0] < FRESH and _digest(path) != self._digests.get(path):
                yield path

    def settled(self) -> List[str]:
        """Waits for the end of a burst of saves, and gives the files whose content is another than before, or that are new or gone."""
        end = time.monotonic() + LONGEST
        before = self._look()
        while time.monotonic() < end:
            time.sleep(QUIET)
            seen = self._look()
            if seen == before:
                break
            before = seen
        changed = []
        for path in sorted(self._differences(before, time.time_ns())):
            digest = _digest(path) if path in before else None
            if digest != self._digests.get(path) or (path in before) != (path in self._stamps):
                changed.append(path)
            self._digests[path] = digest
        self._stamps = before
        return changed

    def _look(self) -> Dict[str, Stamp]:
        begun = time.perf_counter()
        seen: Dict[str, Stamp] = {}
        for directory in self.directories:
            self._walk(directory, seen)
        for path in self.others:
            stamp = _stamp(path)
            if stamp is not None:
                seen[path] = stamp
        self.took = time.perf_counter() - begun
        return seen

    def _walk(self, directory: str, seen: Dict[str, Stamp]) -> None:
        todo = [directory]
        while todo:
            at = todo.pop()
            stamp = _stamp(at)
            if stamp is None:
                self._listed.pop(at, None)
                continue
            listed = self._listed.get(at)
            if listed is None or listed[0] != stamp or listed[3] - stamp[0] < FRESH:
                listed = self._listed[at] = (stamp, *_list(at), time.time_ns())
            todo += listed[1]
            for path in listed[2]:
                s = _stamp(path)
                if s is not None:
                    seen[path] = s


def _list(directory: str) -> tuple:
    """The directories and the Python files in a directory."""
    directories, files = [], []
    try:
        with os.scandir(directory) as entries:
            for e in entries:
                if e.name.startswith("."):
                    continue
                if e.name.endswith(".py"):
                    files.append(e.path)
                elif e.name not in IGNORED and e.is_dir(follow_symlinks=False) and not os.path.exists(os.path.join(e.path, "pyvenv.cfg")):
                    directories.append(e.path)
    except OSError:  # gone, or not for this user
        pass
    return directories, files


def _stamp(path: str) -> Optional[Stamp]:
    try:
        s = os.stat(path)
    except OSError:
        return None
    return (s.st_mtime_ns, 0 if stat.S_ISDIR(s.st_mode) else s.st_size, s.st_ino)


def _digest(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as f:
            return hashlib.blake2b(f.read()).digest()
    except OSError:
        return None


__all__ = ["Watch"]
