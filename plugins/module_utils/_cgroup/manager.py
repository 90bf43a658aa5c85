# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One cgroup in few verbs. Which version the host has is asked here and nowhere else."""

from __future__ import annotations

import errno
import os
import signal as signals
import time
from typing import Any, Optional

from .._errors import KernelError
from . import files

ROOT = "/sys/fs/cgroup"
_layouts: dict[str, dict[str, str]] = {}

Resources = dict[str, Any]


class Manager:
    """The container's group. ``path`` is config.json's cgroupsPath, below every hierarchy alike."""

    def __init__(self, path: str, root: str) -> None:
        self.path = path
        self.root = root

    def create(self) -> None:
        """Make the group in every hierarchy, with its parents; it may be there already."""
        raise NotImplementedError

    def directories(self) -> list[str]:
        """The group's directory in every hierarchy."""
        raise NotImplementedError

    def apply(self, resources: Resources) -> None:
        """Write linux.resources; only the keys that are there."""
        raise NotImplementedError

    def read(self) -> Resources:
        """What the kernel has, in the shape of linux.resources; -1 for no limit."""
        raise NotImplementedError

    def stats(self) -> dict[str, int]:
        """Figures of use: bytes, nanoseconds and counts."""
        raise NotImplementedError

    def freeze(self, frozen: bool) -> None:
        raise NotImplementedError

    def frozen(self) -> bool:
        raise NotImplementedError

    def clone_fd(self) -> Optional[int]:
        """A directory descriptor for CLONE_INTO_CGROUP; None where a process must be added by hand."""
        return None

    def unified(self) -> bool:
        """Is this a unified hierarchy?"""
        return False

    def main(self) -> str:
        """The directory whose cgroup.procs tells who is in."""
        return self.directories()[0]

    def add(self, pid: int) -> None:
        for directory in self.directories():
            files.write(f"{directory}/cgroup.procs", pid)

    def exists(self) -> bool:
        return os.path.isdir(self.main())

    def pids(self) -> list[int]:
        """Processes in the group and below."""
        found: list[int] = []
        for directory, _, _ in os.walk(self.main()):
            text = files.read_optional(f"{directory}/cgroup.procs")
            found += [int(line) for line in (text or "").split()]
        return found

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """Signal all that are in; what forks meanwhile is met in the next round."""
        seen: set[int] = set()
        for _ in range(100):
            left = [pid for pid in self.pids() if pid not in seen]
            for pid in left:
                try:
                    os.kill(pid, signal)
                except ProcessLookupError:
                    pass
            seen.update(left)
            if not left:
                return

    def remove(self, *, patience: float = 2.0) -> None:
        """Remove the group everywhere, children first. A process that just ended may hold it busy for a moment."""
        deadline = time.monotonic() + patience
        pause = 0.001
        while True:
            try:
                for directory in self.directories():
                    _rmdir_tree(directory)
                    _rmdir_empty(os.path.dirname(directory), directory[: -len(self.path)])
                return
            except KernelError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 0.1)


def merge(into: Resources, values: Resources) -> None:
    """Add what one controller has read: cpu and cpuset fill the same object."""
    for key, value in values.items():
        into.setdefault(key, {}).update(value)


def _rmdir_tree(directory: str) -> None:
    if not os.path.isdir(directory):
        return
    for parent, children, _ in os.walk(directory, topdown=False):
        for child in children:
            _rmdir(f"{parent}/{child}")
    _rmdir(directory)


def _rmdir_empty(directory: str, top: str) -> None:
    """Remove parents that hold nothing any more: create() makes them again."""
    while len(directory) > len(top):
        try:
            os.rmdir(directory)
        except OSError:
            return
        directory = os.path.dirname(directory)


def _rmdir(directory: str) -> None:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError("rmdir", directory, error.errno or 0) from None


def layout(root: str = ROOT) -> dict[str, str]:
    """Controller: directory of its hierarchy. The key "" stands for the unified hierarchy, where it has controllers.

    A name with = in it is a hierarchy without controllers (systemd's, or the unified one beside v1).
    """
    if root not in _layouts:
        _layouts[root] = _unified(root) or _split(root)
    return _layouts[root]


def _unified(root: str) -> dict[str, str]:
    return {"": root} if os.path.exists(f"{root}/cgroup.controllers") else {}


def _split(root: str) -> dict[str, str]:
    found = {}
    for entry in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        directory = f"{root}/{entry}"
        if os.path.exists(f"{directory}/cgroup.controllers"):
            found["=unified"] = directory
        elif entry == "systemd" and os.path.exists(f"{directory}/cgroup.procs"):
            found["=systemd"] = directory
        elif os.path.exists(f"{directory}/cgroup.procs"):
            # "cpu,cpuacct" is one hierarchy under two names; distributions add links for each
            for name in entry.split(","):
                found.setdefault(name, os.path.realpath(directory))
    return found


def open_manager(path: str, *, root: str = ROOT) -> Manager:
    """The manager that fits what is mounted at ``root``."""
    hierarchies = layout(root)
    if "" in hierarchies:
        from .v2.manager import ManagerV2

        return ManagerV2(path, root)
    if not hierarchies:
        raise KernelError("find a cgroup hierarchy at", root, errno.ENOENT, hint="mount cgroup2 there")
    from .v1.manager import ManagerV1

    return ManagerV1(path, root, hierarchies)
