# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long pull, load or build has got, for whoever follows it: lines of JSON in a file below the run directory.

A line is ``{"what", "done", "total"}`` of a layer's bytes, or ``{"what", "text"}``.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from .._paths import Paths
from .record import listdir

if TYPE_CHECKING:  # every module imports this, and few read tars
    from .tarstream import Readable

LIMIT = 1 << 18  # bytes of the file, which then begins anew
_INTERVAL = 0.2  # seconds between two words about one layer
_TEXT_MAX = 1000


class Progress:
    """What is told goes nowhere."""

    def blob(self, what: str, done: int, total: int) -> None:
        """``done`` bytes of ``total`` of a layer; 0 where nobody knows how many it has."""

    def say(self, what: str, text: str) -> None:
        """A line that a step printed, or what became of a layer."""

    def close(self) -> None:
        """Nobody follows any more."""


QUIET = Progress()


class ProgressFile(Progress):
    """``token`` is the file's name; ``hide`` takes out of a text what nobody may read.

    Whoever writes holds a shared lock, which children inherit: a file without one is what a killed process left.
    Processes write at once, for each line is one write(2) at the file's end. Whatever fails here fails no task.
    """

    def __init__(self, paths: Paths, token: str, hide: Callable[[str], str] = str) -> None:
        self.path = f"{directory(paths)}/{token}"
        self._hide = hide
        self._last: dict[str, tuple[float, int]] = {}
        sweep(paths)
        try:
            self._fd = _create(self.path)
        except OSError:
            self._fd = -1

    def blob(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        when, before = self._last.get(what, (-_INTERVAL, -1))
        over = bool(total) and done >= total and before < total
        if done != before and (over or now - when >= _INTERVAL):
            self._last[what] = (now, done)
            self._write({"what": what, "done": done, "total": total})

    def say(self, what: str, text: str) -> None:
        self._write({"what": what, "text": self._hide(text)[:_TEXT_MAX]})

    def close(self) -> None:
        if self._fd < 0:
            return
        try:
            os.unlink(self.path)
            os.rmdir(os.path.dirname(self.path))
        except OSError:
            pass  # others have files there
        os.close(self._fd)
        self._fd = -1

    def _write(self, line: dict[str, Any]) -> None:
        if self._fd < 0:
            return
        try:
            if os.fstat(self._fd).st_size > LIMIT:
                os.ftruncate(self._fd, 0)
            os.write(self._fd, json.dumps(line).encode() + b"\n")
        except OSError:
            pass  # a full /run


class Told:
    """A stream that tells how much of it was read."""

    def __init__(self, stream: Readable, progress: Progress, what: str, total: int) -> None:
        self._stream = stream
        self._progress = progress
        self._what = what
        self._total = max(total, 0)
        self._done = 0

    @classmethod
    def file(cls, file: IO[bytes], progress: Progress) -> Told:
        """One that is read from its beginning to its end."""
        return cls(file, progress, os.path.basename(file.name), os.fstat(file.fileno()).st_size)

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._done += len(data)
        self._progress.blob(self._what, self._done, self._total)
        return data


def directory(paths: Paths) -> str:
    return f"{paths.run}/progress"


def sweep(paths: Paths) -> None:
    """Remove what killed processes left."""
    for name in listdir(directory(paths)):
        path = f"{directory(paths)}/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        except OSError:
            pass  # somebody writes to it, or has just removed it
        finally:
            os.close(fd)


def _create(path: str) -> int:
    while True:
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # another process closed the last file, and removed the directory
        fcntl.flock(fd, fcntl.LOCK_SH)
        # A sweeper may have taken it for one that was left, in between.
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)
