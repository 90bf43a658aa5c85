# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A terminal from the container's own devpts: its slave is stdio, its master goes to the caller (--console-socket)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import termios

from .._errors import KernelError
from .._kernel import mount as m
from .._kernel.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from .._rootfs import target

# asm-generic/ioctls.h; Python has no names for them
TIOCGPTN = 0x80045430
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441  # Linux 4.13
_PTMX = os.makedev(5, 2)


def connect(path: str) -> int:
    """A socket connected to who wants the master."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise KernelError("connect to the console socket", path, error.errno or 0) from None
    return sock.detach()


def open_pair(root: int, window: tuple[int, int]) -> tuple[int, int, str]:
    """(master, slave, name inside); ``window`` is (rows, columns), zeros for unknown.

    The slave is asked of the master, not opened by its name: who fills the container's /dev could put anything there.
    """
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    master = openat2(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK, resolve=resolve)
    try:
        info = os.fstat(master)
        if not stat.S_ISCHR(info.st_mode) or info.st_rdev != _PTMX:
            raise KernelError("open", "/dev/pts/ptmx", errno.ENOTTY, hint="a terminal needs a devpts on /dev/pts")
        os.set_blocking(master, True)
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        number = struct.unpack("i", fcntl.ioctl(master, TIOCGPTN, struct.pack("i", 0)))[0]
        if window != (0, 0):
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", window[0], window[1], 0, 0))
        slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    return master, int(slave), f"/dev/pts/{number}"


def bind(root: int, slave: int) -> None:
    """The slave as /dev/console."""
    place = target.file(root, "/dev/console")
    try:
        tree = m.open_tree(target.by_fd(slave), m.OPEN_TREE_CLONE)
        try:
            m.move_mount(tree, place)
        finally:
            os.close(tree)
    finally:
        os.close(place)


def send(connected: int, master: int, name: str) -> None:
    """SCM_RIGHTS over the connected socket; both descriptors are closed."""
    with socket.socket(fileno=connected) as sock:
        sock.sendmsg([name.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", master))])
    os.close(master)
