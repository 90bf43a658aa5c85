# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scope a container, where systemd owns the tree (systemd's CGROUP_DELEGATION.md: one writer a group).

systemd makes a scope around a process, so nothing can be made before there is one: create() and apply() take effect
in add(). The limits go to a group of ours below the scope, for the scope's own files are systemd's, which writes them
anew when it likes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Optional

from .._errors import BusError, KernelError, StartError
from .._kernel.sd_bus import Bus
from .files import read
from .manager import Manager, Resources
from .v1 import blkio as blkio1
from .v1.manager import ManagerV1
from .v2 import blkio, cpu
from .v2.manager import ManagerV2

_SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_EXISTS = "org.freedesktop.systemd1.UnitExists"
# How long a scope of the same name may take to go, and the new one to come.
_PATIENCE = 10.0
# After this it does not go by itself: see _stop().
_PROMPT = 0.1
_bus = Bus()


class Scoped(Manager):
    # Of shares of the processor and the weight for disks, in config.json's scale: the property, and its value.
    weights: tuple[tuple[str, Callable[[int], int]], ...]
    _late: Optional[Resources] = None  # between create() and add()

    @property
    def within(self) -> str:
        """The scope's path below each hierarchy."""
        return os.path.dirname(self.path)

    def create(self) -> None:
        self._late = {}

    def apply(self, resources: Resources) -> None:
        if self._late is None:
            super().apply(resources)
            self.weigh(resources)
        else:
            self._late = resources

    def add(self, pid: int) -> None:
        if self._late is not None:
            late, self._late = self._late, None
            self._begin(pid)
            self.make()
            super().add(pid)
            self.share()  # not before: a group with processes of its own has no controllers for children
            self.apply(late)
        else:
            super().add(pid)

    def _begin(self, pid: int) -> None:
        """Have the scope made around the process, and wait until it is in it."""
        above, dummy, scope = self.within.rpartition("/")
        _start(scope, above.rpartition("/")[2], pid)
        _await(self.within, scope, pid)
        if not self.unified():
            # It is put into the other hierarchies after that: any answer tells that systemd is done with it.
            _bus.call(*_SYSTEMD, "GetUnitByPID", ("u",), pid)

    def weigh(self, resources: Resources) -> None:
        """What weighs against other containers must be the scope's too: below it the container has no neighbours."""
        given = ((resources.get("cpu") or {}).get("shares"), (resources.get("blockIO") or {}).get("weight"))
        pairs = zip(self.weights, given)
        properties = [(name, ("t", convert(value))) for (name, convert), value in pairs if value]
        if properties:
            _set(os.path.basename(self.within), properties)

    def clone_fd(self) -> Optional[int]:
        return None if self._late is not None else super().clone_fd()

    def release(self) -> None:
        _stop(os.path.basename(self.within))

    def floor(self, top: str) -> str:
        """systemd removes what it has made: it would not hear that a group which is gone has become empty."""
        return self.within


class ScopedV1(Scoped, ManagerV1):
    """In systemd's own hierarchy the process is in the scope too, in those of the controllers at the same path."""

    weights = (("CPUShares", int),)

    def weigh(self, resources: Resources) -> None:
        super().weigh(resources)
        # systemd delegates no blkio here. Told of a weight, it takes the hierarchy for its own and moves processes in
        # it up to the slice; told of none, it leaves the scope's group there to us.
        weight = (resources.get("blockIO") or {}).get("weight")
        if weight and "blkio" in self._at:
            blkio1.apply(os.path.dirname(self._at["blkio"]), {"blockIO": {"weight": weight}})

    def floor(self, top: str) -> str:
        return super().floor(top) if top.endswith(("/systemd", "/unified")) else ""


class ScopedV2(Scoped, ManagerV2):
    weights = (("CPUWeight", cpu.weight), ("IOWeight", blkio.weight))

    def protect(self, directory: str, values: dict[str, int]) -> None:
        names = {"memory.low": "MemoryLow", "memory.min": "MemoryMin"}
        properties = [(names[file], ("t", value % 2**64)) for file, value in values.items()]
        _set(os.path.basename(directory), properties)


def _set(unit: str, properties: list[tuple[str, tuple[str, Any]]]) -> None:
    """Until the unit ends."""
    try:
        _bus.call(*_SYSTEMD, "SetUnitProperties", ("s", "b", "a(sv)"), unit, True, properties)
    except BusError as error:
        raise StartError(f"unit {unit}: {error.message}", step="cgroup", hint=error.hint) from None


def _start(scope: str, above: str, pid: int) -> None:
    properties: list[tuple[str, tuple[str, Any]]] = [
        ("Description", ("s", f"Container {scope[:-6]}")),
        ("Slice", ("s", above or "-.slice")),
        ("PIDs", ("au", [pid])),
        ("Delegate", ("b", True)),
        ("TasksMax", ("t", 2**64 - 1)),  # else a share of what the host has, whatever the container declares
        ("CollectMode", ("s", "inactive-or-failed")),  # a scope whose process was killed must not keep its name
    ]
    if above.startswith("vessel"):
        # At the host's shutdown our own service ends them, each in its way, before systemd ends what is left.
        properties.append(("Before", ("as", [above.replace(".slice", ".service")])))
    began = time.monotonic()
    pause = 0.001
    while True:
        try:
            _bus.call(*_SYSTEMD, "StartTransientUnit", ("s", "s", "a(sv)", "a(sa(sv))"), scope, "fail", properties, [])
            return
        except BusError as error:
            # The one of its last life: its group is empty, and systemd is about to see that.
            waited = time.monotonic() - began
            if error.name != _EXISTS or waited > _PATIENCE:
                raise StartError(f"scope {scope}: {error.message}", step="cgroup", hint=error.hint) from None
        if waited > _PROMPT:
            _stop(scope)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def _stop(scope: str) -> None:
    """For a scope that nobody is in. It ends when its group becomes empty, and so never where its only process had
    ended before systemd put it there, as that of a supervisor which was killed then."""
    try:
        _bus.call(*_SYSTEMD, "StopUnit", ("s", "s"), scope, "replace")
    except BusError:
        pass  # it has gone by itself


def _await(path: str, scope: str, pid: int) -> None:
    """systemd answers when it has queued the job; wait until the process is where it shall be."""
    until = time.monotonic() + _PATIENCE
    pause = 0.0005
    while time.monotonic() < until:
        try:
            if any(line.endswith(f":{path}") for line in read(f"/proc/{pid}/cgroup").split("\n")):
                return
        except KernelError:
            raise StartError(f"scope {scope}: its process ended before it was in it", step="cgroup") from None
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
    raise StartError(f"scope {scope}: systemd did not make it within {_PATIENCE:g} s", step="cgroup")
