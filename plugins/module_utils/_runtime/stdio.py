# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard input, output and error of the user's process."""

from __future__ import annotations

import fcntl
import os
import stat
import termios

from .launch import Plan


def install(fds: tuple[int, int, int], plan: Plan, *, terminal: bool) -> None:
    """Put them in their places; a terminal becomes the controlling one."""
    # Duplicates above the three first: one of the sources may be one of the targets.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in fds]
    for number, fd in enumerate(copies):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    for fd in set(fds) - {0, 1, 2}:
        os.close(fd)
    for number in range(3):
        _give(number, plan.uid)
    if terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _give(fd: int, uid: int) -> None:
    """A process that opens /dev/stdout again needs the right to: pipes, files and terminals become its user's."""
    info = os.fstat(fd)
    ours = stat.S_ISFIFO(info.st_mode) or stat.S_ISREG(info.st_mode) or os.isatty(fd)
    if info.st_uid == uid or not ours:
        return
    try:
        os.fchown(fd, uid, -1)
    except OSError:
        pass  # a read-only file system, or a user that is not mapped: it is none of ours to give
