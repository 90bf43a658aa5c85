# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop devices, loop(4): a file as a block device."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import struct

from .libc import oserror

LOOP_SET_CAPACITY = 0x4C07
LOOP_CONFIGURE = 0x4C0A  # Linux 5.8
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_AUTOCLEAR = 4
LO_FLAGS_DIRECT_IO = 16

_CONTROL = "/dev/loop-control"
_TRIES = 16
# struct loop_config: the file, the block size, struct loop_info64, and eight words that are reserved.
_LOOP_INFO64 = "QQQQQIIII64s64s32sQQ"
_LOOP_CONFIG = struct.Struct(f"=II{_LOOP_INFO64}64x")


def attach(path: str) -> tuple[str, int]:
    """The device that the file is now, and a descriptor of it. The device goes with whoever has it open last, which is
    a mount of it once there is one. It reads and writes past the page cache where the file system can."""
    backing = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for dummy in range(_TRIES):
            device, fd = _free()
            try:
                fcntl.ioctl(fd, LOOP_CONFIGURE, _config(backing, path))
                return device, fd
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EBUSY:  # another one was faster
                    oserror("LOOP_CONFIGURE", device, code=error.errno or 0)
    finally:
        os.close(backing)
    oserror("LOOP_CONFIGURE", path, code=errno.EBUSY)


def _free() -> tuple[str, int]:
    try:
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        oserror("open", _CONTROL, code=error.errno or 0, hint="load the kernel's module loop")
    try:
        device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
        return device, os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        oserror("find a free loop device by", _CONTROL, code=error.errno or 0)
    finally:
        os.close(control)


def _config(backing: int, path: str) -> bytes:
    flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO
    return _LOOP_CONFIG.pack(backing, 0, 0, 0, 0, 0, 0, 0, 0, 0, flags, os.fsencode(path)[:63], b"", b"", 0, 0)


def device_of(path: str) -> str:
    """The device that the file is already; empty when it is none. A file system must not be mounted by two."""
    wanted = os.path.realpath(path)
    for entry in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(entry, encoding="utf-8", errors="surrogateescape") as file:
                if file.read().rstrip("\n") == wanted:
                    return f"/dev/{entry.split('/')[3]}"
        except OSError:
            continue  # detached meanwhile
    return ""


def set_capacity(device: str) -> None:
    """The file has another size: so has the device."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, LOOP_SET_CAPACITY)
    except OSError as error:
        oserror("LOOP_SET_CAPACITY", device, code=error.errno or 0)
    finally:
        os.close(fd)
