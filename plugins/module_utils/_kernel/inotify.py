# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""inotify(7): to be told of a file that is written to, and to sleep until then."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

from .libc import encode, libc, oserror

IN_MODIFY = 0x2
IN_DONT_FOLLOW = 0x02000000
IN_ONESHOT = 0x80000000
_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of a name that follows

libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


def inotify_init() -> int:
    """A descriptor, close-on-exec, that is readable when something happened; reading it does not wait."""
    fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        oserror("inotify_init1", hint="fs.inotify.max_user_instances says how many there may be")
    return fd


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """The watch's number, by which its events are known."""
    number = int(libc.inotify_add_watch(fd, encode(path), mask))
    if number < 0:
        oserror("inotify_add_watch", path)
    return number


def inotify_rm_watch(fd: int, number: int) -> None:
    """One that is gone already is no error: it may have been for once."""
    libc.inotify_rm_watch(fd, number)


def inotify_events(fd: int) -> Iterator[int]:
    """The watches of all that happened. A watch that is gone tells that too."""
    try:
        data = os.read(fd, 1 << 16)
    except BlockingIOError:
        return
    position = 0
    while position < len(data):
        number, dummy, dummy, length = _EVENT.unpack_from(data, position)
        yield number
        position += _EVENT.size + length
