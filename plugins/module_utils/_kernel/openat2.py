# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""openat2(2): paths below a root that somebody else filled, never resolved by string."""

from __future__ import annotations

import ctypes
import errno
import os

from .libc import encode, oserror, syscall
from .mount import AT_FDCWD

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10


class open_how(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def openat2(dirfd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """A descriptor, close-on-exec; ``dirfd`` is AT_FDCWD or a directory."""
    how = open_how(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        fd = syscall("openat2", dirfd, encode(path), ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        # openat2(2): a rename raced with the walk; "userspace should retry"
        if ctypes.get_errno() != errno.EAGAIN:
            oserror("openat2", path)


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH, *, mode: int = 0) -> int:
    """``path`` as a process sees it whose root is ``root_fd``: absolute symlinks and .. stay below it."""
    return openat2(root_fd, path or ".", flags, mode=mode, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_root(path: str) -> int:
    return openat2(AT_FDCWD, path, os.O_PATH | os.O_DIRECTORY)


def mkdir_in_root(root_fd: int, path: str, mode: int = 0o755) -> int:
    """The directory at ``path`` below the root, with its parents made where they are missing; a descriptor of it."""
    fd = os.dup(root_fd)
    done = ""
    try:
        for part in [p for p in path.split("/") if p not in ("", ".")]:
            done = f"{done}/{part}"
            try:
                step = open_in_root(root_fd, done, os.O_PATH | os.O_DIRECTORY)
            except Exception as error:
                if getattr(error, "errno", 0) != errno.ENOENT:
                    raise
                os.mkdir(part, mode, dir_fd=fd)
                step = openat2(fd, part, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            os.close(fd)
            fd = step
        return fd
    except BaseException:
        os.close(fd)
        raise
