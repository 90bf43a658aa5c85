# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation of a log file that a process of others has open and appends to, and goes on appending to.

The head is copied to ``path.1`` and then taken off the file with FALLOC_FL_COLLAPSE_RANGE, which is lossless: the
kernel does it between two writes. Where the file system can't, the file is copied and truncated, and what is written
in the instant between is lost, as with any logrotate's copytruncate.
"""

from __future__ import annotations

import errno
import os

from .._errors import KernelError
from .._kernel.fallocate import collapse

# So much is copied at a time; the caller does other things in between.
PIECE = 4 << 20


def due(path: str, max_size: int) -> bool:
    if max_size <= 0:
        return False
    try:
        return os.stat(path, follow_symlinks=False).st_size > max_size
    except OSError:
        return False


class Rotation:
    """One rotation: call ``step`` until it says that it is done. ``files`` counts the current one too."""

    def __init__(self, path: str, files: int, *, piece: int = PIECE) -> None:
        self._path = path
        self._files = files
        self._piece = piece
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._copy = -1
        info = os.fstat(self._fd)
        block = max(info.st_blksize, 4096)
        # Whole blocks, and never all of it: the kernel refuses to collapse up to the end.
        self._head = (info.st_size - 1) // block * block
        self._done = 0
        if files > 1:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            self._copy = os.open(f"{path}.new", flags, info.st_mode & 0o777)

    def step(self) -> bool:
        """Copy one piece, or end it; True when done."""
        if self._copy >= 0 and self._done < self._head:
            self._done += self._send(min(self._piece, self._head - self._done))
            return False
        try:
            self._finish()
        finally:
            self.close()
        return True

    def _send(self, length: int) -> int:
        sent = os.sendfile(self._copy, self._fd, self._done, length)
        if sent == 0:
            raise KernelError("rotate", self._path, errno.EIO, hint="somebody has made it shorter")
        return sent

    def _finish(self) -> None:
        if self._head > 0:
            self._shift()
            if not collapse(self._fd, self._head):
                self._truncate()

    def _truncate(self) -> None:
        """What came while we copied, to the last moment."""
        while self._copy >= 0:
            sent = os.sendfile(self._copy, self._fd, self._done, self._piece)
            if sent == 0:
                break
            self._done += sent
        os.ftruncate(self._fd, 0)

    def _shift(self) -> None:
        """path.2 becomes path.3, path.1 becomes path.2, the copy becomes path.1; what is too old goes."""
        if self._copy < 0:
            return
        for number in range(self._files - 2, 0, -1):
            _rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.rename(f"{self._path}.new", f"{self._path}.1")
        trim(self._path, self._files)

    def close(self) -> None:
        for fd in (self._fd, self._copy):
            if fd >= 0:
                os.close(fd)
        self._fd = self._copy = -1


def _rename(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass


def older_files(path: str) -> list[str]:
    """Rotated files of a log, oldest first."""
    found = []
    number = 1
    while os.path.exists(f"{path}.{number}"):
        found.append(f"{path}.{number}")
        number += 1
    return found[::-1]


def trim(path: str, files: int) -> None:
    """Remove rotated files above the number, which may have been made smaller."""
    number = max(1, files)
    while os.path.lexists(f"{path}.{number}"):
        os.unlink(f"{path}.{number}")
        number += 1
