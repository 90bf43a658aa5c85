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
OPEN = "gate.open"  # its name while it is being knocked at


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
    """Open the gate. It gets another name first: of two who start a container at the same time, one gets it."""
    try:
        os.rename(f"{directory}/{NAME}", f"{directory}/{OPEN}")
        return Channel(_connect(directory))
    except (ConnectionRefusedError, FileNotFoundError):
        raise StateError(f"container {container} is not waiting to be started") from None


def open_wholly(directory: str) -> None:
    """After knock() was killed halfway: who waits still would wait for ever."""
    try:
        _connect(directory).close()
    except (ConnectionRefusedError, FileNotFoundError):
        pass  # it has gone on


def _connect(directory: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    place = -1
    try:
        place = os.open(f"{directory}/{OPEN}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        sock.connect(f"/proc/self/fd/{place}")
        os.unlink(f"{directory}/{OPEN}")
    except BaseException:
        sock.close()
        raise
    finally:
        if place >= 0:
            os.close(place)
    return sock
