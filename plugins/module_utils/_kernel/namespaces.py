# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""clone3(2), unshare(2), setns(2): the eight namespaces of namespaces(7)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

from .libc import encode, libc, oserror, syscall

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_INTO_CGROUP = 0x200000000

# Names as in linux.namespaces of the OCI runtime-spec, then the file below /proc/PID/ns.
FLAGS = {
    "user": CLONE_NEWUSER,
    "mount": CLONE_NEWNS,
    "network": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}
FILES = {
    "user": "user",
    "mount": "mnt",
    "network": "net",
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
}


class clone_args(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def unshare(flags: int) -> None:
    if libc.unshare(flags) < 0:
        oserror("unshare", hex(flags))


def setns(fd: int, flags: int = 0) -> None:
    """Join the namespace ``fd`` is open on; a pidfd takes several flags at once (Linux 5.8)."""
    if libc.setns(fd, flags) < 0:
        oserror("setns", hex(flags))


def clone3(flags: int, *, cgroup_fd: int = -1) -> tuple[int, int]:
    """Fork with new namespaces: (pid, pidfd) in the parent, (0, -1) in the child.

    The caller's process must have one thread: the child gets a copy of that one alone.
    """
    pidfd = ctypes.c_int(-1)
    args = clone_args(flags=flags | CLONE_PIDFD, pidfd=ctypes.addressof(pidfd), exit_signal=signal.SIGCHLD)
    if flags & CLONE_PARENT:
        args.exit_signal = 0
    if cgroup_fd >= 0:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup_fd
    before, after_parent, after_child = (
        ctypes.pythonapi.PyOS_BeforeFork,
        ctypes.pythonapi.PyOS_AfterFork_Parent,
        ctypes.pythonapi.PyOS_AfterFork_Child,
    )
    before()
    pid = syscall("clone3", ctypes.byref(args), ctypes.sizeof(args))
    if pid == 0:
        after_child()
        return 0, -1
    code = ctypes.get_errno()
    after_parent()
    if pid < 0:
        oserror("clone3", hex(args.flags), code=code)
    return pid, pidfd.value


@contextlib.contextmanager
def inside(path: str, kind: str = "network") -> Iterator[None]:
    """This thread in the namespace at ``path`` for a while. Not for mount, pid or user: those do not lead back."""
    home = os.open(f"/proc/thread-self/ns/{FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd, FLAGS[kind])
        finally:
            os.close(fd)
        try:
            yield
        finally:
            setns(home, FLAGS[kind])
    finally:
        os.close(home)


def sethostname(name: str) -> None:
    data = encode(name) or b""
    if libc.sethostname(data, len(data)) < 0:
        oserror("sethostname", name)


def setdomainname(name: str) -> None:
    data = encode(name) or b""
    if libc.setdomainname(data, len(data)) < 0:
        oserror("setdomainname", name)
