# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directories of a layer in the making, each reached without following a symlink: that is how a tar gets out."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .._errors import KernelError, StoreError
from .._kernel.file import remove_tree
from .._kernel.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
OVERLAY = "trusted.overlay."
_PATH_MAX = 4095
_DEPTH_MAX = 256
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_BELOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_NO_DIRECTORY = (errno.ENOTDIR, errno.ELOOP)
# What a directory hands on to all that is made in it.
_INHERITED = ("system.posix_acl_default", "system.posix_acl_access")

Path = tuple[str, ...]


class Tree:
    """An open directory that is being filled; ``lost`` tells whether content was removed again."""

    def __init__(self, directory: str) -> None:
        self.root = os.open(directory, _DIRECTORY | os.O_CLOEXEC)
        # Entries of one directory follow one another.
        self.parent: Path = ()
        self.parent_fd = os.dup(self.root)
        self.lost = False
        for name in _INHERITED:
            with contextlib.suppress(OSError):
                os.removexattr(self.root, name)

    def close(self) -> None:
        os.close(self.parent_fd)
        os.close(self.root)

    def owner(self) -> tuple[int, int]:
        """Whose all is that is made in it; -1 for a group that depends on how it is mounted."""
        info = os.fstat(self.root)
        inherits = info.st_mode & stat.S_ISGID or info.st_gid != os.getegid()
        return os.geteuid(), -1 if inherits else info.st_gid

    def open(self, path: Path) -> int:
        """A new descriptor of a directory that is there; KernelError."""
        return openat2(self.root, "/".join(path) or ".", _DIRECTORY, resolve=_BELOW)

    def find(self, path: Path) -> int:
        """A new descriptor of a directory, or -1 where that is none, or none any more."""
        try:
            return self.open(path)
        except KernelError as error:
            if error.errno in (errno.ENOENT, *_NO_DIRECTORY):
                return -1
            raise

    def directory_of(self, path: Path, name: str) -> int:
        """The entry's directory, made where the tar does not have it. The descriptor is good until the next call."""
        parent = path[:-1]
        if parent != self.parent:
            fd = self._reach(parent, name)
            os.close(self.parent_fd)
            self.parent, self.parent_fd = parent, fd
        return self.parent_fd

    def _reach(self, path: Path, name: str) -> int:
        fd = self.find(path)
        if fd >= 0:
            return fd
        fd = os.dup(self.root)
        for part in path:
            try:
                step = self._step(fd, part, name)
            finally:
                os.close(fd)
            fd = step
        return fd

    def _step(self, fd: int, part: str, name: str) -> int:
        """One directory further; one that the tar does not have is made, as root's."""
        try:
            return openat2(fd, part, _DIRECTORY, resolve=_BELOW)
        except KernelError as error:
            if error.errno in _NO_DIRECTORY and not is_whiteout(os.lstat(encode(part), dir_fd=fd)):
                raise StoreError(f"the layer's entry {name!r} leads through {part!r}, which is no directory") from None
            if error.errno not in (errno.ENOENT, *_NO_DIRECTORY):
                raise
        self.mkdir(fd, part)
        step = openat2(fd, part, _DIRECTORY, resolve=_BELOW)
        os.fchown(step, 0, 0)
        os.fchmod(step, 0o755)
        return step

    def mkdir(self, parent: int, name: str) -> None:
        """What has the name goes; it hid what is below, so that the directory has to."""
        replaced = self._remove(parent, name)
        os.mkdir(encode(name), 0o755, dir_fd=parent)
        if replaced:
            set_opaque(parent, name)

    def clear(self, path: Path, name: str) -> int:
        """Of two entries with one name the later counts: take the earlier away. The directory it was in."""
        self._remove(self.directory_of(path, name), path[-1])
        return self.directory_of(path, name)

    def _remove(self, parent: int, name: str) -> bool:
        """Was there one?"""
        try:
            info = os.lstat(encode(name), dir_fd=parent)
        except FileNotFoundError:
            return False
        self.lost |= stat.S_ISDIR(info.st_mode) or (stat.S_ISREG(info.st_mode) and info.st_size > 0)
        if stat.S_ISDIR(info.st_mode):
            remove_tree(os.path.join(os.readlink(f"/proc/self/fd/{parent}"), name))
            # The directory that is open may be below what was removed.
            os.close(self.parent_fd)
            self.parent, self.parent_fd = (), os.dup(self.root)
        else:
            os.unlink(encode(name), dir_fd=parent)
        return True


def parts(name: str) -> Path:
    """A path below the layer, as its components; none for the layer's top. One that leads elsewhere is refused."""
    found = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in found:
        raise StoreError(f"the layer's entry {name!r} climbs out of the layer")
    if "\0" in name:
        raise StoreError(f"the layer's entry {name[:60]!r} has a NUL byte in its name")
    if name.startswith("/") and found:
        raise StoreError(f"the layer's entry {name!r} has an absolute name")
    if len(name) > _PATH_MAX or len(found) > _DEPTH_MAX:
        raise StoreError(f"the layer's entry {name[:60]!r}… has {len(name)} characters in {len(found)} parts")
    return found


def is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def set_opaque(parent: int, name: str) -> None:
    os.setxattr(proc(parent, name), f"{OVERLAY}opaque", b"y", follow_symlinks=False)


def encode(name: str) -> bytes:
    """File names are bytes, whatever the locale."""
    return name.encode("utf-8", "surrogateescape")


def proc(parent: int, name: str) -> bytes:
    """xattr calls take no directory descriptor."""
    return b"/proc/self/fd/%d/%s" % (parent, encode(name))
