# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks: those of the model as a stack's option, and those of a service as a container's."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from ansible_collections.vessel.host.plugins.module_utils._options.container import BY_NAME
from ansible_collections.vessel.host.plugins.module_utils._options.network import OPTIONS

from .errors import NOTHING
from .merge import as_names
from .project import At, Project
from .values import is_true, texts

if TYPE_CHECKING:
    from .services import Replica

DEFAULT = "default"
_MTU = "com.docker.network.driver.mtu"
_BY_NAME = {option.name: option for option in OPTIONS}
_ADDRESSES = ("ipv4_address", "ipv6_address", "mac_address")


def on_default(replica: Replica) -> dict[str, Any]:
    return on(replica, [DEFAULT], replica.at.below("networks"))


def on(replica: Replica, value: Any, at: At) -> dict[str, Any]:
    """The networks of a container: that with the default route is the first."""
    entries = {name: how or {} for name, how in as_names(value).items()}
    if replica.body.get("network_mode") or not entries:
        return {}
    ordered = sorted(
        entries, key=lambda name: (-_weight(entries[name], "gw_priority"), -_weight(entries[name], "priority"), name)
    )
    found = [_one(replica, name, entries[name], at.below(name)) for name in ordered]
    if replica.body.get("mac_address"):
        found[0].setdefault("mac_address", replica.body["mac_address"])
    at.checked(BY_NAME["networks"], found)
    return {"networks": found}


def _weight(how: dict[str, Any], name: str) -> float:
    return float(how.get(name) or 0)


def _one(replica: Replica, name: str, how: dict[str, Any], at: At) -> dict[str, Any]:
    if name != DEFAULT:
        replica.project.declared("networks", name, at)
    for option in _ADDRESSES:
        if how.get(option) and replica.count > 1:
            raise at.below(option).error(how[option], f"is one address for {replica.count} replicas")
    aliases = dict.fromkeys([replica.service, *(how.get("aliases") or [])])
    return {
        "name": called(replica.project, name),
        "aliases": [alias for alias in aliases if alias != replica.name],
        **{option: how[option] for option in _ADDRESSES if how.get(option)},
    }


def called(project: Project, name: str) -> str:
    """A network's name on the host."""
    body = project.resources("networks").get(name) or {}
    return external_name(body, name) or body.get("name") or f"{project.name}_{name}"


def external_name(body: dict[str, Any], name: str) -> str:
    """Of what is not the stack's own; empty for what is."""
    external = body.get("external")
    if isinstance(external, dict):
        return str(external.get("name") or name)
    return str(body.get("name") or name) if is_true(external) else ""


def declared(project: Project) -> dict[str, dict[str, Any]]:
    """The networks that services are on, but for those that are somebody else's."""
    names: dict[str, None] = {}
    for body in project.services.values():
        if not body.get("network_mode"):
            names.update(dict.fromkeys(as_names(body.get("networks")) or [DEFAULT]))
    result = {}
    for name in names:
        at = project.at("networks", name)
        body = (project.declared("networks", name, at) if name in project.resources("networks") else None) or {}
        if not external_name(body, name):
            result[at.name(called(project, name))] = _options(body, at)
    return result


def _options(body: dict[str, Any], at: At) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, option in (("internal", "internal"), ("enable_ipv6", "ipv6")):
        if body.get(name) is not None:
            found[option] = is_true(body[name])
    if body.get("labels"):
        found["labels"] = texts(body["labels"])
    for name, value in (body.get("driver_opts") or {}).items():
        if name != _MTU:
            raise at.below("driver_opts", name).error(value, f"is an option of docker's driver; there is {_MTU}")
        found["mtu"] = at.below("driver_opts", name).checked(_BY_NAME["mtu"], value)
    for index, pool in enumerate((body.get("ipam") or {}).get("config") or []):
        for option, value in _pool(pool, at.below("ipam", "config", index)).items():
            if option in found:
                raise at.below("ipam", "config", index).error(
                    value, "is one more of its kind; a network has one of IPv4 and one of IPv6"
                )
            found[option] = value
    return found


def _pool(pool: dict[str, Any], at: At) -> dict[str, Any]:
    subnet = pool.get("subnet")
    if not subnet:
        raise at.error(NOTHING, "has no subnet")
    try:
        six = "6" if ipaddress.ip_network(subnet, strict=False).version == 6 else ""
    except ValueError:
        raise at.below("subnet").error(subnet, "is not a subnet such as 10.89.0.0/24") from None
    if six and pool.get("ip_range"):
        raise at.below("ip_range").error(pool["ip_range"], "can't be with IPv6")
    names = {"subnet": f"subnet{six}", "gateway": f"gateway{six}", "ip_range": "ip_range"}
    return {
        option: at.below(name).checked(_BY_NAME[option], pool[name]) for name, option in names.items() if pool.get(name)
    }
