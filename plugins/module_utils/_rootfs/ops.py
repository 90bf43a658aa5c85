# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operations that make a root file system. Each can describe itself and do itself; none decides anything."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Optional

from .._errors import KernelError
from .._kernel import mount as m
from . import target
from .options import MountOptions

_PLAIN = MountOptions()


class Context:
    """What operations share: the directory that becomes / and, once it is a mount, a descriptor of it."""

    def __init__(self, rootfs: str, *, mknod: bool = True) -> None:
        self.rootfs = rootfs
        self.mknod = mknod
        self.root = -1

    def open_root(self) -> None:
        self.root = os.open(self.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class Operation:
    """One step; ``describe()`` is what stands in an error and in a listing."""

    def describe(self) -> str:
        raise NotImplementedError

    def execute(self, context: Context) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Propagation(Operation):
    """Cut the tree off from the host's: without this, what is mounted here would appear there."""

    flags: int

    def describe(self) -> str:
        return "set propagation of /"

    def execute(self, context: Context) -> None:
        m.mount("none", "/", None, self.flags)


@dataclass(frozen=True)
class Root(Operation):
    """Make the rootfs directory a mount, which pivot_root needs: the union of layers, or itself."""

    fstype: str = ""
    source: str = ""
    options: MountOptions = _PLAIN

    def describe(self) -> str:
        return f"mount {self.fstype or 'rootfs'} on /"

    def execute(self, context: Context) -> None:
        if not self.fstype:
            m.mount(context.rootfs, context.rootfs, None, m.MS_BIND | m.MS_REC)
        elif self.fstype == "overlay" and len(self.options.data) >= os.sysconf("SC_PAGE_SIZE"):
            self._mount_long_overlay(context.rootfs)
        else:
            m.mount(self.source, context.rootfs, self.fstype, self.options.flags, self.options.data)
        context.open_root()

    def _mount_long_overlay(self, rootfs: str) -> None:
        """mount(2) takes one page of options; fsconfig takes a layer at a time (Linux 6.5)."""
        fs = m.fsopen("overlay")
        try:
            for word in self.options.data.split(","):
                key, dummy, value = word.partition("=")
                if key == "lowerdir":
                    for layer in value.split(":"):
                        m.fsconfig(fs, m.FSCONFIG_SET_STRING, "lowerdir+", layer)
                else:
                    m.fsconfig(fs, m.FSCONFIG_SET_STRING, key, value)
            m.fsconfig(fs, m.FSCONFIG_CMD_CREATE)
            mounted = m.fsmount(fs)
        finally:
            os.close(fs)
        try:
            place = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            m.move_mount(mounted, place)
            os.close(place)
        finally:
            os.close(mounted)


@dataclass(frozen=True)
class FileSystem(Operation):
    """Mount a file system of its own kind: proc, tmpfs, sysfs, mqueue, devpts …"""

    fstype: str
    source: str
    destination: str
    options: MountOptions

    def describe(self) -> str:
        return f"mount {self.fstype} on {self.destination}"

    def execute(self, context: Context) -> None:
        place = target.directory(context.root, self.destination)
        try:
            copied = _tree_copy(place) if self.options.copy_up else None
            m.mount(self.source, target.by_fd(place), self.fstype, self.options.flags, self.options.data)
        except KernelError as error:
            raise _named(error, self.describe()) from None
        finally:
            os.close(place)
        mounted = target.directory(context.root, self.destination)
        try:
            if copied is not None:
                _fill(mounted, copied)
            _propagate(mounted, self.options)
        finally:
            os.close(mounted)


@dataclass(frozen=True)
class Bind(Operation):
    """Show a file or directory of the host."""

    source: str
    destination: str
    options: MountOptions

    def describe(self) -> str:
        return f"bind {self.source} on {self.destination}"

    def execute(self, context: Context) -> None:
        recursive = m.AT_RECURSIVE if self.options.flags & m.MS_REC else 0
        try:
            tree = m.open_tree(self.source, m.OPEN_TREE_CLONE | recursive)
        except KernelError as error:
            raise _named(error, self.describe()) from None
        try:
            place = target.like(context.root, self.destination, self.source)
            try:
                attach(tree, place, self.options, recursive=bool(recursive))
            finally:
                os.close(place)
        except KernelError as error:
            raise _named(error, self.describe()) from None
        finally:
            os.close(tree)


@dataclass(frozen=True)
class Node(Operation):
    """A device: made by mknod(2), or bound from the host where a user namespace forbids that."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    def describe(self) -> str:
        return f"make device {self.path}"

    def execute(self, context: Context) -> None:
        if not context.mknod:
            Bind(self.path, self.path, MountOptions(m.MS_BIND)).execute(context)
            return
        parent_path, dummy, name = self.path.rpartition("/")
        parent = target.directory(context.root, parent_path)
        kinds = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
        try:
            _remove_other(parent, name)
            os.mknod(name, self.mode | kinds[self.kind], os.makedev(self.major, self.minor), dir_fd=parent)
            os.chmod(target.by_fd(parent) + "/" + name, self.mode)
            os.chown(name, self.uid, self.gid, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            raise KernelError("mknod", self.path, error.errno or 0) from None
        finally:
            os.close(parent)


@dataclass(frozen=True)
class Link(Operation):
    """A symlink that the runtime-spec wants in /dev; what is there already stays."""

    path: str
    to: str

    def describe(self) -> str:
        return f"link {self.path}"

    def execute(self, context: Context) -> None:
        parent_path, dummy, name = self.path.rpartition("/")
        parent = target.directory(context.root, parent_path)
        try:
            os.symlink(self.to, name, dir_fd=parent)
        except FileExistsError:
            pass
        finally:
            os.close(parent)


@dataclass(frozen=True)
class Mask(Operation):
    """Hide a path: /dev/null over a file, an empty read-only tmpfs over a directory. A missing one needs no hiding."""

    path: str

    def describe(self) -> str:
        return f"mask {self.path}"

    def execute(self, context: Context) -> None:
        place = target.optional(context.root, self.path)
        if place < 0:
            return
        try:
            if stat.S_ISDIR(os.fstat(place).st_mode):
                m.mount("tmpfs", target.by_fd(place), "tmpfs", m.MS_RDONLY, "size=0k,nr_inodes=2")
                return
            null = _null(context.root)
            tree = m.open_tree(target.by_fd(null), m.OPEN_TREE_CLONE)
            try:
                m.move_mount(tree, place)
            finally:
                os.close(tree)
                os.close(null)
        finally:
            os.close(place)


@dataclass(frozen=True)
class ReadOnly(Operation):
    """Let a path be read and not written, with all that is mounted below it."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def execute(self, context: Context) -> None:
        place = target.optional(context.root, self.path)
        if place < 0:
            return
        try:
            tree = m.open_tree(target.by_fd(place), m.OPEN_TREE_CLONE | m.AT_RECURSIVE)
            try:
                attach(tree, place, MountOptions(m.MS_BIND | m.MS_REC | m.MS_RDONLY), recursive=True)
            finally:
                os.close(tree)
        finally:
            os.close(place)


@dataclass(frozen=True)
class CgroupV1(Operation):
    """A tmpfs with the container's own group of every hierarchy in it."""

    destination: str
    groups: tuple[tuple[str, str], ...]  # name below the destination, directory on the host
    options: MountOptions

    def describe(self) -> str:
        return f"mount cgroup on {self.destination}"

    def execute(self, context: Context) -> None:
        writable = MountOptions(self.options.flags & ~m.MS_RDONLY, data="mode=755")
        FileSystem("tmpfs", "tmpfs", self.destination, writable).execute(context)
        flags = MountOptions(m.MS_BIND | self.options.flags)
        for name, source in self.groups:
            Bind(source, f"{self.destination}/{name}", flags).execute(context)
        if self.options.flags & m.MS_RDONLY:
            mounted = target.directory(context.root, self.destination)
            try:
                _set_flags(mounted, self.options, recursive=False)
            finally:
                os.close(mounted)


@dataclass(frozen=True)
class Cgroup2(Operation):
    """The unified hierarchy from the container's own group down."""

    destination: str
    group: str
    options: MountOptions

    def describe(self) -> str:
        return f"mount cgroup2 on {self.destination}"

    def execute(self, context: Context) -> None:
        try:
            FileSystem("cgroup2", "cgroup", self.destination, self.options).execute(context)
        except KernelError as error:
            if error.errno not in (errno.EPERM, errno.EBUSY):
                raise
            Bind(self.group, self.destination, MountOptions(self.options.flags | m.MS_BIND)).execute(context)


def _null(root: int) -> int:
    """The container's own /dev/null where it is the device; an image can put anything there."""
    fd = target.optional(root, "/dev/null")
    if fd >= 0:
        info = os.fstat(fd)
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3):
            return fd
        os.close(fd)
    return os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)


