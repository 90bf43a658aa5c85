# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a build copies from: a context, an image, or another stage.

Somebody else filled it, so that no path is resolved by string and no symlink leads out of it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import stat
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from ..._errors import KernelError, StoreError
from ..._kernel.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, open_in_root, openat2
from ..record import canonical
from ..tree import is_whiteout
from .ignore import Ignore, glob, has_glob

_BELOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_CHUNK = 1 << 20
# A file that changed so shortly before it was read may change again without another time (the kernel's clock ticks).
_TICK_NS = 100_000_000
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
Known = dict[str, list[Any]]


class Entry(NamedTuple):
    """``name`` is below what was asked for and empty for itself, ``path`` below the tree's top."""

    name: str
    path: str
    info: os.stat_result


class Tree:
    """``root`` is a descriptor of the top, which the tree owns. ``known`` are digests of files by what stat(2) said of
    them, from the last build; ``seen`` becomes those of this one."""

    def __init__(self, root: int, ignored: Optional[Ignore] = None, known: Optional[Known] = None) -> None:
        self.root = root
        self.ignored = ignored or Ignore()
        self.known = known or {}
        self.seen: Known = {}
        self._digests: dict[str, str] = {}

    def close(self) -> None:
        os.close(self.root)

    # which
    def find(self, pattern: str) -> list[str]:
        """Names that the pattern fits, in order; a name without a glob is found when it is there. StoreError for a
        path that leads out."""
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        depth = 0
        for part in parts:
            depth += -1 if part == ".." else 1
            if depth < 0:
                raise StoreError(f"{pattern!r} leads out of what is copied from")
        found = [""]
        for part in posixpath.normpath("/".join(parts) or ".").split("/"):
            if part != ".":
                found = [name for directory in found for name in self._children(directory, part)]
        return found

    def _children(self, directory: str, pattern: str) -> list[str]:
        if not has_glob(pattern):
            names = [pattern]
        elif not self._is_directory(directory):
            return []
        else:
            expression = re.compile(glob(pattern), re.DOTALL)
            names = [name for name in self._list(self.real(directory)) if expression.fullmatch(name)]
        joined = (f"{directory}/{name}" if directory else name for name in names)
        return [name for name in joined if self._is_there(name)]

    def _is_there(self, name: str) -> bool:
        try:
            path = self.real(name)
        except KernelError as error:
            if error.errno in _ABSENT:
                return False
            raise
        return not self.ignored(path) or (self.ignored.has_exceptions and any(True for dummy in self.walk(name)))

    def _is_directory(self, name: str) -> bool:
        try:
            os.close(open_in_root(self.root, name, os.O_PATH | os.O_DIRECTORY))
            return True
        except KernelError:
            return False

    def _list(self, path: str) -> list[str]:
        fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def real(self, name: str) -> str:
        """The path below the top, with all symlinks in it followed as a process would whose root is the top."""
        fd = open_in_root(self.root, name)
        try:
            top, path = (os.readlink(f"/proc/self/fd/{number}") for number in (self.root, fd))
        finally:
            os.close(fd)
        return path[len(top.rstrip("/")) :].lstrip("/")

    # what
    def walk(self, name: str) -> Iterator[Entry]:
        """What is there and, in a directory, all in it that is not ignored; a directory before what is in it."""
        path = self.real(name)
        fd = self._open(path, os.O_PATH)
        try:
            info = os.fstat(fd)
        finally:
            os.close(fd)
        top = Entry("", path, info)
        below = self._below(top) if stat.S_ISDIR(info.st_mode) else iter(())
        yield from self._unless_ignored(top, below)

    def _below(self, top: Entry) -> Iterator[Entry]:
        fd = self._open(top.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        finally:
            os.close(fd)
        for name, info in sorted(found, key=lambda item: item[0]):
            entry = Entry(_join(top.name, name), _join(top.path, name), info)
            if not is_whiteout(info):
                below = self._below(entry) if stat.S_ISDIR(info.st_mode) else iter(())
                yield from self._unless_ignored(entry, below)

    def _unless_ignored(self, entry: Entry, below: Iterator[Entry]) -> Iterator[Entry]:
        """A directory that is ignored is there all the same when something in it is not."""
        if not self.ignored(entry.path):
            yield entry
            yield from below
        elif self.ignored.has_exceptions:
            first = next(below, None)
            if first is not None:
                yield entry
                yield first
                yield from below

    def open(self, path: str) -> int:
        """A file of walk(), for reading."""
        return self._open(path, os.O_RDONLY | os.O_NONBLOCK)  # it may have become a FIFO meanwhile

    def readlink(self, path: str) -> str:
        """Where a symlink of walk() leads to."""
        fd = self._open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)

    def _open(self, path: str, flags: int) -> int:
        return openat2(self.root, path or ".", flags, resolve=_BELOW)

    # the same as before?
    def digest(self, name: str) -> str:
        """Of names, kinds, modes and contents; times say nothing, and owners neither: what is copied has others."""
        if name not in self._digests:
            digest = hashlib.sha256()
            for entry in self.walk(name):
                digest.update(canonical([entry.name, entry.info.st_mode, self._content(entry)]))
            self._digests[name] = digest.hexdigest()
        return self._digests[name]

    def _content(self, entry: Entry) -> str:
        if stat.S_ISLNK(entry.info.st_mode):
            return self.readlink(entry.path)
        if not stat.S_ISREG(entry.info.st_mode):
            return ""
        info = entry.info
        identity = [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]
        known = self.known.get(entry.path)
        found = str(known[1]) if known and known[0] == identity else self._hash(entry.path)
        if time.time_ns() - info.st_ctime_ns > _TICK_NS:
            self.seen[entry.path] = [identity, found]
        return found

    def _hash(self, path: str) -> str:
        digest = hashlib.sha256()
        fd = self.open(path)
        try:
            for block in iter(lambda: os.read(fd, _CHUNK), b""):
                digest.update(block)
        finally:
            os.close(fd)
        return digest.hexdigest()


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
