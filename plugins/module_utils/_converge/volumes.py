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
from .._paths import Paths
from .._volume import directory, tmpfs
from .._volume.model import Volume
from . import store, users
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
        driver.ensure(volume)

    def undo() -> None:
        store.write_spec(paths, KIND, name, stored)
        driver.ensure(to_model(paths, name, stored))

    if result.steps:
        # The first step does it all in one go; the others say what it comes to.
        result.steps[0].do, result.steps[0].undo = do, undo
    return result


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
