# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One file into a container or out of it. Every path inside is resolved below the container's root by the kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from .._errors import KernelError, NotFoundError, OptionError, StateError
from .._kernel.copy_file_range import copy_content, same_content
from .._kernel.file import write_all
from .._kernel.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, open_in_root, openat2
from .._paths import Paths
from . import running
from .plan import Plan, Step

_LINKS_MAX = 40  # path_resolution(7)
_SHOWN_MAX = 100 * 1024
_UNSIZED_MAX = 16 << 20
_HOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


@dataclass(frozen=True)
class Entry:
    """A file or a symlink as it is, or as it is to be."""

    mode: int
    uid: int
    gid: int
    size: int
    fd: int = -1  # of the content, which may be larger than the memory; whoever opened it closes it
    link: bytes = b""  # where it leads

    def shown(self) -> dict[str, Any]:
        kind = "link" if self.link else "file"
        return {"type": kind, "mode": f"{self.mode:04o}", "owner": self.uid, "group": self.gid, "size": self.size}


@dataclass(frozen=True)
class Place:
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
        copy_content(entry.fd, fd, entry.size)
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


def _own(fd: int, entry: Entry) -> None:
    """The order matters: chown takes setuid away."""
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.mode)


def _overwrite(where: Place, entry: Entry) -> None:
    if entry.link:
        raise KernelError("replace by a symlink", where.path, errno.EBUSY, hint="a file is mounted there")
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


Opener = Callable[[], "contextlib.AbstractContextManager[Place]"]
Source = Callable[[], "contextlib.AbstractContextManager[Entry]"]


def plan(target: str, where: Opener, option: str, wanted: Source, force: Optional[bool]) -> tuple[Plan, dict[str, Any]]:
    """One step when what is there is not what is wanted, and the diff of the contents."""

    def put() -> None:
        with wanted() as entry, where() as found:
            write(found, entry)

    with wanted() as entry, where() as found, read(found, option) as present:
        kept = present is not None and force is False
        if kept or (present is not None and not force and same(present, entry)):
            return Plan(), {}
        before, action = (present.shown(), "replace") if present else (None, "create")
        step = Step(target, action, put, before=before, after=entry.shown())
        return Plan([step]), text_diff(target, present, entry)


def text_diff(target: str, present: Optional[Entry], wanted: Entry) -> dict[str, Any]:
    """Ansible's diff of two contents; what is long or no text is told by its size."""
    sides = {"before": present, "after": wanted}
    return {
        **{side: _text(entry) for side, entry in sides.items()},
        **{f"{side}_header": target for side in sides},
    }


def _text(entry: Optional[Entry]) -> str:
    if entry is None:
        return ""
    head = f"[{'link' if entry.link else 'mode'} {entry.mode:04o} owner {entry.uid} group {entry.gid}]\n"
    if entry.size > _SHOWN_MAX:
        return f"{head}[{entry.size} bytes]\n"
    try:
        return head + (entry.link or os.pread(entry.fd, entry.size, 0)).decode()
    except UnicodeDecodeError:
        return f"{head}[{entry.size} bytes, not text]\n"


def into(paths: Paths, desired: dict[str, Any]) -> tuple[Plan, dict[str, Any]]:
    """The plan for a file into the container, and the diff of the contents."""
    name, path = desired["container"], desired["container_path"]

    def where() -> contextlib.AbstractContextManager[Place]:
        return inside(paths, name, path, follow=desired["follow"])

    def wanted() -> contextlib.AbstractContextManager[Entry]:
        return _given(paths, name, desired)

    return plan(f"container {name} {path}", where, "container_path", wanted, desired.get("force"))


@contextlib.contextmanager
def _given(paths: Paths, name: str, desired: dict[str, Any]) -> Iterator[Entry]:
    """What is to be in the container."""
    uid, gid = owner(paths, name)
    uid, gid = desired.get("owner_id", uid), desired.get("group_id", gid)
    if "content" in desired:
        data = desired["content"].encode()
        with in_memory(data) as fd:
            yield Entry(desired["mode"], uid, gid, len(data), fd)
        return
    follow = desired["local_follow"]
    with host_place(desired["path"], follow=follow, option="path") as found, read(found, "path") as entry:
        if entry is None:
            raise NotFoundError("file on the target", desired["path"])
        yield replace(entry, mode=entry.mode if entry.link else desired.get("mode", entry.mode), uid=uid, gid=gid)


def out(paths: Paths, desired: dict[str, Any]) -> tuple[Plan, dict[str, Any]]:
    """The plan for a file of the container onto the target, and the diff of the contents."""

    def where() -> contextlib.AbstractContextManager[Place]:
        return host_place(desired["path"], follow=desired["local_follow"], option="path")

    return plan(desired["path"], where, "path", lambda: _taken(paths, desired), desired.get("force"))


@contextlib.contextmanager
def _taken(paths: Paths, desired: dict[str, Any]) -> Iterator[Entry]:
    """What is to be on the target."""
    name, path = desired["container"], desired["container_path"]
    uid, gid = desired.get("owner_id", os.geteuid()), desired.get("group_id", os.getegid())
    with inside(paths, name, path, follow=desired["follow"]) as found, read(found, "container_path") as entry:
        if entry is None:
            raise NotFoundError(f"file in the container {name}", path)
        # A set-uid file of a container's must not become one of the host's unasked.
        mode = entry.mode if entry.link else desired.get("mode", entry.mode & 0o777)
        yield replace(entry, mode=mode, uid=uid, gid=gid)
