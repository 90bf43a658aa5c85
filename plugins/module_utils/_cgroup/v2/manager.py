# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cgroup v2: one hierarchy (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import errno
import os
from typing import Any, Optional

from ..._errors import KernelError
from .. import hugetlb, pids, pressure
from ..cpuset import canonical
from ..files import UNLIMITED, mkdirs, read_optional, write
from ..manager import Manager, Resources, merge
from . import blkio, cpu, cpuset, devices, freezer, memory, protection

_APPLY: tuple[Any, ...] = (memory, cpu, cpuset, pids, blkio, devices, hugetlb)
_READ: tuple[Any, ...] = (memory, cpu, cpuset, pids, blkio, hugetlb)
_STATS: tuple[Any, ...] = (memory, cpu, pids, blkio, pressure)


class ManagerV2(Manager):
    def __init__(self, path: str, root: str) -> None:
        super().__init__(path, root)
        self._directory = root + path

    def directories(self) -> list[str]:
        return [self._directory]

    def make(self) -> None:
        if not os.path.isdir(self._directory):
            mkdirs(self._directory)

    def share(self) -> None:
        """Every controller to all that lead here, from the first that is ours to write to."""
        floor = self.floor(self.root)
        parents = [self.root + floor]
        for part in self.path[len(floor) :].strip("/").split("/")[:-1]:
            parents.append(f"{parents[-1]}/{part}")
        for parent in parents:
            _share(parent)

    def apply(self, resources: Resources) -> None:
        if resources.get("hugepageLimits"):
            self._lead("hugetlb")
        for controller in _APPLY:
            try:
                controller.apply(self._directory, resources)
            except KernelError as error:
                if error.errno == errno.ENOENT and not error.hint:
                    error.hint = self._lacks(error.obj)
                raise
        for name, value in (resources.get("unified") or {}).items():
            if "/" in name:
                raise KernelError(f"write {value} to", name, errno.EINVAL, hint="it must be a file's name")
            write(f"{self._directory}/{name}", value)
        protection.pass_up(self._directory, self.root, self.protect)

    def protect(self, directory: str, values: dict[str, int]) -> None:
        """Write the protections of a group that others are in."""
        for name, value in values.items():
            write(f"{directory}/{name}", "max" if value == UNLIMITED else value)

    def _lead(self, controller: str) -> None:
        """Share out one that systemd knows nothing of, from the root down: it neither does so nor minds."""
        parent = self.root
        for part in self.path.strip("/").split("/"):
            if controller in (read_optional(f"{parent}/cgroup.controllers") or "").split():
                write(f"{parent}/cgroup.subtree_control", f"+{controller}")
            parent = f"{parent}/{part}"

    def _lacks(self, path: str) -> str:
        """Why a file of a controller may not be there."""
        controller = os.path.basename(path).partition(".")[0]
        offered = (read_optional(f"{self._directory}/cgroup.controllers") or "").split()
        return "" if controller in offered else f"the controller {controller} is not enabled for this group"

    def read(self) -> Resources:
        result: Resources = {}
        for controller in _READ:
            merge(result, controller.read(self._directory))
        return result

    def expected(self, resources: Resources) -> Resources:
        result = super().expected(resources)
        processor = result.get("cpu") or {}
        if processor.get("shares"):
            processor["shares"] = cpu.shares(cpu.weight(processor["shares"]))
        for key in ("cpus", "mems"):
            if key in processor:
                processor[key] = canonical(processor[key])
        result.get("unified", {}).update(memory.rounded(result.get("unified", {})))
        block = result.get("blockIO") or {}
        if block.get("weight") and not os.path.exists(f"{self._directory}/io.bfq.weight"):
            block["weight"] = blkio.blkio(blkio.weight(block["weight"]))
        return result

    def stats(self) -> dict[str, int]:
        result: dict[str, int] = {}
        if self.exists():
            for controller in _STATS:
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
        if signal != 9 or not os.path.exists(f"{self._directory}/cgroup.kill"):
            super().kill(signal)
            return
        try:
            write(f"{self._directory}/cgroup.kill", 1)
        except KernelError as error:
            # systemd removes a scope with its last process, also between our two calls.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise


def _share(directory: str) -> None:
    """Let the children of ``directory`` have every controller that it has itself."""
    offered = (read_optional(f"{directory}/cgroup.controllers") or "").split()
    enabled = (read_optional(f"{directory}/cgroup.subtree_control") or "").split()
    missing = [f"+{name}" for name in offered if name not in enabled]
    if not missing:
        return
    path = f"{directory}/cgroup.subtree_control"
    try:
        write(path, " ".join(missing))
    except KernelError as error:
        if error.errno == errno.EBUSY:
            error.hint = (
                f"{directory} has processes of its own, so it can't share controllers out; move them to a child"
            )
            raise
        if error.errno not in (errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP):
            raise
        # One that can't be shared (cpu, while real-time processes run) must not hold back the others. Who needs it
        # hears of it when its file is missing.
        for name in missing:
            try:
                write(path, name)
            except KernelError:
                pass
