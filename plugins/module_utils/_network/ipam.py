# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses: which subnet a network gets that names none, and which address a container gets."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable

from .._errors import OptionError, VesselError
from .model import IPNetwork, Network

# Private addresses (RFC 1918) that neither docker, podman nor most offices use; 1,048,576 in 256 blocks.
POOL = ipaddress.IPv4Network("10.192.0.0/12")
BLOCK = 20


def free_subnet(taken: Iterable[str]) -> str:
    """A block of the pool that overlaps none of ``taken``."""
    used = [net for net in map(ipaddress.ip_network, taken) if net.version == 4 and net.prefixlen]
    for block in POOL.subnets(new_prefix=BLOCK):
        if not any(block.overlaps(net) for net in used):
            return str(block)
    raise VesselError(f"every /{BLOCK} of {POOL} overlaps a network or route of this host", hint="give a subnet")


def unique_local_subnet(name: str) -> str:
    """An IPv6 /64 that follows from the network's name (RFC 4193 wants 40 random bits; a digest serves)."""
    digest = hashlib.sha256(name.encode()).digest()
    return str(ipaddress.IPv6Network((b"\xfd" + digest[:5] + bytes(10), 64)))


def first_address(subnet: str) -> str:
    """The gateway where none is named."""
    return str(ipaddress.ip_network(subnet).network_address + 1)


def with_ipv4(subnet6: str, address: str) -> str:
    """The IPv6 address whose last 32 bits are an IPv4 address: hosts that give IPv4 addresses from parts of their own
    need no word on IPv6."""
    network = ipaddress.IPv6Network(subnet6)
    return str(network.network_address + int(ipaddress.IPv4Address(address)))


class Taken(set[str]):
    """Addresses of a network that somebody has. It remembers up to where they are without a gap, for each pool."""

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        super().__init__(addresses)
        self.full: dict[str, int] = {}

    def discard(self, address: object) -> None:
        super().discard(str(address))
        self.full.clear()

    def remove(self, address: str) -> None:
        super().remove(address)
        self.full.clear()


def allocate(subnet: str, ip_range: str, gateway: str, taken: Collection[str], network: str) -> str:
    """The lowest address that nobody has, as ADDRESS/LENGTH. ``taken`` is a set, for there may be thousands."""
    whole = ipaddress.ip_network(subnet)
    pool = ipaddress.ip_network(ip_range or subnet)
    first, last = int(pool.network_address), int(pool.broadcast_address)
    make = ipaddress.IPv4Address if whole.version == 4 else ipaddress.IPv6Address
    reserved = {str(whole.network_address), gateway}
    if whole.version == 4:
        reserved.add(str(whole.broadcast_address))
    full = taken.full if isinstance(taken, Taken) else {}
    # The first address not tried yet lies behind as many as are taken, at the most.
    for number in range(full.get(str(pool), first), min(last, first + len(taken) + len(reserved)) + 1):
        address = str(make(number))
        if address not in taken and address not in reserved:
            full[str(pool)] = number
            return f"{address}/{whole.prefixlen}"
    raise VesselError(f"network {network} has no free address left in {pool}", hint="give it a larger subnet")


def check_overlap(option: str, subnet: str, networks: Iterable[Network], routes: Iterable[str]) -> None:
    """Raise OptionError when another network or a route of the host has part of the subnet already."""
    wanted = ipaddress.ip_network(subnet)
    for network in networks:
        for other in (network.subnet, network.subnet6):
            if other and _overlap(wanted, other):
                raise OptionError(option, subnet, f"overlaps {other} of the network {network.name}")
    for route in routes:
        if "/" in route and _overlap(wanted, route):
            raise OptionError(option, subnet, f"overlaps the route {route} of this host; choose another subnet")


def _overlap(wanted: IPNetwork, other: str) -> bool:
    network = ipaddress.ip_network(other, strict=False)
    return network.version == wanted.version and network.overlaps(wanted)


def mac_address(address: str) -> str:
    """A MAC that follows from an IP address: who gets an address that another had has that one's MAC too, so that no
    neighbour's ARP table is wrong. Locally administered, unicast; 02:42 as docker has it."""
    packed = ipaddress.ip_address(address.partition("/")[0]).packed
    tail = packed if len(packed) == 4 else hashlib.sha256(packed).digest()[:4]
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *tail))
