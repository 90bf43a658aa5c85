# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The size of an ext4, and its growth while it is mounted."""

from __future__ import annotations

import fcntl
import os
import struct

from .libc import oserror

EXT4_IOC_RESIZE_FS = 0x40086610
_SUPERBLOCK = 1024
_FOR_FILES = 50


def size(path: str) -> tuple[int, int]:
    """(blocks, bytes of a block) by the superblock of the device or image."""
    return _size(_superblock(path))


def reach(path: str, length: int) -> int:
    """Up to which of so many bytes it reaches: to the end, also where what is left is too little for the tables of one
    more group; then mke2fs and resize2fs leave it."""
    data = _superblock(path)
    blocks, block = _size(data)
    left = length // block - blocks
    (first,), (group,) = (struct.unpack_from("<I", data, at) for at in (0x14, 0x20))
    fills = left <= 0 or ((blocks - first) % group == 0 and left < _least_group(data))
    return length if fills else blocks * block


def _superblock(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, 1024, _SUPERBLOCK)
    finally:
        os.close(fd)


def _size(data: bytes) -> tuple[int, int]:
    (low,), (log_size,), (high,) = (struct.unpack_from("<I", data, at) for at in (0x4, 0x18, 0x150))
    return high << 32 | low, 1024 << log_size


def _least_group(data: bytes) -> int:
    """Blocks: two bitmaps, the inodes, a copy of superblock and descriptors with what they have in reserve; and a few
    for files."""
    blocks, block = _size(data)
    (group,), (inodes,) = (struct.unpack_from("<I", data, at) for at in (0x20, 0x28))
    (inode,), (reserve,), (descriptor,) = (struct.unpack_from("<H", data, at) for at in (0x58, 0xCE, 0xFE))
    descriptors = (blocks // group + 2) * (descriptor or 32) // block + 1
    return int(2 + inodes * inode // block + 1 + descriptors + reserve + _FOR_FILES)


def grow(mountpoint: str, device: str, length: int) -> None:
    """To as many blocks as ``length`` bytes hold."""
    fd = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, EXT4_IOC_RESIZE_FS, struct.pack("=Q", length // size(device)[1]))
    except OSError as error:
        oserror(f"grow ext4 to {length} bytes on", mountpoint, code=error.errno or 0)
    finally:
        os.close(fd)
