# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options as config.json has them (mount(8)'s words): flags, propagation and the file system's own data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._kernel import mount as m

_FLAGS: dict[str, tuple[bool, int]] = {
    "async": (False, m.MS_SYNCHRONOUS),
    "atime": (False, m.MS_NOATIME),
    "bind": (True, m.MS_BIND),
    "defaults": (True, 0),
    "dev": (False, m.MS_NODEV),
    "diratime": (False, m.MS_NODIRATIME),
    "dirsync": (True, m.MS_DIRSYNC),
    "exec": (False, m.MS_NOEXEC),
    "lazytime": (True, m.MS_LAZYTIME),
    "mand": (True, m.MS_MANDLOCK),
    "noatime": (True, m.MS_NOATIME),
    "nodev": (True, m.MS_NODEV),
    "nodiratime": (True, m.MS_NODIRATIME),
    "noexec": (True, m.MS_NOEXEC),
    "nomand": (False, m.MS_MANDLOCK),
    "norelatime": (False, m.MS_RELATIME),
    "nostrictatime": (False, m.MS_STRICTATIME),
    "nosuid": (True, m.MS_NOSUID),
    "nosymfollow": (True, m.MS_NOSYMFOLLOW),
    "rbind": (True, m.MS_BIND | m.MS_REC),
    "relatime": (True, m.MS_RELATIME),
    "remount": (True, m.MS_REMOUNT),
    "ro": (True, m.MS_RDONLY),
    "rw": (False, m.MS_RDONLY),
    "silent": (True, m.MS_SILENT),
    "strictatime": (True, m.MS_STRICTATIME),
    "suid": (False, m.MS_NOSUID),
    "sync": (True, m.MS_SYNCHRONOUS),
}
PROPAGATION = {
    "private": m.MS_PRIVATE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "shared": m.MS_SHARED,
    "rshared": m.MS_SHARED | m.MS_REC,
    "slave": m.MS_SLAVE,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "unbindable": m.MS_UNBINDABLE,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}


def known() -> list[str]:
    """The words that are flags; everything else is handed to the file system."""
    return [*_FLAGS, "tmpcopyup"]


@dataclass(frozen=True)
class MountOptions:
    flags: int = 0
    cleared: int = 0
    propagation: tuple[int, ...] = ()
    data: str = ""
    copy_up: bool = False


def parse(words: Sequence[str]) -> MountOptions:
    """Of two words that contradict each other, the later counts."""
    flags = cleared = 0
    propagation: list[int] = []
    data: list[str] = []
    copy_up = False
    for word in words:
        if word in _FLAGS:
            on, bits = _FLAGS[word]
            flags, cleared = (flags | bits, cleared & ~bits) if on else (flags & ~bits, cleared | bits)
        elif word in PROPAGATION:
            propagation.append(PROPAGATION[word])
        elif word == "tmpcopyup":
            copy_up = True
        else:
            data.append(word)
    return MountOptions(flags, cleared, tuple(propagation), ",".join(data), copy_up)
