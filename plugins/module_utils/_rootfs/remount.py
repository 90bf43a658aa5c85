# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags of mounts before Linux 5.12, whose mount(2) changes only what has its place already, and one mount at a time.

Until the last of them has its flags the tree is in its place without them. Nobody is there to see it: the process that
does this is alone in its mount namespace.
"""

from __future__ import annotations

import errno
import os

from .._errors import KernelError
from .._kernel import mount as m
from . import target
from .options import MountOptions

# What a mount has, as proc_pid_mountinfo(5) spells it: MS_REMOUNT takes away whatever is not said again.
_FLAGS = {
    "ro": m.MS_RDONLY,
    "nosuid": m.MS_NOSUID,
    "nodev": m.MS_NODEV,
    "noexec": m.MS_NOEXEC,
    "noatime": m.MS_NOATIME,
    "nodiratime": m.MS_NODIRATIME,
    "relatime": m.MS_RELATIME,
}
_ATIME = m.MS_NOATIME | m.MS_RELATIME | m.MS_STRICTATIME


def like(tree: int, options: MountOptions, *, recursive: bool) -> None:
    """The flags that mount_setattr(2) would have given to the mount that ``tree`` holds; recursive with those below."""
    if options.recursive_set or options.recursive_clear:
        hint = "it has no mount_setattr(2); use the options that are not recursive"
        raise KernelError("set recursive mount options before Linux 5.12 on", f"fd {tree}", errno.ENOSYS, hint=hint)
    top = os.readlink(f"/proc/self/fd/{tree}")
    for propagation in options.propagation or (m.MS_PRIVATE | m.MS_REC,):
        m.mount("none", target.by_fd(tree), None, propagation)
    for path, present in below(top):
        if path == top or recursive:
            cleared = options.cleared if path == top else 0
            _remount(path, present, options.flags, cleared)


def _remount(path: str, present: int, flags: int, cleared: int) -> None:
    wanted = flags & ~(m.MS_REC | m.MS_BIND | m.MS_REMOUNT)
    kept = present & ~cleared
    if wanted & _ATIME:
        kept &= ~_ATIME
    if kept | wanted != present:
        m.mount("none", path, None, m.MS_REMOUNT | m.MS_BIND | kept | wanted)


def below(top: str) -> list[tuple[str, int]]:
    """The topmost mount at ``top`` and at every place below it, with its flags."""
    found = {}
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            fields = line.split()
            path = os.fsdecode(fields[4].decode("unicode_escape").encode("latin-1"))
            if path == top or path.startswith(f"{top.rstrip('/')}/"):
                found[path] = sum(_FLAGS.get(word, 0) for word in fields[5].decode().split(","))
    return list(found.items())
