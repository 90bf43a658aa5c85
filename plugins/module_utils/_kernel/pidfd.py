# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pidfd_open(2) and what a pidfd tells of a process that is not our child."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Optional

from .process import exit_code, pidfd_open

# linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info) with the first version's 64 bytes
PIDFD_GET_INFO = 0xC040FF0B
PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15
_INFO = struct.Struct("=QQIIIIIIIIIIIi")


def own_exit_code(pidfd: int) -> Optional[int]:
    """Reap our own child; None when it is somebody else's."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


def tells_exit_codes() -> bool:
    """Can foreign_exit_code() tell (Linux 6.15)? Found out with a child of ours that has been reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    fd = pidfd_open(pid)
    try:
        os.waitpid(pid, 0)
        return foreign_exit_code(fd) == 0
    finally:
        os.close(fd)


def foreign_exit_code(pidfd: int) -> Optional[int]:
    """The exit code of a process that its parent has reaped; None while it was not, or where the kernel can't say."""
    info = bytearray(_INFO.size)
    struct.pack_into("=Q", info, 0, PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return None
    fields = _INFO.unpack(info)
    return exit_code(fields[-1]) if fields[0] & PIDFD_INFO_EXIT else None
