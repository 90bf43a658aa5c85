# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: data that outlives its containers. Nothing but ``state: absent`` on the volume itself removes it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any, Optional

from .._errors import InUseError, NotFoundError, OptionError, StateError, VesselError
from .._kernel import mount as m
from .._kernel.errand import bounded
from .._monitor import lease as leases
from .._options.container import volume_parts
from .._options.volume import DEFAULT_LEASE, ONE_WRITER, OPTIONS
from .._paths import Paths
from .._rootfs import ops
from .._rootfs import options as mount_options
from .._volume import directory, filesystem, loop, mount, tmpfs
from .._volume.model import Volume
from . import running, store, users, volume_checks
from .inside import copy_of_mount, mount_at
from .plan import Plan, Step

KIND = "volumes"
_DRIVERS: dict[str, ModuleType] = {"directory": directory, "tmpfs": tmpfs, "loop": loop, "mount": mount}


def to_model(paths: Paths, name: str, spec: dict[str, Any]) -> Volume:
    """A stored spec as the volume room takes it."""
    home = paths.resource(KIND, name)
    return Volume(
        name,
        home,
        spec["driver"],
        spec["owner"],
        spec["group"],
        spec["mode"],
        spec["size"],
        spec.get("device") or "",
        spec.get("fstype") or "",
        tuple(spec.get("options") or ()),
        bool(spec.get("preallocate")),
    )


def source(paths: Paths, name: str) -> str:
    """The directory that is bound into containers."""
    spec = store.read_spec(paths, KIND, name)
    if spec is None:
        raise NotFoundError("volume", name, hint="declare it with vessel.host.volume first")
    return str(_DRIVERS[spec["driver"]].source(to_model(paths, name, spec)))


def is_elsewhere(paths: Paths, name: str) -> bool:
    """May there be a server behind it that is gone, for whose answer the kernel would wait?"""
    return (store.read_spec(paths, KIND, name) or {}).get("driver") == "mount"


def mounts(paths: Paths, name: str) -> dict[str, str]:
    """What has to be mounted before the volume may be used: path: type of the file system, empty for any."""
    spec = store.read_spec(paths, KIND, name)
    fstype = _DRIVERS[spec["driver"]].mounted_type(to_model(paths, name, spec)) if spec else None
    return {} if fstype is None else {source(paths, name): fstype}


def has_one_writer(spec: Mapping[str, Any]) -> bool:
    return spec.get("sharing") == ONE_WRITER


def lease(paths: Paths, name: str) -> dict[str, Any]:
    """What a container needs to write to it, as monitor.json has it; empty for a volume that all may write to."""
    spec = store.read_spec(paths, KIND, name) or {}
    if not has_one_writer(spec):
        return {}
    return {"volume": name, "duration": spec["lease_duration"]}


def _is_mounted(path: str, fstype: str) -> bool:
    found = m.mounted(path)
    return bool(found) and fstype in ("", found)


def lost(paths: Paths, name: str) -> Plan:
    """What mounts the volume again: after a reboot, or when somebody has unmounted it."""
    if all(_is_mounted(path, fstype) for path, fstype in mounts(paths, name).items()):
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
    if not has_one_writer(spec) and "lease_duration" not in desired:
        spec["lease_duration"] = DEFAULT_LEASE  # there are none any more
    volume_checks.check(spec, stored)
    result = _creation(paths, name, spec) if stored is None else _change(paths, name, stored, spec)
    if desired.get("break_lease"):
        result.extend(_broken_lease(paths, name, spec))
    return result


def _check_room(volume: Volume) -> None:
    """The kernel makes none smaller than what is in it."""
    used = tmpfs.usage(volume) if m.mounted(tmpfs.source(volume)) == tmpfs.FSTYPE else 0
    if volume.size and volume.size < used:
        raise OptionError("size", volume.size, f"is less than what is in it, {used} bytes; remove some of that first")


def _check_disk(volume: Volume) -> None:
    lacking = loop.lacking(volume) if volume.driver == "loop" else 0
    if lacking:
        problem = f"is {lacking} bytes more than the host's disk has room for, and preallocate: true takes all of it"
        raise OptionError("size", volume.size, problem, hint="make room, or let the file be sparse: preallocate: false")


def _creation(paths: Paths, name: str, spec: dict[str, Any]) -> Plan:
    volume = to_model(paths, name, spec)
    _check_disk(volume)
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
    changed = [one.name for one in OPTIONS if not one.same(spec[one.name], stored.get(one.name, one.default))]
    before, after = _shown(stored), _shown(spec)
    if spec["driver"] == "tmpfs" and "size" in changed:
        _check_room(volume)
    if {"size", "preallocate"} & {*changed, *drifts}:
        _check_disk(volume)
    if "options" in changed:
        _check_dropped(paths, name, stored, spec)
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
        if spec["driver"] == "tmpfs":
            _regain(paths, name)
        _apply(paths, volume, driver, changed)

    def undo() -> None:
        store.write_spec(paths, KIND, name, stored)
        _apply(paths, to_model(paths, name, stored), driver, changed)

    if result.steps:
        # The first step does it all in one go; the others say what it comes to.
        result.steps[0].do, result.steps[0].undo = do, undo
    return result


