# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cgroup v1: a hierarchy for each controller (Documentation/admin-guide/cgroup-v1)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from ..._errors import KernelError
from .. import hugetlb, pids, pressure
from ..files import mkdirs
from ..manager import Manager, Resources, merge
from . import blkio, cpu, cpuacct, cpuset, devices, freezer, memory, network

_APPLY: tuple[tuple[str, Callable[[str, Resources], None]], ...] = (
    ("memory", memory.apply),
    ("cpu", cpu.apply),
    ("cpuset", cpuset.apply),
    ("pids", pids.apply),
    ("blkio", blkio.apply),
    ("devices", devices.apply),
    ("hugetlb", partial(hugetlb.apply, limit="limit_in_bytes")),
    ("net_cls", network.apply_class),
    ("net_prio", network.apply_priorities),
)
_READ: tuple[tuple[str, Callable[[str], dict[str, Any]]], ...] = (
    ("memory", memory.read),
    ("cpu", cpu.read),
    ("cpuset", cpuset.read),
    ("pids", pids.read),
    ("blkio", blkio.read),
    ("hugetlb", partial(hugetlb.read, limit="limit_in_bytes")),
)
_STATS: tuple[tuple[str, Callable[[str], dict[str, int]]], ...] = (
    ("memory", memory.stats),
    ("cpu", cpu.stats),
    ("cpuacct", cpuacct.stats),
    ("pids", pids.stats),
    ("blkio", blkio.stats),
    # In a hybrid layout the unified hierarchy has no controllers, but it knows who waits.
    ("=unified", pressure.stats),
)


class ManagerV1(Manager):
    def __init__(self, path: str, root: str, hierarchies: dict[str, str]) -> None:
        super().__init__(path, root)
        self._tops = hierarchies
        self._at = {name: directory + path for name, directory in hierarchies.items()}

    def directories(self) -> list[str]:
        # A directory twice would be added to and removed twice: cpu and cpuacct are often mounted together.
        return list(dict.fromkeys(self._at.values()))

    def main(self) -> str:
        return self._at.get("pids") or self._at.get("memory") or self.directories()[0]

    def make(self) -> None:
        for name, directory in self._at.items():
            mkdirs(directory)
            if name == "cpuset":
                cpuset.inherit(directory, self._tops[name])

    def apply(self, resources: Resources) -> None:
        for name in resources.get("unified") or {}:
            hint = "linux.resources.unified is for cgroup v2, and this host has v1"
            raise KernelError(f"write to {name} of", self.path, errno.EOPNOTSUPP, hint=hint)
        for name, write in _APPLY:
            try:
                write(self._at.get(name) or f"{self.root}/{name}{self.path}", resources)
            except KernelError as error:
                if error.errno == errno.ENOENT and name not in self._at:
                    error.hint = f"the controller {name} is not mounted on this host"
                raise

    def read(self) -> Resources:
        result: Resources = {}
        for name, look in _READ:
            if name in self._at:
                merge(result, look(self._at[name]))
        return result

    def stats(self) -> dict[str, int]:
        result: dict[str, int] = {}
        for name, look in _STATS:
            if name in self._at and os.path.isdir(self._at[name]):
                result.update(look(self._at[name]))
        return result

    def freeze(self, frozen: bool) -> None:
        if "freezer" not in self._at:
            raise KernelError("freeze", self.path, errno.ENOENT, hint="the controller freezer is not mounted here")
        freezer.freeze(self._at["freezer"], frozen)

    def frozen(self) -> bool:
        return "freezer" in self._at and freezer.frozen(self._at["freezer"])
