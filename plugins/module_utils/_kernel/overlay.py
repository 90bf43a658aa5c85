# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An overlay that is mounted nowhere: it is reached by its descriptor alone, and goes with it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from .._errors import KernelError
from . import mount as m
from .namespaces import CLONE_NEWNS, unshare
from .openat2 import open_root


def open_overlay(lower: Sequence[str], upper: str, work: str, options: Sequence[str] = ()) -> int:
    """A descriptor of its root. ``lower`` is the topmost layer first; ``options`` are more, as NAME=VALUE."""
    rest = [*options, f"upperdir={upper}", f"workdir={work}"]
    try:
        return _by_fsconfig(lower, rest)
    except KernelError as error:
        # Before Linux 6.5 there is no lowerdir+, and all layers in one word are cut off at 256 bytes (fsconfig(2)).
        if error.errno != errno.EINVAL:
            raise
    return _by_mount(lower, rest)


def _by_fsconfig(lower: Sequence[str], rest: Sequence[str]) -> int:
    fs = m.fsopen("overlay")
    try:
        for layer in lower:
            m.fsconfig(fs, m.FSCONFIG_SET_STRING, "lowerdir+", layer)
        for option in rest:
            key, equals, value = option.partition("=")
            command = m.FSCONFIG_SET_STRING if equals else m.FSCONFIG_SET_FLAG
            m.fsconfig(fs, command, key, value if equals else None)
        m.fsconfig(fs, m.FSCONFIG_CMD_CREATE)
        return m.fsmount(fs)
    finally:
        os.close(fs)


def _by_mount(lower: Sequence[str], rest: Sequence[str]) -> int:
    """Mounted in a namespace that ends with the child that made it; the descriptor keeps the mount."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            _mount_and_exit(theirs, ",".join([f"lowerdir={':'.join(lower)}", *rest]))
        theirs.close()
        message, fds = socket.recv_fds(ours, 64, 1)[:2]
        os.waitpid(child, 0)
    if not fds:
        raise KernelError("mount overlay of", " ".join(lower), int(message or errno.EIO))
    os.set_inheritable(fds[0], False)
    return fds[0]


def _mount_and_exit(answer: socket.socket, options: str) -> None:
    try:
        unshare(CLONE_NEWNS)
        m.mount("none", "/", None, m.MS_REC | m.MS_PRIVATE)
        # Any directory will do: nobody else sees it.
        m.mount("overlay", "/proc", "overlay", 0, options)
        socket.send_fds(answer, [b"0"], [open_root("/proc")])
    except KernelError as error:
        answer.send(str(error.errno).encode())
    finally:
        os._exit(0)
