# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of a build step, made in the union of the layers: the kernel follows the image's own symlinks, none out."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from .._errors import KernelError, StoreError
from .._kernel.file import write_all
from .._kernel.openat2 import mkdir_in_root, open_in_root
from .._kernel.overlay import open_overlay

# What is copied up is whole, and where its name is: a layer has to stand for itself.
OVERLAY_OPTIONS = ("redirect_dir=off", "metacopy=off", "index=off")
_CHUNK = 1 << 20


def copy(step: Mapping[str, Any], lower: Sequence[str], upper: str, work: str) -> None:
    """``step`` has dest, src or content, and maybe uid, gid and mode.

    A file goes to ``dest``, or into it where that ends with / or is a directory; a directory's content goes into
    ``dest``. Missing directories are made as root's. Files keep the time of their source; their owner is uid:gid.
    """
    try:
        root = open_overlay(lower[::-1], upper, work, OVERLAY_OPTIONS)
        try:
            _Copy(root, step).run()
        finally:
            os.close(root)
    except OSError as error:
        raise KernelError(f"copy {step.get('src') or 'content'} to", step["dest"], error.errno or 0) from None


class _Copy:
    def __init__(self, root: int, step: Mapping[str, Any]) -> None:
        self.root = root
        self.source = step.get("src")
        self.content = step.get("content")
        self.destination = step["dest"]
        self.uid, self.gid = step.get("uid") or 0, step.get("gid") or 0
        self.mode = step.get("mode")

    def run(self) -> None:
        if self.source is not None and os.path.isdir(self.source):
            with self._directory(self.destination) as fd:
                self._tree(self.source, fd)
            return
        path = self.destination
        if self.source is not None and (path.endswith("/") or self._is_directory(path)):
            path = os.path.join(path, os.path.basename(self.source))
        with self._directory(os.path.dirname(path)) as fd:
            self._file(fd, os.path.basename(path))

    @contextlib.contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        """The directory as the container would find it, made where it is missing; fit for reading it."""
        try:
            found = mkdir_in_root(self.root, path)
        except FileExistsError:
            hint = "make what it leads to first"
            raise StoreError(f"{path} leads through a symlink that leads nowhere in the image", hint=hint) from None
        try:
            fd = open_in_root(found, ".", os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(found)
        try:
            yield fd
        finally:
            os.close(fd)

    def _is_directory(self, path: str) -> bool:
        try:
            os.close(open_in_root(self.root, path, os.O_PATH | os.O_DIRECTORY))
            return True
        except KernelError:
            return False

    def _tree(self, source: str, fd: int) -> None:
        with os.scandir(source) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    self._subdirectory(entry, fd)
                elif entry.is_symlink():
                    self._symlink(entry, fd)
                elif entry.is_file(follow_symlinks=False):
                    with open(entry.path, "rb", buffering=0) as file:
                        self._write(fd, entry.name, file.fileno())
                else:
                    raise StoreError(f"{entry.path} is no file, directory or symlink")

    def _symlink(self, entry: os.DirEntry[str], parent: int) -> None:
        time = entry.stat(follow_symlinks=False).st_mtime_ns
        _clear(parent, entry.name)
        os.symlink(os.readlink(entry.path), entry.name, dir_fd=parent)
        os.chown(entry.name, self.uid, self.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(entry.name, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def _subdirectory(self, entry: os.DirEntry[str], parent: int) -> None:
        info = entry.stat(follow_symlinks=False)
        with contextlib.suppress(FileExistsError):
            os.mkdir(entry.name, 0o700, dir_fd=parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(entry.name, flags, dir_fd=parent)
        try:
            os.fchown(fd, self.uid, self.gid)
            os.fchmod(fd, stat.S_IMODE(info.st_mode) if self.mode is None else _searchable(self.mode))
            self._tree(entry.path, fd)
            os.utime(fd, ns=(info.st_mtime_ns, info.st_mtime_ns))
        finally:
            os.close(fd)

    def _file(self, parent: int, name: str) -> None:
        if self.source is None:
            self._write(parent, name, None)
            return
        with open(self.source, "rb", buffering=0) as file:
            self._write(parent, name, file.fileno())

    def _write(self, parent: int, name: str, source: Optional[int]) -> None:
        """A file of the name, in place of what has it; through a symlink nothing is written."""
        _clear(parent, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            mode = 0o644 if source is None else stat.S_IMODE(os.fstat(source).st_mode)
            if source is None:
                write_all(fd, str(self.content).encode("utf-8", "surrogateescape"))
            else:
                _transfer(source, fd)
            os.fchown(fd, self.uid, self.gid)
            os.fchmod(fd, mode if self.mode is None else self.mode)
            if source is not None:
                time = os.fstat(source).st_mtime_ns
                os.utime(fd, ns=(time, time))
        finally:
            os.close(fd)


def _transfer(source: int, target: int) -> None:
    while True:
        data = os.read(source, _CHUNK)
        if not data:
            return
        write_all(target, data)


def _clear(parent: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _searchable(mode: int) -> int:
    """A directory's mode for its files' mode: who may read may enter."""
    return mode | (mode & 0o444) >> 2
