# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a network across hosts, the same on each of them: which part is a host's own, it finds itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from .._errors import OptionError
from .._network import model, vxlan
from .._network.dump import Link
from .._network.observe import Snapshot
from .parse import integer, parse_word
from .record import Cost, Option, parse_options

VNI_MAX = (1 << 24) - 1
PORT = 4789  # RFC 7348
PREFIX6_MAX = 96
_LINK_MAX = 15

Spec = Mapping[str, Any]


def parse_underlay(value: Any, option: str) -> str:
    """An address that another host can send to."""
    text = parse_word(value, option)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise OptionError(option, text, "is not an IP address; give the host's own, not its name") from None
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_link_local:
        raise OptionError(option, text, "is no address that other hosts can send to")
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped:  # the kernel tells it in other digits, too, and each run would mend it
        raise OptionError(option, text, f"is an IPv4 address in the words of IPv6; use {mapped}")
    return str(address)


def parse_device(value: Any, option: str) -> str:
    text = parse_word(value, option)
    if len(text) > _LINK_MAX or "/" in text or any(letter.isspace() for letter in text):
        raise OptionError(option, text, "is not a name of a link")
    return text


def parse_range(value: Any, option: str) -> str:
    text = model.parse_subnet(parse_word(value, option), option)
    if ":" in text:
        raise OptionError(option, text, "is not a part of an IPv4 subnet; IPv6 addresses follow from the IPv4 ones")
    return text


_PEER = (
    Option("address", parse_underlay, required=True),
    Option("ip_range", parse_range, default=""),
)


def parse_peers(value: Any, option: str) -> dict[str, dict[str, str]]:
    """A list of addresses, or a mapping of hosts: the address, or address and ip_range."""
    if isinstance(value, (list, tuple)):
        value = {str(address): address for address in value}
    if not isinstance(value, dict):
        raise OptionError(option, value, "is neither a list of addresses nor a mapping host: address")
    result = {}
    for name, body in sorted(value.items(), key=lambda item: str(item[0])):
        where = f"{option}.{name}"
        given = body if isinstance(body, dict) else {"address": body}
        peer = parse_options(_PEER, given, where)
        result[str(name)] = {"address": peer["address"], "ip_range": peer.get("ip_range", "")}
    _check_peers(result, option)
    return result


def _check_peers(peers: dict[str, dict[str, str]], option: str) -> None:
    owners: dict[str, str] = {}
    for name, peer in peers.items():
        other = owners.setdefault(peer["address"], name)
        if other != name:
            raise OptionError(f"{option}.{name}.address", peer["address"], f"is the address of {other} too")
    parts = [(name, ipaddress.IPv4Network(peer["ip_range"])) for name, peer in peers.items() if peer["ip_range"]]
    parts.sort(key=lambda part: part[1])
    for (one, first), (other, second) in zip(parts, parts[1:]):
        if first.overlaps(second):
            problem = f"overlaps {first} of {one}; two containers could get the same address"
            raise OptionError(f"{option}.{other}.ip_range", str(second), problem)


OPTIONS: tuple[Option, ...] = (
    Option("vni", integer(1, VNI_MAX), "int", cost=Cost.live),
    Option("peers", parse_peers, "raw", default={}, cost=Cost.live),
    Option("port", integer(1, 65535), "int", cost=Cost.live),
    Option("local", parse_underlay, cost=Cost.live),
    Option("device", parse_device, cost=Cost.live),
)


def refuse(given: Spec) -> None:
    """Of another driver's network."""
    for option in OPTIONS:
        if given.get(option.name):
            raise OptionError(option.name, given[option.name], "is for the driver vxlan alone; set driver: vxlan")


def complete(given: Spec, stored: Spec, kept: Spec, seen: Snapshot) -> dict[str, Any]:
    """All that is otherwise than on a network of one host. ``kept`` is what of ``stored`` counts where nothing is
    given."""
    spec: dict[str, Any] = {option.name: given.get(option.name, kept.get(option.name)) for option in OPTIONS}
    spec["peers"], spec["port"], spec["device"] = spec["peers"] or {}, spec["port"] or PORT, spec["device"] or ""
    spec["subnet"] = given.get("subnet") or stored.get("subnet")
    for option, why in (("vni", "it tells the network from others"), ("subnet", "all hosts have the same")):
        if not spec[option]:
            raise OptionError(option, None, f"is missing; a network of the driver vxlan needs it: {why}")
    spec["local"] = str(given.get("local") or _local(stored, kept, spec["peers"], seen))
    for name, peer in spec["peers"].items():
        if (":" in peer["address"]) != (":" in spec["local"]):
            problem = f"is not of the same kind as this host's own address, {spec['local']}; use one kind for all"
            raise OptionError(f"peers.{name}.address", peer["address"], problem)
    spec["ip_range"] = _range(given, kept, spec)
    below = _below(spec, seen)
    spec["mtu"] = _mtu(given, stored, kept, spec["local"], below)
    return spec


