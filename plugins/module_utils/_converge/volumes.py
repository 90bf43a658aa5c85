# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: data that outlives its containers. Nothing but ``state: absent`` on the volume itself removes it."""

from __future__ import annotations

import os
import stat
from types import ModuleType
from typing import Any, Optional

from .._errors import InUseError, NotFoundError, OptionError
from .._kernel import mount as m
from .._paths import Paths
from .._rootfs import ops
from .._rootfs import options as mount_options
from .._volume import directory, tmpfs
from .._volume.model import Volume
from . import running, store, users
from .container_options import volume_parts
from .inside import copy_of_mount, mount_at
from .plan import Plan, Step
from .volume_options import OPTIONS

KIND = "volumes"
_DRIVERS: dict[str, ModuleType] = {"directory": directory, "tmpfs": tmpfs}


def to_model(paths: Paths, name: str, spec: dict[str, Any]) -> Volume:
    """A stored spec as the volume room takes it."""
    home = paths.resource(KIND, name)
    return Volume(name, home, spec["driver"], spec["owner"], spec["group"], spec["mode"], spec["size"])


def source(paths: Paths, name: str) -> str:
    """The directory that is bound into containers."""
    spec = store.read_spec(paths, KIND, name)
    if spec is None:
        raise NotFoundError("volume", name, hint="declare it with vessel.host.volume first")
    return str(_DRIVERS[spec["driver"]].source(to_model(paths, name, spec)))


def mounts(paths: Paths, name: str) -> dict[str, str]:
    """What has to be mounted before the volume may be used: path: type of the file system."""
    spec = store.read_spec(paths, KIND, name)
    fstype = _DRIVERS[spec["driver"]].FSTYPE if spec else ""
    return {source(paths, name): fstype} if fstype else {}


def lost(paths: Paths, name: str) -> Plan:
    """What mounts the volume again: after a reboot, or when somebody has unmounted it."""
    if all(m.mounted(path) == fstype for path, fstype in mounts(paths, name).items()):
        return Plan()
    return plan(paths, {"name": name})


def plan(paths: Paths, desired: dict[str, Any], *, whole: bool = False) -> Plan:
    """What makes the volume as desired; what is in it is never touched."""
    name = desired["name"]
    stored = store.read_spec(paths, KIND, name)
    if desired.get("state") == "absent":
        return _absence(paths, name)
    kept = {} if whole else stored or {}
    spec = {option.name: desired.get(option.name, kept.get(option.name, option.default)) for option in OPTIONS}
    if whole and stored and "driver" not in desired:
        spec["driver"] = stored["driver"]  # the default is for new volumes: no default may cost data
    _check(spec, stored)
    return _creation(paths, name, spec) if stored is None else _change(paths, name, stored, spec)


def _check(spec: dict[str, Any], stored: Optional[dict[str, Any]]) -> None:
    if stored and spec["driver"] != stored["driver"]:
        hint = "remove the volume first; its data goes with it"
        raise OptionError("driver", spec["driver"], f"is not what the volume has, {stored['driver']}", hint=hint)
    if spec["size"] and spec["driver"] != "tmpfs":
        raise OptionError("size", spec["size"], f"can't be kept by the driver {spec['driver']}; use driver: tmpfs")


def _check_room(volume: Volume) -> None:
    """The kernel makes none smaller than what is in it."""
    used = tmpfs.usage(volume) if m.mounted(tmpfs.source(volume)) == tmpfs.FSTYPE else 0
    if volume.size and volume.size < used:
        raise OptionError("size", volume.size, f"is less than what is in it, {used} bytes; remove some of that first")


def _creation(paths: Paths, name: str, spec: dict[str, Any]) -> Plan:
    volume = to_model(paths, name, spec)
    driver = _DRIVERS[spec["driver"]]
    found = os.path.lexists(driver.source(volume))

    def do() -> None:
        store.write_spec(paths, KIND, name, spec)
        driver.ensure(volume)

    def undo() -> None:
        if not found:
            driver.remove(volume)
        store.remove_spec(paths, KIND, name)

    return Plan([Step(f"volume {name}", "create", do, undo, after=_shown(spec))])


