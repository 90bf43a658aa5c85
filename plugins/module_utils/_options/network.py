# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a network, one record each, and what follows from those that were left out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from .._errors import OptionError
from .._network import ipam, model
from .._network.observe import Snapshot
from .._paths import Paths
from . import vxlan
from .allow import ALLOW, parse_allow, parse_names, to_allow, to_names
from .parse import Parser, choice, integer, mapping, parse_bool, parse_name, parse_str, parse_word
from .record import Cost, Option, flag

STATES = ("present", "absent")
DRIVERS = ("bridge", "vxlan")
# The least that a host must take (RFC 791, RFC 8200), and the most that a bridge takes.
MTU_MIN, MTU6_MIN, MTU_MAX = 68, 1280, 65535


def subnet_of(version: int) -> Parser:
    def parse(value: Any, option: str) -> str:
        text = model.parse_subnet(parse_word(value, option), option)
        if ipaddress.ip_network(text).version != version:
            other = "subnet" if version == 6 else "subnet6"
            raise OptionError(option, text, f"is not an IPv{version} subnet; give it as {other}")
        return text

    return parse


def parse_ip(value: Any, option: str) -> str:
    text = parse_word(value, option)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise OptionError(option, text, "is not an IP address") from None


OPTIONS: tuple[Option, ...] = (
    Option("driver", choice(*DRIVERS), choices=DRIVERS, default="bridge", cost=Cost.live),
    Option("subnet", subnet_of(4), cost=Cost.live),
    Option("gateway", parse_ip, cost=Cost.live),
    Option("ip_range", subnet_of(4), default="", cost=Cost.live),
    flag("ipv6", cost=Cost.live),
    Option("subnet6", subnet_of(6), cost=Cost.live),
    Option("gateway6", parse_ip, cost=Cost.live),
    flag("internal", cost=Cost.live),
    flag("isolate", cost=Cost.live),
    Option("mtu", integer(MTU_MIN, MTU_MAX), "int", default=1500, cost=Cost.live),
    *vxlan.OPTIONS,
    Option("names", parse_names, "dict", default={}, cost=Cost.live),
    Option("allow", parse_allow, "list", elements="dict", options=ALLOW, cost=Cost.live),
    Option("labels", mapping(parse_str), "dict", default={}, cost=Cost.live),
)
DIRECTIVES: tuple[Option, ...] = (
    Option("name", parse_name, required=True),
    Option("state", choice(*STATES), choices=STATES, default="present", shown_default="present"),
    Option("force", parse_bool, "bool", default=False, shown_default=False),
)

Spec = Mapping[str, Any]


def complete(
    given: Spec, stored: Spec | None, *, name: str, tag: str, taken: list[str], whole: bool, seen: Snapshot
) -> dict[str, Any]:
    """The whole spec: what is given, else what is stored, else the default.

    A subnet that was chosen for the network stays with it. ``taken`` are subnets that a new one must not overlap, and
    ``seen`` is what the host has.
    """
    stored = stored or {}
    kept = {} if whole else dict(stored)
    spec = {option.name: given.get(option.name, kept.get(option.name, option.default)) for option in OPTIONS}
    across = spec["driver"] == "vxlan"
    if across:
        spec.update(vxlan.complete(given, stored, kept, seen))
    else:
        vxlan.refuse(given)
        spec.update({option.name: option.default for option in vxlan.OPTIONS})
        spec["subnet"] = given.get("subnet") or stored.get("subnet") or ipam.free_subnet(taken)
        spec["ip_range"] = _range(given.get("ip_range"), spec["ip_range"], spec["subnet"])
    # Each host of a network across hosts has its gateway in its own part.
    home = spec["ip_range"] if across else spec["subnet"]
    spec["gateway"] = _gateway(given.get("gateway"), kept.get("gateway"), spec["subnet"], "gateway", home)
    if across:
        vxlan.check_gateway(spec)
    spec.update(_ipv6(given, stored, kept, f"{tag}/{name}", spec["gateway"] if across else ""))
    if spec["ipv6"] and spec["mtu"] < MTU6_MIN:
        raise OptionError("mtu", spec["mtu"], f"is too small for IPv6; use {MTU6_MIN} or more")
    return spec


def _gateway(given: str | None, kept: str | None, subnet: str, option: str, home: str) -> str:
    """``home`` is where it is when nobody says."""
    if given:
        return model.parse_member(given, subnet, option)
    # One that was named for another subnet says nothing of this one.
    if kept and ipaddress.ip_address(kept) in ipaddress.ip_network(home):
        return kept
    return ipam.first_address(home)


def _range(given: str | None, kept: str, subnet: str) -> str:
    if given:
        return model.parse_ip_range(given, subnet, "ip_range")
    inside = kept and ipaddress.IPv4Network(kept).subnet_of(ipaddress.IPv4Network(subnet))
    return kept if inside else ""


def _ipv6(given: Spec, stored: Spec, kept: Spec, seed: str, gateway: str) -> dict[str, Any]:
    """``gateway`` is the IPv4 one of a network across hosts: its IPv6 addresses end in the IPv4 addresses."""
    named = [option for option in ("subnet6", "gateway6") if given.get(option)]
    wanted = given.get("ipv6", True if named else kept.get("ipv6", False))
    if not wanted:
        if named:
            raise OptionError(named[0], given[named[0]], "needs ipv6: true, and the task says false")
        return {"ipv6": False, "subnet6": "", "gateway6": ""}
    subnet = given.get("subnet6") or stored.get("subnet6") or ipam.unique_local_subnet(seed)
    gateway6 = given.get("gateway6")
    if not gateway:
        gateway6 = _gateway(gateway6, kept.get("gateway6"), subnet, "gateway6", subnet)
    elif ipaddress.ip_network(subnet).prefixlen > vxlan.PREFIX6_MAX:
        problem = "is too small: each address of the network across hosts ends in the IPv4 address"
        raise OptionError("subnet6", subnet, f"{problem}; use a /{vxlan.PREFIX6_MAX} or larger")
    elif gateway6:
        gateway6 = model.parse_member(gateway6, subnet, "gateway6")
    else:
        gateway6 = ipam.with_ipv4(subnet, gateway)
    return {"ipv6": True, "subnet6": subnet, "gateway6": gateway6}


def to_model(paths: Paths, name: str, spec: Spec) -> model.Network:
    """A stored spec as the network room takes it."""
    keys = ("driver", "subnet", "gateway", "ip_range", "subnet6", "gateway6", "internal", "mtu", "isolate")
    more: dict[str, Any] = {"names": to_names(spec.get("names") or {}), "allow": to_allow(spec.get("allow"))}
    if spec["driver"] == "vxlan":
        more.update({key: spec[key] for key in ("vni", "port", "local", "device")})
        more["peers"] = vxlan.others(spec)
    return model.Network(name, paths.link("br", name), **{key: spec[key] for key in keys}, **more)
