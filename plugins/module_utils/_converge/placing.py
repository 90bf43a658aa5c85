# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file's place in a container, or on the target: every path is resolved below its root by the kernel, and what is
there is replaced in one step. ``vessel cp`` starts with this file, so it imports little."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from .._errors import KernelError, OptionError, StateError
from .._kernel.copy_file_range import copy_content, copy_stream, same_content
from .._kernel.file import write_all
from .._kernel.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, open_in_root, openat2
from .._paths import Paths
from . import running

_LINKS_MAX = 40  # path_resolution(7)
_UNSIZED_MAX = 16 << 20
_HOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


class Entry(NamedTuple):
    """A file or a symlink as it is, or as it is to be."""

    mode: int
    uid: int
    gid: int
    size: int
    fd: int = -1  # of the content, which may be larger than the memory; whoever opened it closes it
    link: bytes = b""  # where it leads
    stream: bool = False  # the content is what can be read from ``fd``, once; a size of -1 is unknown

    def shown(self) -> dict[str, Any]:
        kind = "link" if self.link else "file"
        return {"type": kind, "mode": f"{self.mode:04o}", "owner": self.uid, "group": self.gid, "size": self.size}


class Place(NamedTuple):
    """A name in a directory that is held open: nobody can exchange the way to it."""

    parent: int
    name: str
    path: str


@contextlib.contextmanager
def place(root: int, path: str, *, follow: bool, option: str) -> Iterator[Place]:
    """Where ``path`` is below the root; with ``follow`` a symlink at its end is followed, below the root too."""
    for links in range(_LINKS_MAX):  # noqa: B007 - counted, so that a loop ends
        parent, name = os.path.split(path.rstrip("/"))
        if not name:
            raise OptionError(option, path, "names no file")
        try:
            fd = open_in_root(root, parent, os.O_RDONLY | os.O_DIRECTORY)
        except KernelError as error:
            raise OptionError(option, path, f"lies in {parent}, which can't be entered: {error}") from None
        try:
            target = _link(fd, name) if follow else None
            if target is None:
                yield Place(fd, name, path)
                return
        finally:
            os.close(fd)
        path = os.path.join(parent, target)
    raise OptionError(option, path, "is a loop of symlinks")


def _link(fd: int, name: str) -> Optional[str]:
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


@contextlib.contextmanager
def read(where: Place, option: str) -> Iterator[Optional[Entry]]:
    """What is there; None when nothing is."""
    info = _stat(where)
    if info is None:
        yield None
        return
    if stat.S_ISLNK(info.st_mode):
        link = os.fsencode(os.readlink(where.name, dir_fd=where.parent))
        yield Entry(0o777, info.st_uid, info.st_gid, len(link), link=link)
        return
    _require_file(info, where, option)
    # It may be another by now, a fifo even: opening must neither follow nor wait.
    fd = openat2(where.parent, where.name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, resolve=_HOW)
    try:
        info = os.fstat(fd)
        _require_file(info, where, option)
        with _whole(fd, info.st_size, where, option) as (content, size):
            yield Entry(stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, size, content)
    finally:
        os.close(fd)


def _stat(where: Place) -> Optional[os.stat_result]:
    try:
        return os.stat(where.name, dir_fd=where.parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _require_file(info: os.stat_result, where: Place, option: str) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise OptionError(option, where.path, "is neither a file nor a symlink; only those are copied")


@contextlib.contextmanager
def _whole(fd: int, size: int, where: Place, option: str) -> Iterator[tuple[int, int]]:
    """(descriptor, size) of the content: files of /proc and /sys say that they are empty, and only reading tells."""
    data = b"" if size else _head(fd, _UNSIZED_MAX + 1)
    if len(data) > _UNSIZED_MAX:
        raise OptionError(option, where.path, f"says that it is empty, and goes on after {_UNSIZED_MAX} bytes")
    memory = _in_memory(data) if data else -1
    try:
        yield (memory, len(data)) if data else (fd, size)
    finally:
        if data:
            os.close(memory)


def _head(fd: int, most: int) -> bytes:
    found = b""
    while len(found) < most:
        data = os.read(fd, most - len(found))
        if not data:
            break
        found += data
    return found


def _in_memory(data: bytes) -> int:
    fd = os.memfd_create("content")
    try:
        write_all(fd, data)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def in_memory(data: bytes) -> Iterator[int]:
    """A descriptor of a file with that content."""
    fd = _in_memory(data)
    try:
        yield fd
    finally:
        os.close(fd)


def same(one: Entry, other: Entry) -> bool:
    if (one.mode, one.uid, one.gid, one.size, one.link) != (other.mode, other.uid, other.gid, other.size, other.link):
        return False
    return bool(one.link) or same_content(one.fd, other.fd)


def write(where: Place, entry: Entry) -> None:
    """Replace what is there in one step; a file that is mounted on is written in place, for its inode must stay.

    What fails leaves what was there.
    """
    try:
        # A rename over a mount of another namespace is not refused: it takes the mount away (rename(2), EBUSY).
        if _mounted(where):
            _overwrite(where, entry)
            return
        new = f".{where.name[:200]}.{os.urandom(6).hex()}.new"
        try:
            _make(where.parent, new, entry)
            os.rename(new, where.name, src_dir_fd=where.parent, dst_dir_fd=where.parent)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=where.parent)
            raise
    except OSError as error:
        raise KernelError("write", where.path, error.errno or 0) from None