def _apply(paths: Paths, volume: Volume, driver: ModuleType, changed: list[str]) -> None:
    """Other options are another mount where nobody has the old one, else what a remount makes of it."""
    if "options" in changed and m.mounted(driver.source(volume)):
        if _runners(paths, volume.name):
            driver.remount(volume)
        else:
            filesystem.unmount(volume)
    driver.ensure(volume)


def _runners(paths: Paths, name: str) -> list[str]:
    """The containers that run with the volume."""
    return [container for container in users.of_volume(paths, name) if running.status(paths, container).get("pid")]


def _check_dropped(paths: Paths, name: str, stored: dict[str, Any], spec: dict[str, Any]) -> None:
    """A remount sets what it is told and leaves the rest: what the file system was told once, it keeps."""
    before, after = (mount_options.parse(body.get("options") or ()).data.split(",") for body in (stored, spec))
    dropped = [word for word in before if word and word not in after]
    runners = _runners(paths, name) if dropped else []
    if runners:
        problem = f"leaves out {', '.join(dropped)}, which a file system that is mounted keeps"
        raise OptionError("options", ",".join(spec["options"]), problem, hint=f"stop {', '.join(runners)} first")


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


def _seen_lease(paths: Paths, name: str) -> Optional[leases.Seen]:
    """The lease that somebody has, as the storage has it."""
    top = source(paths, name)
    found = bounded(lambda: leases.look(top), filesystem.LOOK, f"look at the lease of volume {name} at", top)
    seen = leases.Seen(*found) if found else None
    return None if seen is None or seen.released else seen


def _broken_lease(paths: Paths, name: str, spec: dict[str, Any]) -> Plan:
    """Whoever has it is named where the storage can be asked yet; else it is when the volume is there."""
    if not has_one_writer(spec):
        return Plan()
    there = all(_is_mounted(path, fstype) for path, fstype in mounts(paths, name).items())
    seen = _seen_lease(paths, name) if there and store.read_spec(paths, KIND, name) else None
    if there and seen is None and store.read_spec(paths, KIND, name):
        return Plan()
    before = _holder(seen) if seen else None
    do = partial(_break_lease, paths, name)
    return Plan([Step(f"volume {name}", "break the lease", do, option="lease", before=before, hidden=seen is None)])


def _break_lease(paths: Paths, name: str) -> None:
    seen, top = _seen_lease(paths, name), source(paths, name)
    if seen is None:
        return
    record = {"nonce": leases.nonce(), "host": socket.gethostname(), "container": "", "duration": seen.duration}
    ask = f"break the lease of volume {name} at"
    if not bounded(lambda: leases.revoke(top, seen.number, record), filesystem.LOOK, ask, top):
        hint = "volume_info says which"
        raise StateError(f"volume {name}: another container took its lease meanwhile", hint=hint)


def _holder(seen: leases.Seen) -> dict[str, Any]:
    return {key: seen.record.get(key) for key in ("host", "container", "since", "duration")}


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


def _observed(volume: Volume, driver: ModuleType) -> dict[str, int]:
    """Owner and mode as they are: where none is declared, the container may have given it to a user of its own."""
    path = driver.source(volume)
    ask = f"look at volume {volume.name} at"
    uid, gid, mode = bounded(lambda: _stat(path), filesystem.LOOK, ask, path) if volume.device else _stat(path)
    return {"owner": uid, "group": gid, "mode": mode}


def _stat(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)]


def freed(paths: Paths, name: str) -> int:
    """Bytes that its removal gives back to this host."""
    spec = store.read_spec(paths, KIND, name) or {}
    volume = to_model(paths, name, spec)
    if spec["driver"] == "mount":
        return 0  # what is on it stays
    if spec["driver"] == "loop":
        return loop.on_disk(volume)
    return int(info(paths, name, usage=True)["usage"])


def info(paths: Paths, name: str, *, usage: bool = False) -> dict[str, Any]:
    """What is declared, where it is, and who uses it; ``usage`` counts its bytes, which takes a walk."""
    spec = store.read_spec(paths, KIND, name)
    if spec is None:
        raise NotFoundError("volume", name)
    volume, driver = to_model(paths, name, spec), _DRIVERS[spec["driver"]]
    facts: dict[str, Any] = {"present": False, "problem": None, "lease": None, **({"usage": 0} if usage else {})}
    try:
        facts["present"] = not any(item.what == spec["driver"] for item in driver.differences(volume))
        if facts["present"]:
            facts.update(_observed(volume, driver), **({"usage": driver.usage(volume)} if usage else {}))
            seen = _seen_lease(paths, name) if has_one_writer(spec) else None
            facts["lease"] = _holder(seen) if seen else None
    except (VesselError, OSError) as error:
        facts.update(present=False, problem=str(error))  # a dead server keeps nobody from hearing of the others
    declared = {option.name: spec.get(option.name, option.default) for option in OPTIONS}
    return {
        "name": name,
        **_shown({**declared, **facts}),
        "mountpoint": driver.source(volume),
        "containers": users.of_volume(paths, name),
    }
