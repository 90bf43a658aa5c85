# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mount(2), umount2(2), pivot_root(2), and the file descriptor based mount calls."""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

from .libc import encode, libc, oserror, syscall

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000
MS_LAZYTIME = 0x2000000

MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_IDMAP = 0x00100000

libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


class mount_attr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount(source: str, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Mount ``source`` on ``target``; ``flags`` are MS_*."""
    if libc.mount(encode(source), encode(target), encode(fstype), flags, encode(data)) < 0:
        oserror(f"mount {fstype or source} on", target)


def umount2(target: str, flags: int = 0) -> None:
    """Take the topmost mount off ``target``; ``flags`` are MNT_* and UMOUNT_NOFOLLOW."""
    if libc.umount2(encode(target), flags) < 0:
        oserror("umount", target)


def pivot_root(new_root: str, put_old: str) -> None:
    if syscall("pivot_root", encode(new_root), encode(put_old)) < 0:
        oserror("pivot_root", new_root)


def open_tree(path: str, flags: int, *, dirfd: int = AT_FDCWD) -> int:
    """A descriptor of the mount at ``path``; with OPEN_TREE_CLONE, of a detached copy."""
    fd = syscall("open_tree", dirfd, encode(path), flags | OPEN_TREE_CLOEXEC)
    if fd < 0:
        oserror("open_tree", path)
    return fd


def move_mount(from_fd: int, to_fd: int) -> None:
    """Attach the mount that ``from_fd`` holds to what ``to_fd`` is open on."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    if syscall("move_mount", from_fd, b"", to_fd, b"", flags) < 0:
        oserror("move_mount", f"fd {from_fd}")


def mount_setattr(
    fd: int, *, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0, userns_fd: int = 0, recursive: bool = False
) -> None:
    """Change the mount that ``fd`` holds; ``recursive`` takes all below it too (Linux 5.12)."""
    attr = mount_attr(attr_set, attr_clr, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    if syscall("mount_setattr", fd, b"", flags, ctypes.byref(attr), ctypes.sizeof(attr)) < 0:
        oserror("mount_setattr", f"fd {fd}")


def fsopen(fstype: str) -> int:
    fd = syscall("fsopen", encode(fstype), FSOPEN_CLOEXEC)
    if fd < 0:
        oserror("fsopen", fstype)
    return fd


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None, aux: int = 0) -> None:
    if syscall("fsconfig", fd, command, encode(key), encode(value), aux) < 0:
        oserror("fsconfig", f"{key or command}={value}" if value is not None else key or command)


def fsmount(fd: int, attr_flags: int = 0) -> int:
    """A descriptor of the new, still detached mount."""
    mount_fd = syscall("fsmount", fd, FSMOUNT_CLOEXEC, attr_flags)
    if mount_fd < 0:
        oserror("fsmount", f"fd {fd}")
    return mount_fd


class Mounted(NamedTuple):
    """What /proc/self/mountinfo has of a mount: ``words`` are its own flags, ``source`` what the file system calls its
    device, ``number`` that device's major and minor."""

    fstype: str
    source: str
    words: tuple[str, ...]
    number: str


def mounted(path: str) -> str:
    """The type of the topmost file system that is mounted there, empty when none is (proc_pid_mountinfo(5))."""
    found = mount_at(path)
    return found.fstype if found else ""


def mount_at(path: str) -> Mounted | None:
    """The topmost mount there. The file system itself is not asked: its server may be gone."""
    # Its fields escape what would end them.
    parent, name = os.path.split(path)
    wanted = os.path.join(os.path.realpath(parent), name).translate(_ESCAPES)
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.rstrip("\n").split(" ")
            if fields[4] == wanted:
                fstype, source = fields[fields.index("-") + 1 :][:2]
                found = Mounted(fstype, _plain(source), tuple(fields[5].split(",")), fields[2])
    return found


_ESCAPES = {ord(char): f"\\{ord(char):03o}" for char in " \t\n\\"}


def _plain(text: str) -> str:
    for code, escaped in _ESCAPES.items():
        if code != ord("\\"):
            text = text.replace(escaped, chr(code))
    return text.replace("\\134", "\\")
