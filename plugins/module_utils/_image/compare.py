# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar's entries beside the directory that they were unpacked to: what hashing the content again does not tell."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from typing import Optional

from . import acl
from .attributes import is_hosts, mode, owner, xattr, xattrs
from .member import mtime_ns
from .tree import OPAQUE, OVERLAY, WHITEOUT, Path, encode, is_whiteout, parts

_AUFS = ".wh..wh."
_YEAR_2038 = 2**31
_KINDS = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.AREGTYPE: stat.S_IFREG,
    tarfile.CONTTYPE: stat.S_IFREG,
    tarfile.GNUTYPE_SPARSE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
}


class Comparison:
    """Told of each entry; problem() then says what the first is that is not as its entry says."""

    def __init__(self, directory: str) -> None:
        self._directory = os.fsencode(directory)
        self._members: dict[Path, tarfile.TarInfo] = {}
        self._again: set[Path] = set()  # more than one entry has the name, and the last counts
        self._hidden: set[Path] = set()  # by a whiteout
        self._opaque: set[Path] = set()
        self._parents: set[Path] = {()}

    def member(self, member: tarfile.TarInfo) -> None:
        path = parts(member.name)
        self._parents.update(path[:end] for end in range(1, len(path)))
        if path and path[-1] == OPAQUE:
            self._opaque.add(path[:-1])
        elif path and path[-1].startswith(WHITEOUT):
            if not path[-1].startswith(_AUFS):
                self._hidden.add((*path[:-1], path[-1][len(WHITEOUT) :]))
        else:
            if path in self._members:
                self._again.add(path)
            self._members[path] = member

    def problem(self) -> str:
        """A sentence, or nothing."""
        for path, info in self._walk(()):
            wrong = self._wrong(path, info)
            if wrong:
                return f"{'/'.join(path) or 'its top'} {wrong}"
        missing = self._missing()
        return f"{'/'.join(missing)} is missing" if missing else ""

    def _path(self, path: Path) -> bytes:
        return b"/".join((self._directory, *map(encode, path)))

    def _walk(self, path: Path) -> Iterator[tuple[Path, os.stat_result]]:
        info = os.lstat(self._path(path))
        yield path, info
        if stat.S_ISDIR(info.st_mode):
            for name in sorted(os.listdir(self._path(path))):
                yield from self._walk((*path, name.decode("utf-8", "surrogateescape")))

    def _missing(self) -> Optional[Path]:
        for path, member in self._members.items():
            # Devices are left out where nobody asked for them.
            if not (member.ischr() or member.isblk() or os.path.lexists(self._path(path))):
                return path
        return next((path for path in self._hidden if not os.path.lexists(self._path(path))), None)

    def _wrong(self, path: Path, info: os.stat_result) -> str:
        member = self._members.get(path)
        if member is None:
            return self._unsaid(path, info)
        if member.islnk():
            return self._hardlink(member, path, info)
        if stat.S_IFMT(info.st_mode) != _KINDS.get(member.type):
            return f"is {stat.filemode(info.st_mode)}, which its entry is not"
        return self._kind(member, path, info) or self._metadata(member, path, info)

    def _unsaid(self, path: Path, info: os.stat_result) -> str:
        """No entry has the name: it is a whiteout, or a directory that others are in."""
        if path in self._hidden and is_whiteout(info):
            return ""
        if not stat.S_ISDIR(info.st_mode) or path not in self._parents:
            return "is not in the layer"
        plain = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o755, 0, 0)
        return self._marks(path) if plain or not path else "has another owner or mode"

    def _hardlink(self, member: tarfile.TarInfo, path: Path, info: os.stat_result) -> str:
        target = parts(member.linkname.lstrip("/"))
        if target == path or target in self._again:
            return ""
        try:
            same = os.path.samestat(info, os.lstat(self._path(target)))
        except FileNotFoundError:
            same = False
        return "" if same else f"is no hard link to {'/'.join(target)}"

    def _kind(self, member: tarfile.TarInfo, path: Path, info: os.stat_result) -> str:
        if member.isreg() and info.st_size != member.size:
            return f"has {info.st_size} bytes, and should have {member.size}"
        if member.issym() and os.readlink(self._path(path)) != encode(member.linkname):
            return "leads elsewhere"
        if (member.ischr() or member.isblk()) and info.st_rdev != os.makedev(member.devmajor, member.devminor):
            return "is another device"
        return self._marks(path) if member.isdir() else ""

    def _marks(self, path: Path) -> str:
        """Does the directory hide what is below if it has to? One that took a name from something else hides, too."""
        if path in self._again:
            return ""
        found = xattr(self._path(path), f"{OVERLAY}opaque") == b"y"
        wanted = path in self._opaque or path in self._hidden
        return "" if found == wanted else "is opaque" if found else "is not opaque any more"

    def _metadata(self, member: tarfile.TarInfo, path: Path, info: os.stat_result) -> str:
        wanted = dict(xattrs(member))
        permissions = acl.mode(wanted[acl.ACCESS], mode(member)) if acl.ACCESS in wanted else mode(member)
        if not member.issym() and stat.S_IMODE(info.st_mode) != permissions:
            return f"has the mode {stat.S_IMODE(info.st_mode):04o}, and should have {permissions:04o}"
        if (info.st_uid, info.st_gid) != owner(member):
            return f"has the owner {info.st_uid}:{info.st_gid}, and should have {member.uid}:{member.gid}"
        # File systems keep whole seconds at least, and some of them none after 2038.
        time = mtime_ns(member)
        if info.st_mtime_ns not in (time, time // 10**9 * 10**9) and abs(time) < _YEAR_2038 * 10**9:
            return f"has the time {info.st_mtime_ns}, and should have {time}"
        return _xattrs(self._path(path), wanted)


def _xattrs(path: bytes, wanted: dict[str, bytes]) -> str:
    for name, value in wanted.items():
        found = xattr(path, name)
        if found is not None and not _same(name, found, value):
            return f"has another {name}" if found else f"has lost {name}"
    for name in os.listxattr(path, follow_symlinks=False):
        if name not in wanted and not is_hosts(name):
            return f"has {name}, which is not in the layer"
    return ""


def _same(name: str, found: bytes, wanted: bytes) -> bool:
    """An ACL that says no more than the mode is kept as the mode."""
    if name not in (acl.ACCESS, acl.DEFAULT):
        return found == wanted
    return acl.entries(found) == acl.entries(wanted) or (name == acl.ACCESS and not found and acl.is_minimal(wanted))
