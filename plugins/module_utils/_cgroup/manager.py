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

from .._errors import KernelError, SpecError
from . import files, hugetlb, throttle
from .cpuset import canonical

ROOT = "/sys/fs/cgroup"
# Hierarchies of v1 that a container gets a group in; named ones of others (elogind's …) are none of ours.
_CONTROLLERS = (
    "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls", "net_prio",
    "perf_event", "pids", "rdma",
)  # fmt: skip
_layouts: dict[str, dict[str, str]] = {}

Resources = dict[str, Any]


class Manager:
    """The container's group. ``path`` is config.json's cgroupsPath, below every hierarchy alike."""

    def __init__(self, path: str, root: str) -> None:
        self.path = path
        self.root = root

    def create(self) -> None:
        """Make the group in every hierarchy, with its parents; it may be there already."""
        self.make()
        self.share()

    def make(self) -> None:
        """The directories of create()."""
        raise NotImplementedError

    def share(self) -> None:
        """What create() does once the directories are there."""

    def directories(self) -> list[str]:
        """The group's directory in every hierarchy."""
        raise NotImplementedError

    def apply(self, resources: Resources) -> None:
        """Write linux.resources; only the keys that are there."""
        raise NotImplementedError

    def read(self) -> Resources:
        """What the kernel has, in the shape of linux.resources; -1 for no limit."""
        raise NotImplementedError

    def expected(self, resources: Resources) -> Resources:
        """What read() gives after apply(resources): the kernel rounds, and v2 has other scales than config.json."""
        result: Resources = {key: dict(value) for key, value in resources.items() if isinstance(value, dict)}
        page = os.sysconf("SC_PAGE_SIZE")
        memory, cpu, pids = result.get("memory", {}), result.get("cpu", {}), result.get("pids", {})
        for key in ("limit", "swap", "reservation"):
            if memory.get(key) is not None and memory[key] > 0:
                memory[key] -= memory[key] % page
        for key in ("cpus", "mems"):
            if cpu.get(key):
                cpu[key] = canonical(cpu[key])
        if cpu.get("shares") is not None:
            cpu["shares"] = min(262144, max(2, cpu["shares"]))
        if pids.get("limit") is not None and pids["limit"] <= 0:
            pids["limit"] = files.UNLIMITED
        block = result.get("blockIO", {})
        block.update({key: throttle.ordered(block[key]) for key in throttle.KEYS if key in block})
        if resources.get("hugepageLimits"):
            result["hugepageLimits"] = hugetlb.rounded(resources["hugepageLimits"])
        return result

    def stats(self) -> dict[str, int]:
        """Figures of use: bytes, nanoseconds and counts; none when the group is gone."""
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

    def release(self) -> None:
        """Let go what else there may be of a group without processes whose making was not finished."""

    def floor(self, top: str) -> str:
        """The path below the hierarchy at ``top`` from which on upwards groups are not ours to remove."""
        return ""

    def exists(self) -> bool:
        return os.path.isdir(self.main())

    def pids(self) -> list[int]:
        """Processes in the group and below."""
        found: list[int] = []
        for directory in _tree(self.main()):
            text = files.read_optional(f"{directory}/cgroup.procs")
            found += [int(line) for line in (text or "").split()]
        return found

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """Signal all that are in; what forks meanwhile is met in the next round."""
        seen: set[int] = set()
        stopped = False
        for attempt in range(100):
            left = [pid for pid in self.pids() if pid not in seen]
            if not left:
                break
            if attempt == 3 and signal == signals.SIGKILL:
                stopped = self._stop()  # it forks faster than we look: make it hold still
            for pid in left:
                try:
                    os.kill(pid, signal)
                except ProcessLookupError:
                    pass
            seen.update(left)
        if stopped:
            self.freeze(False)

    def _stop(self) -> bool:
        try:
            self.freeze(True)
        except KernelError:
            return False
        return True

    def remove(self, *, patience: float = 2.0) -> None:
        """Remove the group everywhere, children first. A process that just ended may hold it busy for a moment."""
        deadline = time.monotonic() + patience
        pause = 0.001
        while True:
            try:
                for directory in self.directories():
                    _remove(directory)
                    top = directory[: -len(self.path)]
                    _rmdir_empty(os.path.dirname(directory), top + self.floor(top))
                return
            except KernelError as error:
                if error.errno != errno.EBUSY:
                    raise
                if time.monotonic() > deadline:
                    left = " ".join(map(str, self.pids()[:5]))
                    error.hint = f"processes are in it: {left}" if left else "a group below it is in use"
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 0.1)


