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
from dataclasses import dataclass
from typing import Any, Callable, Optional

from .._errors import KernelError, NotFoundError, OptionError, StateError
from .._kernel.file import write_all
from .._kernel.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, open_in_root, openat2
from .._paths import Paths
from . import running
from .plan import Plan, Step

_LINKS_MAX = 40  # path_resolution(7)
_SHOWN_MAX = 100 * 1024
_HOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


@dataclass(frozen=True)
class Entry:
    """A file or a symlink as it is, or as it is to be."""

    data: bytes  # the content, or where the link leads
    mode: int
    uid: int
    gid: int
    link: bool = False

    def shown(self) -> dict[str, Any]:
        kind = "link" if self.link else "file"
        return {"type": kind, "mode": f"{self.mode:04o}", "owner": self.uid, "group": self.gid, "size": len(self.data)}


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


def read(where: Place, option: str) -> Optional[Entry]:
    """What is there; None when nothing is."""
    try:
        info = os.stat(where.name, dir_fd=where.parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(info.st_mode):
        return Entry(os.fsencode(os.readlink(where.name, dir_fd=where.parent)), 0o777, info.st_uid, info.st_gid, True)
    if not stat.S_ISREG(info.st_mode):
        raise OptionError(option, where.path, "is neither a file nor a symlink; only those are copied")
    # It may be another by now, a fifo even: opening must neither follow nor wait.
    fd = openat2(where.parent, where.name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, resolve=_HOW)
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OptionError(option, where.path, "is neither a file nor a symlink; only those are copied")
        return Entry(file.read(), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)


def write(where: Place, entry: Entry) -> None:
    """Replace what is there in one step; a file that is mounted on is written in place, for its inode must stay."""
    # A rename over a mount of another namespace is not refused: it takes the mount away (rename(2), EBUSY).
    if _mounted(where):
        if entry.link:
            raise KernelError("replace by a symlink", where.path, errno.EBUSY, hint="a file is mounted there")
        _overwrite(where, entry)
        return
    new = f".{where.name[:200]}.{os.urandom(6).hex()}.new"
    try:
        _make(where.parent, new, entry)
        os.rename(new, where.name, src_dir_fd=where.parent, dst_dir_fd=where.parent)
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=where.parent)
        raise KernelError("write", where.path, error.errno or 0) from None


def _mounted(where: Place) -> bool:
    try:
        os.close(openat2(where.parent, where.name, os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_NO_XDEV))
    except KernelError as error:
        return error.errno == errno.EXDEV
    return False


def _make(parent: int, name: str, entry: Entry) -> None:
    if entry.link:
        os.symlink(entry.data, os.fsencode(name), dir_fd=parent)
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=parent)
    try:
        write_all(fd, entry.data)
        # The order matters: chown takes setuid away.
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
    finally:
        os.close(fd)


def _overwrite(where: Place, entry: Entry) -> None:
    fd = openat2(where.parent, where.name, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, resolve=RESOLVE_NO_SYMLINKS)
    try:
        write_all(fd, entry.data)
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
    finally:
        os.close(fd)


def remove(where: Place) -> None:
    """Undo of what made it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(where.name, dir_fd=where.parent)


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


def load(path: str, *, follow: bool, option: str) -> Entry:
    """A file of the target."""
    with host_place(path, follow=follow, option=option) as where:
        entry = read(where, option)
    if entry is None:
        raise NotFoundError("file on the target", path)
    return entry


@contextlib.contextmanager
def inside(paths: Paths, name: str, path: str, *, follow: bool) -> Iterator[Place]:
    """A path in the container, running or not."""
    check_place(paths, name, path)
    with running.root(paths, name) as root, place(root, path, follow=follow, option="container_path") as found:
        yield found


Opener = Callable[[], "contextlib.AbstractContextManager[Place]"]


def plan(target: str, where: Opener, option: str, wanted: Entry, force: Optional[bool]) -> tuple[Plan, Optional[Entry]]:
    """One step when what is there is not what is wanted, and what is there."""
    with where() as found:
        present = read(found, option)
    kept = present is not None and force is False
    if kept or (present == wanted and not force):
        return Plan(), present

    def put(entry: Optional[Entry]) -> None:
        with where() as found:
            write(found, entry) if entry is not None else remove(found)

    before, action = (present.shown(), "replace") if present else (None, "create")
    step = Step(target, action, lambda: put(wanted), lambda: put(present), before=before, after=wanted.shown())
    return Plan([step]), present


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
    try:
        text = entry.data.decode()
    except UnicodeDecodeError:
        text = f"[{len(entry.data)} bytes, not text]\n"
    if len(text) > _SHOWN_MAX:
        text = f"[{len(entry.data)} bytes]\n"
    head = f"[{'link' if entry.link else 'mode'} {entry.mode:04o} owner {entry.uid} group {entry.gid}]\n"
    return head + text


def into(paths: Paths, desired: dict[str, Any]) -> tuple[Plan, dict[str, Any]]:
    """The plan for a file into the container, and the diff of the contents."""
    name, path = desired["container"], desired["container_path"]
    wanted = _wanted(paths, name, desired)
    target = f"container {name} {path}"

    def where() -> contextlib.AbstractContextManager[Place]:
        return inside(paths, name, path, follow=desired["follow"])

    result, present = plan(target, where, "container_path", wanted, desired.get("force"))
    return result, text_diff(target, present, wanted) if result else {}


def _wanted(paths: Paths, name: str, desired: dict[str, Any]) -> Entry:
    uid, gid = owner(paths, name)
    uid, gid = desired.get("owner_id", uid), desired.get("group_id", gid)
    if "content" in desired:
        return Entry(desired["content"].encode(), desired["mode"], uid, gid)
    entry = load(desired["path"], follow=desired["local_follow"], option="path")
    return Entry(entry.data, entry.mode if entry.link else desired.get("mode", entry.mode), uid, gid, entry.link)


def out(paths: Paths, desired: dict[str, Any]) -> tuple[Plan, dict[str, Any]]:
    """The plan for a file of the container onto the target, and the diff of the contents."""
    name, path = desired["container"], desired["path"]
    with inside(paths, name, desired["container_path"], follow=desired["follow"]) as found:
        entry = read(found, "container_path")
    if entry is None:
        raise NotFoundError(f"file in the container {name}", desired["container_path"])
    uid, gid = desired.get("owner_id", os.geteuid()), desired.get("group_id", os.getegid())
    # A set-uid file of a container's must not become one of the host's unasked.
    mode = entry.mode if entry.link else desired.get("mode", entry.mode & 0o777)
    wanted = Entry(entry.data, mode, uid, gid, entry.link)

    def where() -> contextlib.AbstractContextManager[Place]:
        return host_place(path, follow=desired["local_follow"], option="path")

    result, present = plan(path, where, "path", wanted, desired.get("force"))
    return result, text_diff(path, present, wanted) if result else {}
