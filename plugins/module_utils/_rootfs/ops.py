# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operations that make a root file system. Each can describe itself and do itself; none decides anything."""

from __future__ import annotations

import errno
import os
from typing import Optional

from .._errors import KernelError
from .._kernel import mount as m
from .._kernel.selinux import set_file_label
from . import remount, target
from .copyup import Copied, fill, read_tree
from .options import ATTRIBUTES, MOUNT_ATTR_ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, MountOptions

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Context:
    """What operations share: the directory that becomes / and, once it is a mount, a descriptor of it."""

    def __init__(self, rootfs: str, *, mknod: bool = True) -> None:
        self.rootfs = rootfs
        self.mknod = mknod
        self.root = -1
        self.null = -1  # what files are masked with
        self.opened: dict[int, int] = {}  # by the operation that prepared it

    def keep(self, operation: Operation, fd: int) -> None:
        self.opened[id(operation)] = fd

    def take(self, operation: Operation) -> int:
        return self.opened.pop(id(operation))


class Operation:
    """One step; ``describe()`` is what stands in an error and in a listing.

    All are prepared before the first is executed. In a user namespace the process changes its user between the two:
    what lies on the host is opened as the host's user, what is made inside is made as the container's root.
    """

    def describe(self) -> str:
        raise NotImplementedError

    def prepare(self, context: Context) -> None:
        """Open what lies on the host."""

    def execute(self, context: Context) -> None:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"


class Propagation(Operation):
    """Cut the tree off from the host's: without this, what is mounted here would appear there."""

    def __init__(self, flags: int) -> None:
        self.flags = flags

    def describe(self) -> str:
        return "set propagation of /"

    def prepare(self, context: Context) -> None:
        m.mount("none", "/", None, self.flags)

    def execute(self, context: Context) -> None:
        """All is done: what is copied in the other preparations must be cut off already."""


class PrivateParent(Operation):
    """For volumes that share their mounts with the host the tree stays connected, but for the mount that the root is
    mounted on: what is mounted there must not appear on the host."""

    def describe(self) -> str:
        return "make the mount below / private"

    def prepare(self, context: Context) -> None:
        m.mount("none", _mount_point(context.rootfs), None, m.MS_PRIVATE)

    def execute(self, context: Context) -> None:
        pass


def _mount_point(path: str) -> str:
    """Where the file system that holds the directory is mounted (proc_pid_mountinfo(5))."""
    found = "/"
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            place = os.fsdecode(line.split()[4]).replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
            if f"{path}/".startswith(f"{place.rstrip('/')}/") and len(place) >= len(found):
                found = place
    return found


