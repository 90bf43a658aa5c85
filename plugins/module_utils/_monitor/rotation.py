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

# So much is copied at a time.
PIECE = 4 << 20
BLOCK = 4096  # the least that is taken off, and a multiple of it where the file system has larger blocks


class Rotation:
    """One rotation: call ``step`` until it says that it is done. ``files`` counts the current one too.

    Of a log that has grown far beyond ``max_size`` before anybody looked, the head becomes several files of about that
    size, and what would be too old in them is not copied at all: the disk is what has to be spared then. Without a
    ``max_size`` the head becomes one file.
    """

    def __init__(self, path: str, files: int, *, max_size: int = 0, piece: int = PIECE) -> None:
        self._path = path
        self._files = files
        self._piece = piece
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._copy = -1
        info = os.fstat(self._fd)
        self._mode = info.st_mode & 0o777
        block = max(info.st_blksize, BLOCK)
        # Whole blocks, and never all of it: the kernel refuses to collapse up to the end.
        self._head = (info.st_size - 1) // block * block
        self._ends = _ends(self._head, files - 1, max_size)
        self._done = self._ends.pop(0)

    def step(self) -> bool:
        """Copy one piece, or end it; True when done."""
        try:
            if self._ends:
                self._step(self._ends[0])
                return False
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Older files cost room too: on a full disk this one is cut, or it would grow until somebody comes.
            self._abort_copy()
            self._ends = []
        try:
            self._finish()
        finally:
            self.close()
        return True

    def _step(self, end: int) -> None:
        if self._copy < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            self._copy = os.open(f"{self._path}.new", flags, self._mode)
        if self._done < end:
            self._done += self._send(min(self._piece, end - self._done))
        if self._done >= end:
            self._ends.pop(0)
            self._shift()
            if self._ends:
                os.close(self._copy)
                self._copy = -1

    def _send(self, length: int) -> int:
        sent = os.sendfile(self._copy, self._fd, self._done, length)
        if sent == 0:
            raise KernelError("rotate", self._path, errno.EIO, hint="somebody has made it shorter")
        return sent

    def _finish(self) -> None:
        if self._head > 0 and not collapse(self._fd, self._head):
            self._truncate()

    def _truncate(self) -> None:
        """What came while we copied, to the last moment; not what comes while we copy that, or a flood had no end."""
        end = os.fstat(self._fd).st_size
        while self._copy >= 0 and self._done < end:
            sent = os.sendfile(self._copy, self._fd, self._done, min(self._piece, end - self._done))
            if sent == 0:
                break
            self._done += sent
        os.ftruncate(self._fd, 0)

    def _shift(self) -> None:
        """path.2 becomes path.3, path.1 becomes path.2, the copy becomes path.1; what is too old goes."""
        for number in range(self._files - 2, 0, -1):
            _rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.rename(f"{self._path}.new", f"{self._path}.1")
        trim(self._path, self._files)

    def _abort_copy(self) -> None:
        if self._ends and self._copy >= 0:
            os.close(self._copy)
            self._copy = -1
            os.unlink(f"{self._path}.new")

    def close(self) -> None:
        for fd in (self._fd, self._copy):
            if fd >= 0:
                os.close(fd)
        self._fd = self._copy = -1


def _ends(head: int, files: int, max_size: int) -> list[int]:
    """Where the first older file begins and where each ends, as offsets; the head's end alone when none is kept."""
    if files <= 0 or head <= 0:
        return [head]
    count = min(files, max(1, round(head / max_size))) if max_size else 1
    # A little above its size is what a log always is when it is rotated; nothing is lost for that.
    far = max_size and head > 1.5 * count * max_size
    start = head - count * max_size if far else 0
    return [start + (head - start) * number // count for number in range(count + 1)]


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
