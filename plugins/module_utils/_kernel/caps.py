# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""capabilities(7): the five sets of a thread, through capset(2) and prctl(2)."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterable

from .libc import libc, oserror, syscall

_NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
# The order is that of linux/capability.h, so the position is the number.
NUMBERS = {f"CAP_{name}": number for number, name in enumerate(_NAMES)}

PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


class cap_header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class cap_data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def last_cap() -> int:
    """The highest number that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


def numbers(names: Iterable[str], last: int) -> list[int]:
    """Numbers of those that the kernel knows; newer names are left out, as they could not be held anyway."""
    return [NUMBERS[name] for name in names if NUMBERS[name] <= last]


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """The result, which is negative when the kernel refused."""
    return int(libc.prctl(option, *[ctypes.c_ulong(arg) for arg in (arg2, arg3, arg4, arg5)]))


def keep_caps(keep: bool) -> None:
    """Whether the permitted set survives the change away from uid 0."""
    if prctl(PR_SET_KEEPCAPS, int(keep)) < 0:
        oserror("prctl", "PR_SET_KEEPCAPS")


def drop_bounding(keep: Iterable[str], last: int) -> None:
    """Take all but ``keep`` out of the bounding set; needs CAP_SETPCAP, so it comes before the uid is changed."""
    kept = set(numbers(keep, last))
    for number in range(last + 1):
        # What is absent already need not go: dropping needs CAP_SETPCAP, which an unprivileged caller lacks.
        if number not in kept and prctl(PR_CAPBSET_DROP, number) < 0 and prctl(PR_CAPBSET_READ, number) == 1:
            oserror("prctl", f"PR_CAPBSET_DROP {number}", code=errno.EPERM)


def held() -> set[str]:
    """Names in the permitted set of this thread."""
    header, data = cap_header(_LINUX_CAPABILITY_VERSION_3, 0), (cap_data * 2)()
    if syscall("capget", ctypes.byref(header), data) < 0:
        oserror("capget")
    bits = data[0].permitted | data[1].permitted << 32
    return {name for name, number in NUMBERS.items() if bits >> number & 1}


def apply(
    *,
    effective: Iterable[str] = (),
    permitted: Iterable[str] = (),
    inheritable: Iterable[str] = (),
    ambient: Iterable[str] = (),
    last: int,
) -> None:
    """Set the four sets that capset(2) and PR_CAP_AMBIENT set; the bounding set is drop_bounding's."""
    masks = [sum(1 << number for number in set(numbers(names, last))) for names in (effective, permitted, inheritable)]
    header = cap_header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (cap_data * 2)(
        cap_data(*[mask & 0xFFFFFFFF for mask in masks]),
        cap_data(*[mask >> 32 for mask in masks]),
    )
    if syscall("capset", ctypes.byref(header), data) < 0:
        oserror("capset", hint="the caller does not hold every capability that is asked for")
    if prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL) < 0:
        oserror("prctl", "PR_CAP_AMBIENT_CLEAR_ALL")
    for number in numbers(ambient, last):
        if prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number) < 0:
            oserror("prctl", f"PR_CAP_AMBIENT_RAISE {number}")