class Root(Operation):
    """Make the rootfs directory a mount, which pivot_root needs: the union of layers, or itself."""

    def __init__(self, fstype: str = "", source: str = "", options: Optional[MountOptions] = None) -> None:
        self.fstype = fstype
        self.source = source
        self.options = options or MountOptions()

    def describe(self) -> str:
        return f"mount {self.fstype or 'rootfs'} on /"

    def prepare(self, context: Context) -> None:
        context.root = os.open(context.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if not self.fstype:
            context.keep(self, m.open_tree(context.rootfs, m.OPEN_TREE_CLONE | m.AT_RECURSIVE))

    def execute(self, context: Context) -> None:
        place = context.root
        if not self.fstype:
            context.root = context.take(self)
            attach(context.root, place, MountOptions(), recursive=True)
        elif self.fstype == "overlay" and (len(self.options.data) >= _PAGE or not context.mknod):
            context.root = _long_overlay(self.options)
            m.move_mount(context.root, place)
        else:
            m.mount(self.source, target.by_fd(place), self.fstype, self.options.flags, self.options.data)
            context.root = os.open(context.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.close(place)


def _long_overlay(options: MountOptions) -> int:
    """mount(2) takes one page of options, and leaves it to a path to find what was mounted, which may lie where the
    root of a user namespace can't go; fsconfig takes a layer at a time (Linux 6.5)."""
    words = [word.partition("=") for word in _split(options.data)]
    lower = next((value.split(":") for key, dummy, value in words if key == "lowerdir"), [])
    rest = [word for word in words if word[0] != "lowerdir"]
    try:
        return _by_fsconfig(lower, rest, options.flags)
    except KernelError as error:
        # Before, lowerdir+ is an option that overlay does not know, or too much of it.
        if error.errno != errno.EINVAL:
            raise
    return _by_numbers(lower, rest, options.flags)


def _split(data: str) -> list[str]:
    """Commas in quotes part nothing."""
    words, quoted = [""], False
    for letter in data:
        quoted ^= letter == '"'
        if letter == "," and not quoted:
            words.append("")
        else:
            words[-1] += letter
    return words


def _by_fsconfig(lower: list[str], rest: list[tuple[str, str, str]], flags: int) -> int:
    fs = m.fsopen("overlay")
    try:
        for layer in lower:
            m.fsconfig(fs, m.FSCONFIG_SET_STRING, "lowerdir+", layer)
        for key, equals, value in rest:
            if equals:
                m.fsconfig(fs, m.FSCONFIG_SET_STRING, key, value.strip('"'))  # quotes are mount(2)'s alone
            else:
                m.fsconfig(fs, m.FSCONFIG_SET_FLAG, key)
        m.fsconfig(fs, m.FSCONFIG_CMD_CREATE)
        return m.fsmount(fs, _attributes(flags))
    finally:
        os.close(fs)


def _by_numbers(lower: list[str], rest: list[tuple[str, str, str]], flags: int) -> int:
    """mount(2), with the layers named as their descriptors below /proc/self/fd: of such names a page holds hundreds.

    Mounted over /proc for a moment, where everybody can go; a copy of the mount goes on without a place.
    """
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    layers: list[int] = []
    try:
        layers += (os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for layer in lower)
        os.chdir("/proc/self/fd")
        data = ",".join([f"lowerdir={':'.join(map(str, layers))}", *("".join(word) for word in rest)])
        m.mount("overlay", "/proc", "overlay", flags, data)
        try:
            return m.open_tree("/proc", m.OPEN_TREE_CLONE)
        finally:
            m.umount2("/proc", m.MNT_DETACH)
    finally:
        os.fchdir(here)
        for fd in (here, *layers):
            os.close(fd)


class FileSystem(Operation):
    """Mount a file system of its own kind: proc, tmpfs, sysfs, mqueue, devpts …"""

    def __init__(self, fstype: str, source: str, destination: str, options: MountOptions, label: str = "") -> None:
        self.fstype = fstype
        self.source = source
        self.destination = destination
        self.options = options
        self.label = label  # SELinux, of its top

    def describe(self) -> str:
        return f"mount {self.fstype} on {self.destination}"

    def execute(self, context: Context) -> None:
        find = target.ordinary_directory if self.fstype in ("proc", "sysfs") else target.directory
        place = find(context.root, self.destination)
        try:
            copied = read_tree(place) if self.options.copy_up else None
            m.mount(self.source, target.by_fd(place), self.fstype, self.options.flags, self.options.data)
        except KernelError as error:
            raise named(error, self.describe()) from None
        finally:
            os.close(place)
        if copied is not None or self.options.propagation or self.label:
            self._finish(context, copied)

    def _finish(self, context: Context, copied: Optional[Copied]) -> None:
        mounted = target.directory(context.root, self.destination)
        try:
            if copied is not None:
                fill(mounted, copied)
            if self.label:
                set_file_label(mounted, self.label)
            for propagation in self.options.propagation:
                m.mount("none", target.by_fd(mounted), None, propagation)
        finally:
            os.close(mounted)


class Bind(Operation):
    """Show a file or directory of the host."""

    def __init__(self, source: str, destination: str, options: MountOptions) -> None:
        self.source = source
        self.destination = destination
        self.options = options

    def describe(self) -> str:
        return f"bind {self.source} on {self.destination}"

    def prepare(self, context: Context) -> None:
        recursive = m.AT_RECURSIVE if self.options.flags & m.MS_REC else 0
        try:
            context.keep(self, m.open_tree(self.source, m.OPEN_TREE_CLONE | recursive))
        except KernelError as error:
            raise named(error, self.describe()) from None

    def execute(self, context: Context) -> None:
        tree = context.take(self)
        try:
            place = target.like_fd(context.root, self.destination, tree)
            try:
                attach(tree, place, self.options, recursive=bool(self.options.flags & m.MS_REC))
            finally:
                os.close(place)
        except KernelError as error:
            raise named(error, self.describe()) from None
        finally:
            os.close(tree)


class Remount(Operation):
    """Give a mount the flags that had to wait until what lies on it was made."""

    def __init__(self, destination: str, flags: int) -> None:
        self.destination = destination
        self.flags = flags

    def describe(self) -> str:
        return f"remount {self.destination}"

    def execute(self, context: Context) -> None:
        mounted = target.directory(context.root, self.destination)
        try:
            m.mount("none", target.by_fd(mounted), None, m.MS_REMOUNT | m.MS_BIND | self.flags)
        except KernelError as error:
            raise named(error, self.describe()) from None
        finally:
            os.close(mounted)


def attach(tree: int, place: int, options: MountOptions, *, recursive: bool) -> None:
    """Give the detached mount its flags, then put it in its place: nobody sees it without them."""
    try:
        _set_attributes(tree, options, recursive)
    except KernelError as error:
        if error.errno != errno.ENOSYS:
            raise
        m.move_mount(tree, place)
        remount.like(tree, options, recursive=recursive)
        return
    m.move_mount(tree, place)


def _set_attributes(fd: int, options: MountOptions, recursive: bool) -> None:
    """In one call where it can be one: every mount of every container comes here."""
    first, *more = options.propagation or (m.MS_PRIVATE | m.MS_REC,)
    attr_set = _attributes(options.flags)
    if options.recursive_clear & MOUNT_ATTR_ATIME:
        attr_set &= ~MOUNT_ATTR_ATIME
    attr_set |= options.recursive_set
    # Times of access are one choice of several: the kernel wants all of its bits cleared to set another.
    attr_clr = options.recursive_clear & (~attr_set | MOUNT_ATTR_ATIME)
    if options.flags & (m.MS_NOATIME | m.MS_STRICTATIME):
        attr_clr |= MOUNT_ATTR_ATIME
    cleared = _attributes(options.cleared)
    if recursive and cleared:
        # Taken from the top alone: "rw" on a directory must not open a read-only mount below it.
        m.mount_setattr(fd, attr_clr=cleared)
    elif cleared:
        attr_clr |= cleared
    if recursive and not first & m.MS_REC:
        more, first = [first, *more], 0
    m.mount_setattr(fd, attr_set=attr_set, attr_clr=attr_clr, propagation=first & ~m.MS_REC, recursive=recursive)
    for propagation in more:
        m.mount_setattr(fd, propagation=propagation & ~m.MS_REC, recursive=bool(propagation & m.MS_REC))


def _attributes(flags: int) -> int:
    """MOUNT_ATTR_* of MS_*."""
    result = sum(attribute for flag, attribute in ATTRIBUTES.items() if flags & flag)
    if flags & m.MS_NOATIME:
        return result | MOUNT_ATTR_NOATIME
    return result | MOUNT_ATTR_STRICTATIME if flags & m.MS_STRICTATIME else result


def named(error: KernelError, operation: str) -> KernelError:
    """The same error in the words of the operation: /proc/self/fd/7 says nothing to anybody."""
    return KernelError(operation, errno=error.errno, hint=error.hint or _HINTS.get(error.errno, ""))


_HINTS = {
    errno.EPERM: "in a user namespace the kernel refuses a new proc or sysfs when the host's own has mounts over it",
    errno.ENODEV: "this kernel does not have the file system",
}
