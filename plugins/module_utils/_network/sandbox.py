# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's network namespace, pinned below /run/netns where ip-netns(8) finds it. It outlives processes."""

from __future__ import annotations

import errno
import os

from .._errors import KernelError
from .._kernel import mount as m
from .._kernel import namespaces
from .rtnl import Rtnl

NETNS_RUN_DIR = "/run/netns"
# Echo sockets for everybody (icmp(7)): ping works without the capability to forge packets.
_PING_GROUPS = "/proc/sys/net/ipv4/ping_group_range"


def create(path: str) -> None:
    """Make the namespace and pin it; its loopback is up. One that is pinned there stays."""
    if exists(path):
        return
    _prepare_directory()
    sweep(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o444))
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        try:
            m.mount("/proc/thread-self/ns/net", path, "none", m.MS_BIND)
            with Rtnl() as rtnl:
                rtnl.set_link(1, state="up")
            with open(_PING_GROUPS, "w") as file:
                file.write("0 2147483647")
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWNET)
    except BaseException:
        delete(path)
        raise
    finally:
        os.close(home)


def exists(path: str) -> bool:
    """Is a namespace pinned there, and not only the file that a killed process left?"""
    try:
        return os.stat(path).st_dev != os.stat(os.path.dirname(path)).st_dev
    except FileNotFoundError:
        return False


def identity(path: str) -> int:
    """The namespace's inode, as /proc/PID/ns/net shows it; 0 when there is none."""
    try:
        return os.stat(path).st_ino if exists(path) else 0
    except FileNotFoundError:
        return 0


def delete(path: str) -> None:
    """Unpin it; the kernel ends it with its last process, and its links with it."""
    while exists(path):
        m.umount2(path, m.MNT_DETACH)
    sweep(path)


def sweep(path: str) -> None:
    """Remove the bare file of a namespace that is not pinned."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError("unlink", path, error.errno or 0) from None


def _prepare_directory() -> None:
    """As ip-netns(8): a shared mount, so that a pin made in one mount namespace goes when it is undone in another."""
    os.makedirs(NETNS_RUN_DIR, mode=0o755, exist_ok=True)
    try:
        m.mount("none", NETNS_RUN_DIR, None, m.MS_SHARED | m.MS_REC)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        m.mount(NETNS_RUN_DIR, NETNS_RUN_DIR, "none", m.MS_BIND | m.MS_REC)
        m.mount("none", NETNS_RUN_DIR, None, m.MS_SHARED | m.MS_REC)
