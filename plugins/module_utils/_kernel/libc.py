# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door to the C library, and the one gate through which errno becomes an exception."""

from __future__ import annotations

import ctypes
import errno
import os

from .._errors import KernelError

TYPE_CHECKING = False  # see _cli/main.py
if TYPE_CHECKING:
    from typing import NoReturn

# PyDLL keeps the interpreter's lock during the call. Our processes have one thread, and a child of clone3 that had to
# take the lock back would do so with the thread state of its parent.
libc = ctypes.PyDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# System calls since 5.0 have one number on every architecture; the older ones that libc has no symbol for do not.
_OLDER = {
    "x86_64": {"pivot_root": 155, "bpf": 321, "seccomp": 317, "keyctl": 250, "capget": 125, "capset": 126},
    "aarch64": {"pivot_root": 41, "bpf": 280, "seccomp": 277, "keyctl": 219, "capget": 90, "capset": 91},
}
NR = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    **_OLDER.get(os.uname().machine, {}),
}

_HINTS = {errno.ENOSYS: "this kernel is too old for it, or a seccomp filter refuses it"}


def oserror(operation: str, obj: object = "", *, code: int | None = None, hint: str = "") -> NoReturn:
    """Raise what errno says of ``operation`` on ``obj``."""
    code = ctypes.get_errno() if code is None else code
    raise KernelError(operation, obj, code, hint=hint or _HINTS.get(code, ""))


def syscall(name: str, *args: object) -> int:
    """The call by its number; negative when it failed, with errno set. Python ints are passed as longs."""
    number = NR.get(name)
    if number is None:
        ctypes.set_errno(errno.ENOSYS)
        return -1
    return int(libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args]))


def encode(path: str | None) -> bytes | None:
    """A path as the kernel takes it."""
    return None if path is None else path.encode("utf-8", "surrogateescape")
