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
from .._paths import Paths
from .options import Option, flag
from .parse import Parser, choice, integer, mapping, parse_bool, parse_name, parse_str, parse_word
from .plan import Cost

STATES = ("present", "absent")
DRIVERS = ("bridge",)
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
    Option("labels", mapping(parse_str), "dict", default={}, cost=Cost.live),
)
DIRECTIVES: tuple[Option, ...] = (
    Option("name", parse_name, required=True),
    Option("state", choice(*STATES), choices=STATES, default="present", shown_default="present"),
    Option("force", parse_bool, "bool", default=False, shown_default=False),
)

Spec = Mapping[str, Any]


def complete(given: Spec, stored: Spec | None, *, name: str, tag: str, taken: list[str], whole: bool) -> dict[str, Any]:
    """The whole spec: what is given, else what is stored, else the default.

    A subnet that was chosen for the network stays with it. ``taken`` are subnets that a new one must not overlap.
    """
    stored = stored or {}
    kept = {} if whole else dict(stored)
    spec = {option.name: given.get(option.name, kept.get(option.name, option.default)) for option in OPTIONS}
    spec["subnet"] = given.get("subnet") or stored.get("subnet") or ipam.free_subnet(taken)
    spec["gateway"] = _gateway(given.get("gateway"), kept.get("gateway"), spec["subnet"], "gateway")
    spec["ip_range"] = _range(given.get("ip_range"), spec["ip_range"], spec["subnet"])
    spec.update(_ipv6(given, stored, kept, f"{tag}/{name}"))
    if spec["ipv6"] and spec["mtu"] < MTU6_MIN:
        raise OptionError("mtu", spec["mtu"], f"is too small for IPv6; use {MTU6_MIN} or more")
    return spec


def _gateway(given: str | None, kept: str | None, subnet: str, option: str) -> str:
    if given:
        return model.parse_member(given, subnet, option)
    # One that was named for another subnet says nothing of this one.
    if kept and ipaddress.ip_address(kept) in ipaddress.ip_network(subnet):
        return kept
    return ipam.first_address(subnet)


def _range(given: str | None, kept: str, subnet: str) -> str:
    if given:
        return model.parse_ip_range(given, subnet, "ip_range")
    inside = kept and ipaddress.IPv4Network(kept).subnet_of(ipaddress.IPv4Network(subnet))
    return kept if inside else ""


def _ipv6(given: Spec, stored: Spec, kept: Spec, seed: str) -> dict[str, Any]:
    named = [option for option in ("subnet6", "gateway6") if given.get(option)]
    wanted = given.get("ipv6", True if named else kept.get("ipv6", False))
    if not wanted:
        if named:
            raise OptionError(named[0], given[named[0]], "needs ipv6: true, and the task says false")
        return {"ipv6": False, "subnet6": "", "gateway6": ""}
    subnet = given.get("subnet6") or stored.get("subnet6") or ipam.unique_local_subnet(seed)
    return {
        "ipv6": True,
        "subnet6": subnet,
        "gateway6": _gateway(given.get("gateway6"), kept.get("gateway6"), subnet, "gateway6"),
    }


def to_model(paths: Paths, name: str, spec: Spec) -> model.Network:
    """A stored spec as the network room takes it."""
    keys = ("driver", "subnet", "gateway", "ip_range", "subnet6", "gateway6", "internal", "mtu", "isolate")
    return model.Network(name, paths.link("br", name), **{key: spec[key] for key in keys})