def merge(into: Resources, values: Resources) -> None:
    """Add ``values``, as what one controller has read: cpu and cpuset fill the same object.

    Of hugepageLimits an entry takes the place of the one for the same page size.
    """
    for key, value in values.items():
        if isinstance(value, list):
            entries = {entry["pageSize"]: entry for entry in [*into.get(key, []), *value]}
            into[key] = list(entries.values())
        else:
            into.setdefault(key, {}).update(value)


def _children(directory: str) -> int:
    """How many groups are directly below. Two links are the directory's own, and files do not count."""
    return os.stat(directory).st_nlink - 2


def _tree(directory: str) -> list[str]:
    """The group and all below, children after their parents; empty when it is gone."""
    try:
        if not _children(directory):
            return [directory]
        with os.scandir(directory) as entries:
            children = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    return [directory, *(path for child in children for path in _tree(child))]


def _remove(directory: str) -> None:
    for path in reversed(_tree(directory)):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise KernelError("rmdir", path, error.errno or 0) from None


def _rmdir_empty(directory: str, top: str) -> None:
    """Remove parents that hold nothing any more: create() makes them again."""
    while len(directory) > len(top) and _rmdir_childless(directory):
        directory = os.path.dirname(directory)


def _rmdir_childless(directory: str) -> bool:
    """Is it gone? The kernel may hold a group busy for a moment after its last child went; one with children stays."""
    try:
        for pause in (0.0, 0.001, 0.01, 0.1):
            time.sleep(pause)
            try:
                os.rmdir(directory)
                return True
            except OSError as error:
                if error.errno != errno.EBUSY or _children(directory):
                    raise
    except OSError as error:
        return error.errno == errno.ENOENT
    return False


def layout(root: str = ROOT) -> dict[str, str]:
    """Controller: directory of its hierarchy. The key "" stands for the unified hierarchy, where it has controllers.

    A name with = in it is a hierarchy without controllers (systemd's, or the unified one beside v1). What is mounted
    where does not change while a host runs, so each root is looked at once in a process.
    """
    if root not in _layouts:
        _layouts[root] = _unified(root) or _split(root)
    return _layouts[root]


def is_unified(root: str = ROOT) -> bool:
    """Has the host cgroup v2 alone?"""
    return "" in layout(root)


def controllers(root: str = ROOT) -> list[str]:
    """Those that the host has, sorted."""
    if is_unified(root):
        return sorted(files.read(f"{root}/cgroup.controllers").split())
    return sorted(name for name in layout(root) if not name.startswith("="))


def _unified(root: str) -> dict[str, str]:
    return {"": root} if os.path.exists(f"{root}/cgroup.controllers") else {}


def _split(root: str) -> dict[str, str]:
    found = {}
    for entry in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        directory = os.path.realpath(f"{root}/{entry}")
        if not os.path.exists(f"{directory}/cgroup.procs"):
            continue
        if os.path.exists(f"{directory}/cgroup.controllers"):
            name = "=unified"
        elif entry == "systemd":
            name = "=systemd"
        else:
            # "cpu,cpuacct" is one hierarchy under two names; distributions add links for each
            for name in entry.split(","):
                if name in _CONTROLLERS:
                    found[name] = directory
            continue
        if os.access(directory, os.W_OK):  # in a container it may be read-only; nothing depends on these two
            found[name] = directory
    return found


def scope_path(text: str) -> str:
    """The group for systemd's form of cgroupsPath, ``SLICE:PREFIX:NAME``, as runc documents it (systemd.md)."""
    parts = text.split(":")
    if len(parts) != 3 or not parts[2] or "/" in text:
        raise SpecError("linux.cgroupsPath", f"{text!r} is not systemd's form, SLICE:PREFIX:NAME")
    levels = (parts[0] or "system.slice").rpartition(".slice")[0].split("-")
    # A slice's name holds those that it is in (systemd.slice(5)); -.slice is the root.
    within = "".join(f"/{'-'.join(levels[:depth])}.slice" for depth in range(1, len(levels) + 1) if levels[0])
    return f"{within}/{'-'.join(part for part in parts[1:] if part)}.scope/container"


def open_manager(path: str, *, root: str = ROOT) -> Manager:
    """The manager that fits what is mounted at ``root``, and the path: in a scope it is systemd that makes groups."""
    hierarchies = layout(root)
    if not hierarchies:
        raise KernelError("find a cgroup hierarchy at", root, errno.ENOENT, hint="mount cgroup2 there")
    unified = "" in hierarchies
    if os.path.dirname(path).endswith(".scope"):
        from .systemd import ScopedV1, ScopedV2

        return ScopedV2(path, root) if unified else ScopedV1(path, root, hierarchies)
    if unified:
        from .v2.manager import ManagerV2

        return ManagerV2(path, root)
    from .v1.manager import ManagerV1

    return ManagerV1(path, root, hierarchies)
