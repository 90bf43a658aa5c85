# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The size of an xfs while it is mounted; ioctl_xfs_fsgeometry(2)."""

from __future__ import annotations

import fcntl
import os
import struct

from .libc import oserror

XFS_IOC_FSGEOMETRY_V1 = 0x80705864
_GEOMETRY = struct.Struct("=8IQ72x")  # blocksize, rtextsize, agblocks, …, datablocks
_LEAST_GROUP = 64  # blocks that the kernel makes a group of
_LEAST_NEW_GROUP = 16 << 20  # bytes that mkfs.xfs makes one of


def reach(mountpoint: str, length: int) -> int:
    """Up to which of so many bytes it reaches: to the end, also where what is left is too little for one more group."""
    blocks, block, group = _geometry(mountpoint)
    left = length // block - blocks
    fills = left < _LEAST_GROUP or (blocks % group == 0 and left * block < _LEAST_NEW_GROUP)
    return length if fills else blocks * block


def _geometry(mountpoint: str) -> tuple[int, int, int]:
    """(blocks, bytes of a block, blocks of a group)."""
    data = bytearray(_GEOMETRY.size)
    fd = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, XFS_IOC_FSGEOMETRY_V1, data)
    except OSError as error:
        oserror("ask for the geometry of", mountpoint, code=error.errno or 0)
    finally:
        os.close(fd)
    block, dummy, group, *_dummies, blocks = _GEOMETRY.unpack(data)
    return blocks, block, group
