# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cgroup v1: a hierarchy for each controller (Documentation/admin-guide/cgroup-v1)."""

from __future__ import annotations

import os
from typing import Any

from ..files import mkdirs
from ..manager import Manager, Resources, merge
from . import blkio, cpu, cpuset, devices, freezer, hugetlb, memory, pids

_CONTROLLERS: dict[str, Any] = {
    "memory": memory,
    "cpu": cpu,
    "cpuset": cpuset,
    "pids": pids,
    "blkio": blkio,
    "devices": devices,
    "hugetlb": hugetlb,
}


class ManagerV1(Manager):
    def __init__(self, path: str, root: str, hierarchies: dict[str, str]) -> None:
        super().__init__(path, root)
        self._at = {name: directory + path for name, directory in hierarchies.items()}

    def directories(self) -> list[str]:
        # A directory twice would be added to and removed twice: cpu and cpuacct are often mounted together.
        return list(dict.fromkeys(self._at.values()))

    def main(self) -> str:
        return self._at.get("pids") or self._at.get("memory") or self.directories()[0]

    def create(self) -> None:
        for name, directory in self._at.items():
            made = mkdirs(directory)
            if name == "cpuset":
                # A new cpuset is empty and takes no process; even an empty parent refuses its children's values.
                cpuset.inherit(directory, made)

    def apply(self, resources: Resources) -> None:
        for name, controller in _CONTROLLERS.items():
            controller.apply(self._at.get(name, ""), resources)

    def read(self) -> Resources:
        result: Resources = {}
        for name, controller in _CONTROLLERS.items():
            if name in self._at and os.path.isdir(self._at[name]):
                merge(result, controller.read(self._at[name]))
        return result

    def stats(self) -> dict[str, int]:
        result: dict[str, int] = {}
        for name, controller in (("memory", memory), ("cpuacct", cpu), ("pids", pids)):
            if name in self._at and os.path.isdir(self._at[name]):
                result.update(controller.stats(self._at[name]))
        return result

    def freeze(self, frozen: bool) -> None:
        freezer.freeze(self._at["freezer"], frozen)

    def frozen(self) -> bool:
        return "freezer" in self._at and freezer.frozen(self._at["freezer"])
