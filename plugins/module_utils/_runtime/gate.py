# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket in the state directory at which a created container waits for start."""

from __future__ import annotations

import os
import socket

from .._errors import StateError
from .channel import Channel

NAME = "gate"


def listen(directory: str) -> socket.socket:
    """A socket's address has 108 bytes; through the directory's descriptor the path's length does not matter."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{fd}/{NAME}")
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(fd)
    sock.listen(1)
    return sock


def knock(directory: str, container: str) -> Channel:
    """Open the gate. Its name goes first: of two who start a container at the same time, one gets it."""
    try:
        place = os.open(f"{directory}/{NAME}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StateError(f"container {container} is not waiting to be started") from None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        os.unlink(f"{directory}/{NAME}")
        sock.connect(f"/proc/self/fd/{place}")
    except (ConnectionRefusedError, FileNotFoundError):
        sock.close()
        raise StateError(f"container {container} is not waiting to be started") from None
    finally:
        os.close(place)
    return Channel(sock)
