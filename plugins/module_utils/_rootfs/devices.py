# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/dev: nodes, links, the terminal."""

from __future__ import annotations

import os
import stat

from .._errors import KernelError
from .._kernel import mount as m
from . import target
from .ops import Bind, Context, Operation
from .options import MountOptions

KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
# runtime-spec, config-linux.md, "Default Devices"
DEFAULT = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)


class Node(Operation):
    """A device: made by mknod(2), or bound from the host where a user namespace forbids that."""

    def __init__(
        self, path: str, kind: str, major: int, minor: int, mode: int = 0o666, uid: int = 0, gid: int = 0
    ) -> None:
        self.path = path
        self.kind = kind
        self.major = major
        self.minor = minor
        self.mode = mode
        self.uid = uid
        self.gid = gid

    def describe(self) -> str:
        return f"make device {self.path}"

    def prepare(self, context: Context) -> None:
        if not context.mknod:
            context.keep(self, m.open_tree(self.path, m.OPEN_TREE_CLONE))

    def execute(self, context: Context) -> None:
        if context.mknod:
            # The umask is 0 while a root file system is made, so the mode is exactly that which is asked.
            _make(context, os.path.dirname(self.path), self)
            return
        bind = Bind(self.path, self.path, MountOptions(m.MS_BIND))
        context.keep(bind, context.take(self))
        bind.execute(context)

    def make(self, parent: int) -> None:
        """In its directory, in the place of what may be there."""
        name, kind, device = os.path.basename(self.path), KINDS[self.kind], os.makedev(self.major, self.minor)
        try:
            try:
                os.mknod(name, self.mode | kind, device, dir_fd=parent)
            except FileExistsError:
                os.unlink(name, dir_fd=parent)
                os.mknod(name, self.mode | kind, device, dir_fd=parent)
            if self.uid or self.gid:
                os.chown(name, self.uid, self.gid, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            raise KernelError("mknod", self.path, error.errno or 0) from None


class Link(Operation):
    """A symlink that the runtime-spec wants in /dev; what is there already stays, unless it is to be replaced."""

    def __init__(self, path: str, to: str, replace: bool = False) -> None:
        self.path = path
        self.to = to
        self.replace = replace

    def describe(self) -> str:
        return f"link {self.path}"

    def execute(self, context: Context) -> None:
        _make(context, os.path.dirname(self.path), self)

    def make(self, parent: int) -> None:
        name = os.path.basename(self.path)
        try:
            try:
                os.symlink(self.to, name, dir_fd=parent)
            except FileExistsError:
                if self.replace:
                    os.unlink(name, dir_fd=parent)
                    os.symlink(self.to, name, dir_fd=parent)
        except OSError as error:
            raise KernelError("symlink", self.path, error.errno or 0) from None


class DefaultDevices(Operation):
    """What every container has in /dev."""

    def __init__(self) -> None:
        self.nodes = [Node(path, "c", major, minor) for path, major, minor in DEFAULT]
        self.links = [*(Link(path, to) for path, to in LINKS), Link("/dev/ptmx", "pts/ptmx", replace=True)]

    def describe(self) -> str:
        return "make the devices of /dev"

    def prepare(self, context: Context) -> None:
        for node in self.nodes:
            node.prepare(context)

    def execute(self, context: Context) -> None:
        if not context.mknod:
            for node in self.nodes:
                node.execute(context)
        _make(context, "/dev", *(self.nodes if context.mknod else ()), *self.links)


def _make(context: Context, directory: str, *things: Node | Link) -> None:
    """Look the directory up once for all of them."""
    parent = target.directory(context.root, directory)
    try:
        for thing in things:
            thing.make(parent)
    finally:
        os.close(parent)
