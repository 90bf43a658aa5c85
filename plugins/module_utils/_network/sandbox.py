# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's network namespace, pinned below /run/netns where ip-netns(8) finds it. It outlives processes."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from .._errors import KernelError
from .._kernel import mount as m
from .._kernel import namespaces

NETNS_RUN_DIR = "/run/netns"
# What a namespace has from its birth. The defaults are for links that come later; loopback is there already.
_SYSCTLS = {
    # Echo sockets for everybody (icmp(7)): ping works without the capability to forge packets.
    "net/ipv4/ping_group_range": "0 2147483647",
    # No IPv6 but where a network has a subnet for it (veth.py), no waiting for duplicates of an address that we
    # chose, and no router but the gateway: any neighbour could say that it is one.
    "net/ipv6/conf/default/disable_ipv6": "1",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/accept_ra": "0",
}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = struct.Struct("=16sH22x")  # ifreq of netdevice(7), with flags


def create(path: str, source: str = "") -> None:
    """Pin a new namespace, or the one at ``source`` (/proc/PID/ns/net). What is pinned there already stays."""
    if source and os.stat(source).st_ino == os.stat("/proc/thread-self/ns/net").st_ino:
        source = ""  # it would be the host's own links that are taken for a container's
    if exists(path) and (not source or os.stat(source).st_ino == identity(path)):
        return
    _prepare_directory()
    delete(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o444))
    try:
        if source:
            m.mount(source, path, "none", m.MS_BIND)
        else:
            _pin_new(path)
    except BaseException:
        delete(path)
        raise


def _pin_new(path: str) -> None:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        try:
            m.mount("/proc/thread-self/ns/net", path, "none", m.MS_BIND)
            _loopback_up()
            for name, value in _SYSCTLS.items():
                _write(name, value)
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWNET)
    finally:
        os.close(home)


def write_sysctl(path: str, name: str, value: str) -> None:
    """Set what is below /proc/sys/net in the namespace pinned at ``path``."""
    with namespaces.inside(path):
        _write(name, value)


def _write(name: str, value: str) -> None:
    path = f"/proc/sys/{name}"
    try:
        with open(path, "w") as file:
            file.write(value)
    except FileNotFoundError:
        pass  # a kernel without IPv6, or older than the setting
    except OSError as error:
        raise KernelError(f"write {value} to", path, error.errno or 0) from None


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        dummy, flags = _IFREQ.unpack(fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))


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
