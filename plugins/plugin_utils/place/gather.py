# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a play as placement takes them: from what host_info told of each, and from the inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError

from .read import parse_counts

INFO = "vessel_host"  # what host_info's result is registered as
# Variables of a host, and what they are of it.
VARIABLES = {
    "vessel_cpus": "cpus",
    "vessel_memory": "memory",
    "vessel_labels": "labels",
    "vessel_taints": "taints",
    "vessel_cordon": "cordon",
    "vessel_drain": "drain",
}
MARKS = {"drained": "drain", "cordoned": "cordon"}
# Devices that any number of containers can have at a time.
SHARED = ("/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/hwrng")


def hosts(names: Sequence[str], variables: Mapping[str, Mapping[str, Any]], *, facts: bool = True) -> dict[str, Any]:
    """The mapping ``hosts``; OptionError names those of whom nothing is known."""
    unknown = [name for name in names if not _capacity(variables[name])]
    if unknown:
        problem = f"have no result of host_info in the variable {INFO}"
        hint = f"run vessel.host.host_info with register: {INFO} on all hosts of the play before"
        raise OptionError("hosts", unknown, problem, hint=hint)
    return {name: host(name, variables[name], facts=facts) for name in names}


def _told(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    told = variables.get(INFO)
    inner = told.get("host") if isinstance(told, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _capacity(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _told(variables).get("capacity")
    # An engine of before placement tells less.
    return found if isinstance(found, Mapping) and "containers" in found else {}


def host(name: str, variables: Mapping[str, Any], *, facts: bool = True) -> dict[str, Any]:
    capacity = _capacity(variables)
    found: dict[str, Any] = {key: capacity[key] for key in ("cpus", "memory", "idle_cpus", "memory_available", "ports")}
    found["running"] = {
        other: {**body, "devices": dict.fromkeys(body["devices"], 1)} for other, body in capacity["containers"].items()
    }
    found["devices"] = {path: None if path in SHARED else 1 for path in capacity["devices"]}
    if variables.get("vessel_devices") is not None:
        found["devices"].update(parse_counts(variables["vessel_devices"], f"{name}: vessel_devices"))
    for variable, key in VARIABLES.items():
        if variables.get(variable) is not None:
            found[key] = variables[variable]
    # What the host was told by the module drain, and what its variables say: either is enough.
    for state, key in MARKS.items():
        if _told(variables).get("drain", {}).get("state") == state:
            found[key] = True
    found["groups"] = list(variables.get("group_names") or [])
    if facts:
        found["facts"] = variables.get("ansible_facts") or {}
    return found
