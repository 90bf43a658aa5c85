# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a resource: whether it is on the host as this collection has it, and what would make it so."""

from __future__ import annotations

import functools
import os

from .._converge import store
from .._converge.plan import Plan, Step
from .._errors import VesselError
from .._kernel.file import locked
from .._options.parse import choice
from .._options.record import Option
from .._paths import Paths, booted_by_systemd
from . import install, service

STATES = ("present", "absent")
OPTIONS = (Option("state", choice(*STATES), choices=STATES, default="present", shown_default="present"),)
# What keeps something in the kernel; images and volumes are files, and stay where they are.
_IN_THE_WAY = ("containers", "networks")


def plan(paths: Paths, state: str) -> Plan:
    return _present(paths) if state == "present" else _absent(paths)


def facts(paths: Paths) -> dict[str, str]:
    """Of the version that the command leads to; empty words when there is none."""
    command = f"{paths.bin}/{install.NAMES[0]}"
    directory = os.path.dirname(os.readlink(command)) if os.path.islink(command) else ""
    return {"version": os.path.basename(directory), "directory": directory}


def _present(paths: Paths) -> Plan:
    result, wanted = Plan(), install.version()
    before = facts(paths)["version"] or None
    if before != wanted or not _is_whole(paths):
        do = functools.partial(_install, paths)
        result.add(Step("engine", "install", do, before=before, after=wanted))
    if booted_by_systemd():
        for unit in service.lacking(paths):
            enable = functools.partial(service.install, paths)
            result.add(Step(f"unit {unit}", "write and enable", enable, after="as this version has it, enabled"))
    return result


def _is_whole(paths: Paths) -> bool:
    """Are the version's directory and both commands there?"""
    directory = f"{paths.libexec}/{install.version()}"
    links = (f"{paths.bin}/{name}" for name in install.NAMES)
    return os.path.isdir(directory) and all(
        os.path.islink(link) and os.readlink(link) == f"{directory}/vessel" for link in links
    )


def _install(paths: Paths) -> None:
    """A supervisor of another version that runs is replaced; where none runs, none is started: nothing needs it yet."""
    install.refresh(paths)
    with locked(f"{paths.run}/locks/engine"):
        install.install(paths)


def _absent(paths: Paths) -> Plan:
    for kind in _IN_THE_WAY:
        names = store.names(paths, kind)
        if names:
            shown = ", ".join(sorted(names)[:5]) + (" …" if len(names) > 5 else "")
            raise VesselError(f"remove the engine: there are {kind} on this host: {shown}", hint="remove them first")
    result, before = Plan(), facts(paths)["version"] or None
    units = booted_by_systemd() and any(os.path.lexists(f"{service.DIRECTORY}/{unit}") for unit in service.names(paths))
    if before or os.path.isdir(paths.libexec) or units:
        result.add(Step("engine", "remove", functools.partial(install.remove, paths), before=before))
    return result
