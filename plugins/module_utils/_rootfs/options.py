# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options as config.json has them (mount(8)'s words): flags, propagation and the file system's own data."""

from __future__ import annotations

from collections.abc import Sequence

from .._kernel import mount as m

MS_POSIXACL = 0x10000
MS_I_VERSION = 0x800000
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_ATIME = 0x70  # all that say when the time of access is written; 0 of them is relatime
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_FLAGS: dict[str, tuple[bool, int]] = {
    "acl": (True, MS_POSIXACL),
    "async": (False, m.MS_SYNCHRONOUS),
    "atime": (False, m.MS_NOATIME),
    "bind": (True, m.MS_BIND),
    "defaults": (True, 0),
    "dev": (False, m.MS_NODEV),
    "diratime": (False, m.MS_NODIRATIME),
    "dirsync": (True, m.MS_DIRSYNC),
    "exec": (False, m.MS_NOEXEC),
    "iversion": (True, MS_I_VERSION),
    "lazytime": (True, m.MS_LAZYTIME),
    "loud": (False, m.MS_SILENT),
    "mand": (True, m.MS_MANDLOCK),
    "noacl": (False, MS_POSIXACL),
    "noatime": (True, m.MS_NOATIME),
    "nodev": (True, m.MS_NODEV),
    "nodiratime": (True, m.MS_NODIRATIME),
    "noexec": (True, m.MS_NOEXEC),
    "noiversion": (False, MS_I_VERSION),
    "nolazytime": (False, m.MS_LAZYTIME),
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
    "symfollow": (False, m.MS_NOSYMFOLLOW),
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
# What mount_setattr(2) can set, by the flag of mount(2).
ATTRIBUTES = {
    m.MS_RDONLY: m.MOUNT_ATTR_RDONLY,
    m.MS_NOSUID: m.MOUNT_ATTR_NOSUID,
    m.MS_NODEV: m.MOUNT_ATTR_NODEV,
    m.MS_NOEXEC: m.MOUNT_ATTR_NOEXEC,
    m.MS_NOSYMFOLLOW: MOUNT_ATTR_NOSYMFOLLOW,
    m.MS_NODIRATIME: MOUNT_ATTR_NODIRATIME,
}
_ATIMES = {"noatime": MOUNT_ATTR_NOATIME, "strictatime": MOUNT_ATTR_STRICTATIME, "relatime": 0}


class MountOptions:
    """``recursive_set`` and ``recursive_clear`` are MOUNT_ATTR_* for all that is mounted below too."""

    def __init__(
        self,
        flags: int = 0,
        cleared: int = 0,
        propagation: Sequence[int] = (),
        data: str = "",
        copy_up: bool = False,
        recursive_set: int = 0,
        recursive_clear: int = 0,
    ) -> None:
        self.flags = flags
        self.cleared = cleared
        self.propagation = tuple(propagation)
        self.data = data
        self.copy_up = copy_up
        self.recursive_set = recursive_set
        self.recursive_clear = recursive_clear

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MountOptions) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((self.flags, self.data))

    def __repr__(self) -> str:
        return f"MountOptions({self.__dict__})"

    def writable(self) -> MountOptions:
        """The same without ro."""
        return MountOptions(
            self.flags & ~m.MS_RDONLY,
            self.cleared,
            self.propagation,
            self.data,
            self.copy_up,
            self.recursive_set,
            self.recursive_clear,
        )


def known() -> list[str]:
    """The words that are flags; everything else is handed to the file system."""
    recursive = [f"r{word}" for word in (*_ATIMES, *(word for word in _FLAGS if _attribute(word)))]
    return [*_FLAGS, *recursive, "tmpcopyup"]


def _attribute(word: str) -> int:
    return ATTRIBUTES.get(_FLAGS.get(word, (False, 0))[1], 0)


def _recursive(word: str) -> tuple[int, int]:
    """(set, clear) of a word for the whole tree, such as rro; zeros when it is none."""
    base = word[1:]
    if not word.startswith("r") or word in _FLAGS:
        return 0, 0
    if base in _ATIMES:
        return _ATIMES[base], MOUNT_ATTR_ATIME
    attribute = _attribute(base)
    return (attribute, 0) if _FLAGS.get(base, (False, 0))[0] else (0, attribute)


def parse(words: Sequence[str]) -> MountOptions:
    """Of two words that contradict each other, the later counts."""
    flags = cleared = recursive_set = recursive_clear = 0
    propagation: list[int] = []
    data: list[str] = []
    copy_up = False
    for word in words:
        to_set, to_clear = _recursive(word)
        if word in _FLAGS:
            on, bits = _FLAGS[word]
            flags, cleared = (flags | bits, cleared & ~bits) if on else (flags & ~bits, cleared | bits)
        elif to_set or to_clear:
            recursive_set = (recursive_set & ~to_clear) | to_set
            recursive_clear = (recursive_clear & ~to_set) | to_clear
            flags &= ~sum(flag for flag, attribute in ATTRIBUTES.items() if to_clear & attribute)
        elif word in PROPAGATION:
            propagation.append(PROPAGATION[word])
        elif word == "tmpcopyup":
            copy_up = True
        else:
            data.append(word)
    return MountOptions(flags, cleared, propagation, ",".join(data), copy_up, recursive_set, recursive_clear)
