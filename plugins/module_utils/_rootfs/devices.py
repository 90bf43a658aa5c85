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
            self._mknod(context)
            return
        bind = Bind(self.path, self.path, MountOptions(m.MS_BIND))
        context.keep(bind, context.take(self))
        bind.execute(context)

    def _mknod(self, context: Context) -> None:
        """The umask is 0 while a root file system is made, so the mode is exactly that which is asked."""
        parent_path, name = os.path.split(self.path)
        parent = target.directory(context.root, parent_path)
        try:
            _remove(parent, name)
            os.mknod(name, self.mode | KINDS[self.kind], os.makedev(self.major, self.minor), dir_fd=parent)
            if self.uid or self.gid:
                os.chown(name, self.uid, self.gid, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            raise KernelError("mknod", self.path, error.errno or 0) from None
        finally:
            os.close(parent)


class Link(Operation):
    """A symlink that the runtime-spec wants in /dev; what is there already stays, unless it is to be replaced."""

    def __init__(self, path: str, to: str, replace: bool = False) -> None:
        self.path = path
        self.to = to
        self.replace = replace

    def describe(self) -> str:
        return f"link {self.path}"

    def execute(self, context: Context) -> None:
        parent_path, name = os.path.split(self.path)
        parent = target.directory(context.root, parent_path)
        try:
            if self.replace:
                _remove(parent, name)
            os.symlink(self.to, name, dir_fd=parent)
        except FileExistsError:
            pass
        except OSError as error:
            raise KernelError("symlink", self.path, error.errno or 0) from None
        finally:
            os.close(parent)


def _remove(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