def attach(tree: int, place: int, options: MountOptions, *, recursive: bool) -> None:
    """Give the detached mount its flags, then put it in its place: nobody sees it without them."""
    try:
        _set_attributes(tree, options, recursive)
    except KernelError as error:
        if error.errno != errno.ENOSYS:  # before Linux 5.12 flags come after, by a remount
            raise
        m.move_mount(tree, place)
        m.mount("none", target.by_fd(tree), None, m.MS_REMOUNT | m.MS_BIND | _kept(options))
        return
    m.move_mount(tree, place)


_ATTRIBUTES = {
    m.MS_RDONLY: m.MOUNT_ATTR_RDONLY,
    m.MS_NOSUID: m.MOUNT_ATTR_NOSUID,
    m.MS_NODEV: m.MOUNT_ATTR_NODEV,
    m.MS_NOEXEC: m.MOUNT_ATTR_NOEXEC,
    m.MS_NOSYMFOLLOW: 0x00200000,
    m.MS_NODIRATIME: 0x00000080,
}
_NOATIME, _STRICTATIME, _ATIME_MASK = 0x10, 0x20, 0x70


def _kept(options: MountOptions) -> int:
    return options.flags & ~(m.MS_REC | m.MS_BIND)


def _set_attributes(fd: int, options: MountOptions, recursive: bool) -> None:
    attr_set = sum(attribute for flag, attribute in _ATTRIBUTES.items() if options.flags & flag)
    attr_clr = sum(attribute for flag, attribute in _ATTRIBUTES.items() if options.cleared & flag)
    if options.flags & (m.MS_NOATIME | m.MS_STRICTATIME):
        attr_set |= _NOATIME if options.flags & m.MS_NOATIME else _STRICTATIME
        attr_clr |= _ATIME_MASK
    if attr_set or attr_clr:
        m.mount_setattr(fd, attr_set=attr_set, attr_clr=attr_clr, recursive=recursive)
    for propagation in options.propagation or (m.MS_PRIVATE | m.MS_REC,):
        m.mount_setattr(fd, propagation=propagation & ~m.MS_REC, recursive=bool(propagation & m.MS_REC))