def _mounted(where: Place) -> bool:
    try:
        os.close(openat2(where.parent, where.name, os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_NO_XDEV))
    except KernelError as error:
        return error.errno == errno.EXDEV
    return False


def _make(parent: int, name: str, entry: Entry) -> None:
    if entry.link:
        os.symlink(entry.link, os.fsencode(name), dir_fd=parent)
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        return
    fd, named = _new_file(parent, name)
    try:
        _fill(fd, entry)
        _own(fd, entry)
        if not named:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=parent)
    finally:
        os.close(fd)


def _new_file(parent: int, name: str) -> tuple[int, bool]:
    """(descriptor, has it the name?). It is to get one when it is whole: killed meanwhile, we leave nothing behind."""
    try:
        return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=parent), False
    except OSError as error:
        # overlayfs has it since Linux 6.1, and not each file system has.
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=parent), True


def _fill(fd: int, entry: Entry) -> None:
    if not entry.stream:
        copy_content(entry.fd, fd, entry.size)
        return
    found = copy_stream(entry.fd, fd)
    if entry.size not in (-1, found):  # a connection that broke ends a stream, too
        raise StateError(f"the input has {found} bytes, not {entry.size}; nothing was written")


def _own(fd: int, entry: Entry) -> None:
    """The order matters: chown takes setuid away."""
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.mode)


def _overwrite(where: Place, entry: Entry) -> None:
    if entry.link:
        raise KernelError("replace by a symlink", where.path, errno.EBUSY, hint="a file is mounted there")
    if entry.stream:
        memory = os.memfd_create("content")
        try:
            _fill(memory, entry)
            return _overwrite(where, entry._replace(fd=memory, size=os.fstat(memory).st_size, stream=False))
        finally:
            os.close(memory)
    fd = openat2(where.parent, where.name, os.O_WRONLY | os.O_NOFOLLOW, resolve=RESOLVE_NO_SYMLINKS)
    try:
        _reserve(fd, entry.size)
        # Holes are written out: what was there would show in them.
        copy_content(entry.fd, fd, entry.size, holes=False)
        _own(fd, entry)
    finally:
        os.close(fd)


def _reserve(fd: int, size: int) -> None:
    """Room for all of it, so that a full disk says so before a byte is changed."""
    before = os.fstat(fd).st_size
    try:
        if size > before:
            os.posix_fallocate(fd, 0, size)
    except OSError:
        os.ftruncate(fd, before)
        raise


def owner(paths: Paths, name: str) -> tuple[int, int]:
    """Who the container's own process is."""
    user = running.config(paths, name)["process"]["user"]
    return user["uid"], user["gid"]


def check_place(paths: Paths, name: str, path: str) -> None:
    """In a container that does not run, a volume's files are not where its processes see them."""
    if running.status(paths, name).get("pid"):
        return
    target = running.covering(paths, name, path)
    if target:
        raise StateError(f"container {name} does not run, and {path} is on its mount {target}", hint="start it first")


@contextlib.contextmanager
def host_place(path: str, *, follow: bool, option: str) -> Iterator[Place]:
    """A path on the target itself."""
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with place(root, path, follow=follow, option=option) as found:
            yield found
    finally:
        os.close(root)


@contextlib.contextmanager
def inside(paths: Paths, name: str, path: str, *, follow: bool) -> Iterator[Place]:
    """A path in the container, running or not."""
    check_place(paths, name, path)
    with running.root(paths, name) as root, place(root, path, follow=follow, option="container_path") as found:
        yield found
