# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/sys/fs/cgroup: the container's own group and nothing of the host's."""

from __future__ import annotations

import errno
import os

from .._errors import KernelError
from .._kernel import mount as m
from .devices import Link
from .ops import Bind, Context, FileSystem, Operation
from .options import MountOptions


class CgroupV1(Operation):
    """A tmpfs with the container's own group of every hierarchy in it; a later operation makes it read-only."""

    def __init__(self, destination: str, groups: tuple[tuple[str, str], ...], options: MountOptions) -> None:
        self.destination = destination
        self.options = options
        flags = MountOptions(m.MS_BIND | options.flags)
        self.binds = [Bind(source, f"{destination}/{name}", flags) for name, source in groups]

    def describe(self) -> str:
        return f"mount cgroup on {self.destination}"

    def prepare(self, context: Context) -> None:
        for bind in self.binds:
            bind.prepare(context)

    def execute(self, context: Context) -> None:
        writable = MountOptions(self.options.flags & ~m.MS_RDONLY, data="mode=755")
        FileSystem("tmpfs", "tmpfs", self.destination, writable).execute(context)
        for bind in self.binds:
            bind.execute(context)
            # cpu,cpuacct is one hierarchy that programs look for under either name
            directory, name = os.path.split(bind.destination)
            for part in name.split(",") if "," in name else ():
                Link(f"{directory}/{part}", name).execute(context)


class Cgroup2(Operation):
    """The unified hierarchy from the container's own group down. Without a cgroup namespace a new mount would show the
    host's whole tree, so the group is bound."""

    def __init__(self, destination: str, group: str, options: MountOptions, *, own: bool) -> None:
        self.destination = destination
        self.own = own
        self.mount = FileSystem("cgroup2", "cgroup", destination, options)
        self.bind = Bind(group, destination, MountOptions(options.flags | m.MS_BIND))

    def describe(self) -> str:
        return f"mount cgroup2 on {self.destination}"

    def prepare(self, context: Context) -> None:
        self.bind.prepare(context)

    def execute(self, context: Context) -> None:
        if self.own:
            try:
                self.mount.execute(context)
                return
            except KernelError as error:
                if error.errno not in (errno.EPERM, errno.EBUSY):
                    raise
        self.bind.execute(context)