def _set_flags(mounted: int, options: MountOptions, *, recursive: bool) -> None:
    m.mount("none", target.by_fd(mounted), None, m.MS_REMOUNT | m.MS_BIND | _kept(options))


def _propagate(mounted: int, options: MountOptions) -> None:
    for propagation in options.propagation:
        m.mount("none", target.by_fd(mounted), None, propagation)


def _named(error: KernelError, operation: str) -> KernelError:
    """The same error in the words of the operation: /proc/self/fd/7 says nothing to anybody."""
    return KernelError(operation, errno=error.errno, hint=error.hint or _HINTS.get(error.errno, ""))


_HINTS = {
    errno.EPERM: "in a user namespace the kernel refuses a new proc or sysfs when the host's own has mounts over it",
    errno.ENODEV: "this kernel does not have the file system",
}


def _remove_other(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass


def _tree_copy(place: int) -> Optional[list[tuple[str, int, int, int, bytes]]]:
    """The regular files and directories below, for tmpcopyup: (path, mode, uid, gid, content)."""
    found: list[tuple[str, int, int, int, bytes]] = []
    base = target.by_fd(place)
    for directory, names, files in os.walk(base):
        for name in sorted(names) + sorted(files):
            info = os.lstat(f"{directory}/{name}")
            content = b""
            if stat.S_ISREG(info.st_mode):
                with open(f"{directory}/{name}", "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(os.fsencode(f"{directory}/{name}"))
            found.append((f"{directory}/{name}"[len(base) + 1 :], info.st_mode, info.st_uid, info.st_gid, content))
    return found


def _fill(place: int, entries: list[tuple[str, int, int, int, bytes]]) -> None:
    base = target.by_fd(place)
    for path, mode, uid, gid, content in entries:
        name = f"{base}/{path}"
        if stat.S_ISDIR(mode):
            os.mkdir(name)
        elif stat.S_ISLNK(mode):
            os.symlink(content, os.fsencode(name))
        elif stat.S_ISREG(mode):
            with open(name, "xb") as file:
                file.write(content)
        else:
            continue
        os.chown(name, uid, gid, follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            os.chmod(name, stat.S_IMODE(mode))


__all__ = [
    "Bind",
    "Cgroup2",
    "CgroupV1",
    "Context",
    "FileSystem",
    "Link",
    "Mask",
    "Node",
    "Operation",
    "Propagation",
    "ReadOnly",
    "Root",
    "attach",
]