def _local(stored: Spec, kept: Spec, peers: dict[str, dict[str, str]], seen: Snapshot) -> str:
    """This host's address among those of the hosts. At boot it may not be there yet, so what was found is kept."""
    addresses = [peer["address"] for peer in peers.values()]
    before = str(kept.get("local") or "")
    if before and (before in addresses or seen.having(before)):
        return before
    found = [address for address in addresses if seen.having(address)]
    if len(found) > 1:
        raise OptionError("local", None, f"is missing: this host has {' and '.join(found)} of peers; say which")
    if found or stored.get("local"):
        return found[0] if found else str(stored["local"])
    hint = "name this host among peers as well, or set local to the address that the others reach it at"
    raise OptionError("local", None, "is missing: none of the addresses of peers is this host's", hint=hint)


def _range(given: Spec, kept: Spec, spec: Spec) -> str:
    """This host's part of the subnet; each peer's must be in the subnet as well."""
    for name, peer in spec["peers"].items():
        if peer["ip_range"]:
            model.parse_ip_range(peer["ip_range"], spec["subnet"], f"peers.{name}.ip_range")
    own = next((peer["ip_range"] for peer in spec["peers"].values() if peer["address"] == spec["local"]), "")
    part = given.get("ip_range") or own or kept.get("ip_range")
    if not part:
        hint = "give each of peers its ip_range, or set ip_range on each host"
        problem = f"is missing: which part of {spec['subnet']} is this host's own"
        raise OptionError("ip_range", None, problem, hint=hint)
    part = model.parse_ip_range(part, spec["subnet"], "ip_range")
    if own and not ipaddress.IPv4Network(part).subnet_of(ipaddress.IPv4Network(own)):
        problem = f"is not in {own}, which peers say of this host, and as which the others know it; leave it out"
        raise OptionError("ip_range", part, problem)
    for name, theirs in _others(spec):
        if theirs.overlaps(ipaddress.IPv4Network(part)):
            raise OptionError("ip_range", part, f"overlaps {theirs}, the part of {name}")
    return part


def warnings(name: str, spec: Spec, seen: Snapshot) -> list[str]:
    """An address may come later, as those do that hosts hand on to one another; until then nobody is reached."""
    if spec["driver"] != "vxlan" or seen.having(spec["local"]):
        return []
    return [f"network {name}: local: no link of this host has {spec['local']}, and so the other hosts are not reached"]


def check_gateway(spec: Spec) -> None:
    """An address of another host's part is that host's to give: it has its own gateway there."""
    for name, theirs in _others(spec):
        if ipaddress.IPv4Address(spec["gateway"]) in theirs:
            problem = f"is in {theirs}, the part of {name}; leave it out, or take one of {spec['ip_range']}"
            raise OptionError("gateway", spec["gateway"], problem)


def _others(spec: Spec) -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    """The parts of the other hosts, as far as they are told."""
    for name, peer in spec["peers"].items():
        if peer["ip_range"] and peer["address"] != spec["local"]:
            yield name, ipaddress.IPv4Network(peer["ip_range"])


def _below(spec: Spec, seen: Snapshot) -> Optional[Link]:
    """The link that the packets between hosts go out by, as far as that is known."""
    if not spec["device"]:
        return seen.having(spec["local"])
    if spec["device"] not in seen.links:
        raise OptionError("device", spec["device"], "is no link of this host")
    return seen.links[spec["device"]]


def _mtu(given: Spec, stored: Spec, kept: Spec, local: str, below: Optional[Link]) -> int:
    """What is given, if it fits; else what fits."""
    less = vxlan.overhead(local)
    if below is None:
        return int(given.get("mtu") or stored.get("mtu") or 1500 - less)
    fits = below.mtu - less
    if given.get("mtu"):
        if given["mtu"] > fits:
            problem = f"does not fit into {below.name}, whose MTU is {below.mtu}: VXLAN adds {less} bytes"
            raise OptionError("mtu", given["mtu"], f"{problem}; use {fits} or less, or leave it out")
        return int(given["mtu"])
    return min(int(kept.get("mtu") or fits), fits)


def check_alone(name: str, spec: Spec, rest: Iterable[model.Network]) -> None:
    """Raise OptionError when another network of this host has the vni already."""
    for network in rest:
        if spec["driver"] == "vxlan" and network.across and (network.vni, network.port) == (spec["vni"], spec["port"]):
            raise OptionError("vni", spec["vni"], f"is that of the network {network.name}; choose another")


def others(spec: Spec) -> tuple[str, ...]:
    """Addresses of the peers that are not this host."""
    found = {peer["address"] for peer in spec["peers"].values()}
    return tuple(sorted(found - {spec["local"]}))
