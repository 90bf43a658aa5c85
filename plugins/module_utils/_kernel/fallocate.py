# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fallocate(2): taking the head off a file while others append to it, and room that nobody else takes."""

from __future__ import annotations

import ctypes
import errno

from .libc import libc, oserror

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_COLLAPSE_RANGE = 0x08

libc.fallocate64.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def collapse(fd: int, length: int) -> bool:
    """Remove the first ``length`` bytes, a multiple of the block size; False where the file system can't (ext4 and
    xfs can)."""
    if libc.fallocate64(fd, FALLOC_FL_COLLAPSE_RANGE, 0, length) == 0:
        return True
    if ctypes.get_errno() in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
        return False
    oserror("fallocate", f"fd {fd}")


def allocate(fd: int, length: int) -> None:
    """Blocks for all of the first ``length`` bytes; what is there stays, and the size too."""
    if libc.fallocate64(fd, FALLOC_FL_KEEP_SIZE, 0, length) < 0:
        oserror(f"allocate {length} bytes for", f"fd {fd}")
