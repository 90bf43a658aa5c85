# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""netdevice(7): what a child of ours needs of it that can't open netlink sockets of a library."""

from __future__ import annotations

import fcntl
import socket
import struct

from .._errors import KernelError

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_IFREQ = struct.Struct("16sH22x")


def set_up(name: str) -> None:
    """Bring the link of this network namespace up."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            found = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
            flags = _IFREQ.unpack(found)[1] | _IFF_UP
            fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(name.encode(), flags))
    except OSError as error:
        raise KernelError("set up", name, error.errno or 0) from None
