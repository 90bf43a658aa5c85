# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a tree written into the union of layers: the kernel follows the image's own symlinks, none of them out."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Optional

from .._errors import KernelError, StoreError
from .._kernel.file import write_all
from .._kernel.openat2 import open_in_root, openat2
from . import accounts
from .build.ignore import Ignore
from .build.tree import Entry, Tree

# What is copied up is whole, and where its name is: a layer has to stand for itself.
OVERLAY_OPTIONS = ("redirect_dir=off", "metacopy=off", "index=off")
_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_XATTRS = ("user.", "security.capability", "system.posix_acl_access", "system.posix_acl_default")


@dataclass(frozen=True)
class Attributes:
    """What the written files have; None is what their source has. Who ``keep``s takes the owner, the hard links, the
    file capabilities and the ACLs along, too."""

    uid: Optional[int] = None
    gid: Optional[int] = None
    mode: Optional[int] = None
    directory_mode: Optional[int] = None
    keep: bool = False


class _Open(NamedTuple):
    """A directory that is written into; its time is set when nothing more is."""

    name: str
    path: str
    fd: int
    source: Optional[os.stat_result]


class Writer:
    """``root`` is a descriptor of the union's root. Nothing that is written has the time of writing: parents that are
    made have none, those that were there keep theirs, and files have that of their source."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._times: dict[str, int] = {}

    def owner(self, user: Optional[str], group: Optional[str]) -> tuple[Optional[int], Optional[int]]:
        """Names or numbers, looked up in the image; without a group it is the user's. StoreError for no such name."""
        if user is None:
            return None, None
        row = None if accounts.is_id(user) else accounts.find_user(accounts.read(self.root, "etc/passwd") or "", user)
        if row is None and not accounts.is_id(user):
            raise StoreError(f"{user!r} is no user in the image's /etc/passwd")
        uid = int(row[2]) if row else int(user)
        if group is None:
            return uid, int(row[3]) if row else uid
        gid = accounts.find_group(accounts.read(self.root, "etc/group") or "", group)
        if gid is None:
            raise StoreError(f"{group!r} is no group in the image's /etc/group")
        return uid, gid

    def is_directory(self, path: str) -> bool:
        try:
            os.close(open_in_root(self.root, path, os.O_PATH | os.O_DIRECTORY))
            return True
        except KernelError:
            return False

    def tree(self, tree: Tree, name: str, dest: str, like: Attributes, excluded: Ignore) -> None:
        """A directory's content goes into the directory ``dest``, another file becomes ``dest``."""
        links: dict[tuple[int, int], str] = {}
        stack: list[_Open] = []
        try:
            for entry in tree.walk(name):
                if entry.name and excluded(entry.name):
                    continue
                parent = os.path.dirname(entry.name)
                while len(stack) > 1 and stack[-1].name != parent:
                    self._leave(stack.pop(), like)
                if not stack:
                    is_directory = stat.S_ISDIR(entry.info.st_mode)
                    stack.append(self._written(self._enter(dest if is_directory else os.path.dirname(dest), like)))
                    if is_directory:
                        continue
                target = entry._replace(name=entry.name or os.path.basename(dest))
                if stat.S_ISDIR(entry.info.st_mode):
                    stack.append(self._subdirectory(stack[-1], target))
                else:
                    self._entry(tree, target, stack[-1], like, links)
        finally:
            while stack:
                self._leave(stack.pop(), like)

    def content(self, dest: str, data: bytes, like: Attributes) -> None:
        """A file that has no source."""
        into = self._written(self._enter(os.path.dirname(dest), like))
        try:
            fd = _create(into.fd, os.path.basename(dest))
            try:
                write_all(fd, data)
                os.fchown(fd, like.uid or 0, like.gid or 0)
                os.fchmod(fd, 0o644 if like.mode is None else like.mode)
                os.utime(fd, (0, 0))
            finally:
                os.close(fd)
        finally:
            os.close(into.fd)

    def directory(self, path: str, like: Attributes) -> None:
        """Made where it is missing."""
        os.close(self._enter(path, like).fd)

    def finish(self) -> None:
        """Give the directories their times back, in which something was made."""
        for path, time in self._times.items():
            fd = open_in_root(self.root, path, _DIRECTORY)
            try:
                os.utime(fd, ns=(time, time))
            finally:
                os.close(fd)

    def _enter(self, path: str, like: Attributes) -> _Open:
        """The directory as the container would find it, made where it is missing; fit for reading it."""
        done = "."
        fd = open_in_root(self.root, done, _DIRECTORY)
        for part in [part for part in path.split("/") if part not in ("", ".")]:
            try:
                step = self._step(fd, done, part, like)
            finally:
                os.close(fd)
            done, fd = f"{done}/{part}", step
        return _Open("", done, fd, None)

    def _written(self, directory: _Open) -> _Open:
        """Something is made in it."""
        self._times.setdefault(directory.path, os.fstat(directory.fd).st_mtime_ns)
        return directory

    def _step(self, fd: int, done: str, part: str, like: Attributes) -> int:
        path = f"{done}/{part}"
        try:
            return open_in_root(self.root, path, _DIRECTORY)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise KernelError("enter", path[1:], error.errno) from None
        self._times.setdefault(done, os.fstat(fd).st_mtime_ns)
        try:
            os.mkdir(part, 0o755, dir_fd=fd)
        except FileExistsError:
            problem = f"{path[1:]} leads through a symlink that leads nowhere in the image"
            raise StoreError(problem, hint="make what it leads to first") from None
        made = openat2(fd, part, _DIRECTORY, resolve=0)
        os.fchmod(made, 0o755)  # whatever the umask
        os.fchown(made, like.uid or 0, like.gid or 0)
        self._times[path] = 0
        return made

    def _leave(self, directory: _Open, like: Attributes) -> None:
        info = directory.source
        try:
            if info is not None:
                os.fchown(directory.fd, *_owner(info, like))
                os.fchmod(directory.fd, stat.S_IMODE(info.st_mode if like.directory_mode is None else
                                                     like.directory_mode))  # fmt: skip
                os.utime(directory.fd, ns=(info.st_mtime_ns, info.st_mtime_ns))
        finally:
            os.close(directory.fd)

    def _subdirectory(self, parent: _Open, entry: Entry) -> _Open:
        name = os.path.basename(entry.name)
        path = f"{parent.path}/{name}"
        try:
            os.mkdir(name, 0o700, dir_fd=parent.fd)
        except FileExistsError:
            # The image may have a symlink to a directory there, as /bin is one to usr/bin.
            if stat.S_ISLNK(os.lstat(name, dir_fd=parent.fd).st_mode):
                return self._written(_Open(entry.name, path, open_in_root(self.root, path, _DIRECTORY), None))
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.fd)
        return _Open(entry.name, path, fd, entry.info)

    def _entry(
        self, tree: Tree, entry: Entry, into: _Open, like: Attributes, links: dict[tuple[int, int], str]
    ) -> None:
        name, info = os.path.basename(entry.name), entry.info
        if like.keep and info.st_nlink > 1:
            first = links.setdefault((info.st_dev, info.st_ino), f"{into.path}/{name}")
            if first != f"{into.path}/{name}":
                self._link(first, into, name)
                return
        if stat.S_ISREG(info.st_mode):
            self._file(tree, entry, into.fd, name, like)
        elif stat.S_ISLNK(info.st_mode):
            _clear(into.fd, name)
            os.symlink(tree.readlink(entry.path), name, dir_fd=into.fd)
            _finish(into.fd, name, info, like)
        elif stat.S_ISFIFO(info.st_mode) and like.keep:
            _clear(into.fd, name)
            os.mkfifo(name, 0o600, dir_fd=into.fd)
            os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=into.fd)
            _finish(into.fd, name, info, like)
        else:
            raise StoreError(f"{entry.path} is no file, directory or symlink")

    def _link(self, first: str, into: _Open, name: str) -> None:
        _clear(into.fd, name)
        with self._opened(os.path.dirname(first)) as fd:
            os.link(os.path.basename(first), name, src_dir_fd=fd, dst_dir_fd=into.fd, follow_symlinks=False)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        fd = open_in_root(self.root, path, _DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    @staticmethod
    def _file(tree: Tree, entry: Entry, parent: int, name: str, like: Attributes) -> None:
        """A file of the name, in place of what has it; through a symlink nothing is written."""
        source = tree.open(entry.path)
        try:
            info = os.fstat(source)
            if not stat.S_ISREG(info.st_mode):
                raise StoreError(f"{entry.path} is no file any more")
            fd = _create(parent, name)
            try:
                _transfer(source, fd)
                os.fchown(fd, *_owner(info, like))
                os.fchmod(fd, stat.S_IMODE(info.st_mode if like.mode is None else like.mode))
                if like.keep:
                    _copy_xattrs(source, fd)
                os.utime(fd, ns=(info.st_mtime_ns, info.st_mtime_ns))
            finally:
                os.close(fd)
        finally:
            os.close(source)


def _owner(info: os.stat_result, like: Attributes) -> tuple[int, int]:
    uid, gid = (info.st_uid, info.st_gid) if like.keep else (0, 0)
    return uid if like.uid is None else like.uid, gid if like.gid is None else like.gid


def _finish(parent: int, name: str, info: os.stat_result, like: Attributes) -> None:
    os.chown(name, *_owner(info, like), dir_fd=parent, follow_symlinks=False)
    os.utime(name, ns=(info.st_mtime_ns, info.st_mtime_ns), dir_fd=parent, follow_symlinks=False)


def _create(parent: int, name: str) -> int:
    _clear(parent, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=parent)


def _transfer(source: int, target: int) -> None:
    for data in iter(lambda: os.read(source, _CHUNK), b""):
        write_all(target, data)


def _copy_xattrs(source: int, target: int) -> None:
    for name in os.listxattr(source):
        if name.startswith(_XATTRS):
            os.setxattr(target, name, os.getxattr(source, name))


def _clear(parent: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
