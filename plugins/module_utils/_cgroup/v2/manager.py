# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cgroup v2: one hierarchy (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import errno
import os
from typing import Any, Optional

from ..._errors import KernelError
from ..files import mkdirs, read_optional, write
from ..manager import Manager, Resources, merge
from . import blkio, cpu, cpuset, devices, freezer, hugetlb, memory, pids

_CONTROLLERS: tuple[Any, ...] = (memory, cpu, cpuset, pids, blkio, devices, hugetlb)


class ManagerV2(Manager):
    def __init__(self, path: str, root: str) -> None:
        super().__init__(path, root)
        self._directory = root + path

    def directories(self) -> list[str]:
        return [self._directory]

    def create(self) -> None:
        mkdirs(self._directory)
        parent = self.root
        self._delegate(parent)
        for part in self.path.strip("/").split("/")[:-1]:
            parent = f"{parent}/{part}"
            self._delegate(parent)

    @staticmethod
    def _delegate(directory: str) -> None:
        """Let the children of ``directory`` have every controller that it has itself."""
        offered = (read_optional(f"{directory}/cgroup.controllers") or "").split()
        enabled = (read_optional(f"{directory}/cgroup.subtree_control") or "").split()
        missing = [name for name in offered if name not in enabled]
        if not missing:
            return
        try:
            write(f"{directory}/cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
        except KernelError as error:
            if error.errno == errno.EBUSY:
                error.hint = (
                    "a group with processes of its own can't share its controllers out; move them to a child first"
                )
            raise

    def apply(self, resources: Resources) -> None:
        for controller in _CONTROLLERS:
            controller.apply(self._directory, resources)
        for name, value in (resources.get("unified") or {}).items():
            write(f"{self._directory}/{os.path.basename(name)}", value)

    def read(self) -> Resources:
        result: Resources = {}
        for controller in _CONTROLLERS:
            merge(result, controller.read(self._directory))
        return result

    def stats(self) -> dict[str, int]:
        result: dict[str, int] = {}
        for controller in (memory, cpu, pids):
            result.update(controller.stats(self._directory))
        return result

    def freeze(self, frozen: bool) -> None:
        freezer.freeze(self._directory, frozen)

    def frozen(self) -> bool:
        return freezer.frozen(self._directory)

    def unified(self) -> bool:
        return True

    def clone_fd(self) -> Optional[int]:
        return os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def kill(self, signal: int = 9) -> None:
        # cgroup.kill (Linux 5.14) reaches all at once, also what forks meanwhile.
        if signal == 9 and os.path.exists(f"{self._directory}/cgroup.kill"):
            write(f"{self._directory}/cgroup.kill", 1)
        else:
            super().kill(signal)