def _change(paths: Paths, name: str, stored: dict[str, Any], spec: dict[str, Any]) -> Plan:
    volume = to_model(paths, name, spec)
    driver = _DRIVERS[spec["driver"]]
    drifts = {item.what: item for item in driver.differences(volume)}
    changed = [option.name for option in OPTIONS if not option.same(spec[option.name], stored.get(option.name))]
    before, after = _shown(stored), _shown(spec)
    if spec["driver"] == "tmpfs" and "size" in changed:
        _check_room(volume)
    result = Plan()
    for option in changed:
        # One that was left to the container till now is compared with what is there.
        kept = stored.get(option) is None and option not in drifts
        was = drifts[option].before if option in drifts else before.get(option)
        result.add(_told(name, f"set {option}", option, was, after[option], hidden=kept))
    for what, drift in drifts.items():
        if what not in changed:
            result.add(_told(name, f"mend {what}", what, drift.before, drift.after))

    def do() -> None:
        store.write_spec(paths, KIND, name, spec)
        _regain(paths, name)
        driver.ensure(volume)

    def undo() -> None:
        store.write_spec(paths, KIND, name, stored)
        driver.ensure(to_model(paths, name, stored))

    if result.steps:
        # The first step does it all in one go; the others say what it comes to.
        result.steps[0].do, result.steps[0].undo = do, undo
    return result


def _regain(paths: Paths, name: str) -> None:
    """What was unmounted is in the containers still that use it: it comes back from there. A new and empty one would
    be another one than theirs, and what is in theirs would go with them."""
    for path, fstype in mounts(paths, name).items():
        if not m.mounted(path) and os.path.isdir(path):
            tree = _of_a_container(paths, name, fstype)
            if tree >= 0:
                _attach(tree, path)


def _of_a_container(paths: Paths, name: str, fstype: str) -> int:
    """A detached copy of the volume's mount in a container that runs; -1 when none has it."""
    for container, spec in users.specs(paths):
        pid = int(running.status(paths, container).get("pid") or 0)
        targets = [target for volume, target, dummy in map(volume_parts, spec.get("volumes") or []) if volume == name]
        for target in targets if pid else []:
            with mount_at(pid, target) as found:
                # The volume as a whole: no other tmpfs of the container has our name, nor its top in the right place.
                if found and (found.fstype, found.device, found.shown) == (fstype, tmpfs.DEVICE, "/"):
                    return copy_of_mount(pid, found)
    return -1


def _attach(tree: int, path: str) -> None:
    """As it was, whatever it is in the container: there it may be read-only."""
    place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ops.attach(tree, place, mount_options.parse(["rw", "nosuid", "nodev", "exec"]), recursive=False)
    finally:
        os.close(place)
        os.close(tree)


def _told(name: str, action: str, option: str, before: Any, after: Any, *, hidden: bool = False) -> Step:
    return Step(f"volume {name}", action, lambda: None, option=option, before=before, after=after, hidden=hidden)


def _shown(spec: dict[str, Any]) -> dict[str, Any]:
    """Permission bits as people write them."""
    return spec if spec["mode"] is None else {**spec, "mode": f"{spec['mode']:04o}"}


def _absence(paths: Paths, name: str) -> Plan:
    if store.read_spec(paths, KIND, name) is None:
        return Plan()
    used_by = users.of_volume(paths, name)
    if used_by:
        raise InUseError("volume", name, used_by, hint="remove them first, or take the volume out of them")
    return removal(paths, name)


def removal(paths: Paths, name: str) -> Plan:
    """The volume goes with its data; who asks has seen to it that nobody uses it by then."""
    stored = store.read_spec(paths, KIND, name)
    if stored is None:
        return Plan()
    volume = to_model(paths, name, stored)

    def do() -> None:
        # The data first: while the spec is there, a kill in between is mended by the next run.
        _DRIVERS[stored["driver"]].remove(volume)
        store.remove_spec(paths, KIND, name)

    return Plan([Step(f"volume {name}", "remove", do, before=_shown(stored))])


def _observed(path: str) -> dict[str, int]:
    """Owner and mode as they are: where none is declared, the container may have given it to a user of its own."""
    found = os.stat(path)
    return {"owner": found.st_uid, "group": found.st_gid, "mode": stat.S_IMODE(found.st_mode)}


def info(paths: Paths, name: str, *, usage: bool = False) -> dict[str, Any]:
    """What is declared, where it is, and who uses it; ``usage`` counts its bytes, which takes a walk."""
    spec = store.read_spec(paths, KIND, name)
    if spec is None:
        raise NotFoundError("volume", name)
    volume, driver = to_model(paths, name, spec), _DRIVERS[spec["driver"]]
    present = not any(item.what in ("directory", "tmpfs") for item in driver.differences(volume))
    counted = {"usage": driver.usage(volume) if present else 0} if usage else {}
    return {
        "name": name,
        **_shown({**spec, **(_observed(driver.source(volume)) if present else {})}),
        "mountpoint": driver.source(volume),
        "present": present,
        "containers": users.of_volume(paths, name),
        **counted,
    }
