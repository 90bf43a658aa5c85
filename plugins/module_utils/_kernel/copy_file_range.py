# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""copy_file_range(2), and SEEK_DATA of lseek(2): files of any size in little memory, and holes that stay holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Optional

from .file import write_all

_CHUNK = 1 << 20  # what is read at a time
_CALL = 64 << 20  # what the kernel copies at a time: a signal is taken in between
# File systems of two kinds, one without a page cache, an old kernel.
_CAN_NOT = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)


def copy_content(source: int, target: int, size: int, *, holes: bool = True) -> None:
    """The first ``size`` bytes of one file into another, and that one cut to them. A source that somebody makes
    shorter meanwhile ends where it does.

    ``holes``: what is none in the source is left out, so the target has to be new.
    """
    for start, end in _data(source, size) if holes else [(0, size)]:
        while start < end:
            copied = _copy(source, target, start, min(_CALL, end - start))
            if not copied:
                break
            start += copied  # noqa: PLW2901 - the rest of the stretch
    os.ftruncate(target, min(size, os.fstat(source).st_size))


def copy_stream(source: int, target: int) -> int:
    """All that a pipe, a socket or a file has still to give; how many bytes that was."""
    count = 0
    while True:
        data = os.read(source, _CHUNK)
        if not data:
            return count
        write_all(target, data)
        count += len(data)


def _copy(source: int, target: int, offset: int, length: int) -> int:
    try:
        return os.copy_file_range(source, target, length, offset, offset)
    except AttributeError:
        pass  # a Python that was built for an older libc
    except OSError as error:
        if error.errno not in _CAN_NOT:
            raise
    data = os.pread(source, min(_CHUNK, length), offset)
    os.lseek(target, offset, os.SEEK_SET)
    write_all(target, data)
    return len(data)


def _data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what is no hole; all of it where the file system can't tell."""
    start = _next_data(fd, 0)
    while start is not None and start < size:
        try:
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError:
            end = size
        yield start, end
        start = _next_data(fd, end) if end < size else None


def _next_data(fd: int, offset: int) -> Optional[int]:
    """Where there is data from the offset on; None when there is none up to the end."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        return None if error.errno == errno.ENXIO else offset


def same_content(one: int, other: int) -> bool:
    """Have two files of one size the same bytes? Where both have holes nothing is read."""
    position = 0
    while True:
        starts = [start for start in (_next_data(fd, position) for fd in (one, other)) if start is not None]
        if not starts:
            return True
        position = min(starts)
        data = os.pread(one, _CHUNK, position)
        if data != os.pread(other, _CHUNK, position):
            return False
        if not data:
            return True
        position += len(data)
