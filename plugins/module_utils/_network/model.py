# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks, endpoints and ports as values, and the words in which options name them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Optional, Union

from .._errors import OptionError

IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

PROTOCOLS = ("tcp", "udp", "sctp")
_PORT = re.compile(
    r"^(?:(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9.]+):)?(?P<host>\d+(?:-\d+)?)?:)?(?P<inside>\d+(?:-\d+)?)(?:/(?P<proto>\w+))?$"
)
# A range is taken apart into ports; more than this is a mistake rather than a wish.
_RANGE_MAX = 1024


@dataclass(frozen=True)
class Name:
    """What is on a network and no container of this host."""

    name: str
    addresses: tuple[str, ...]
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class End:
    """Who may talk, or be talked to: names, addresses or subnets, any of which; or labels, all of which. Both empty:
    anybody."""

    names: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Allow:
    """``ports`` are (first, last), none for all; ``protocols`` are tcp, udp, sctp and icmp, which is echo."""

    source: End
    target: End
    protocols: tuple[str, ...]
    ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Network:
    """A declared network; addresses as text, empty where there are none."""

    name: str
    link: str  # the bridge's name in the kernel
    driver: str = "bridge"
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    mtu: int = 1500
    isolate: bool = False
    vni: int = 0
    port: int = 0  # UDP port of the driver vxlan
    local: str = ""
    device: str = ""
    peers: tuple[str, ...] = ()  # addresses of the other hosts
    names: tuple[Name, ...] = ()
    allow: Optional[tuple[Allow, ...]] = None  # None: nobody asks who talks to whom

    @property
    def across(self) -> bool:
        """Is it a network of several hosts?"""
        return self.driver == "vxlan"

    @property
    def tunnel(self) -> str:
        """Name of the link to the other hosts, where there is one."""
        return self.link.replace("br", "vx", 1)

    def addresses(self) -> list[str]:
        """What the bridge itself has, as ADDRESS/LENGTH."""
        pairs = ((self.gateway, self.subnet), (self.gateway6, self.subnet6))
        return [f"{gateway}/{subnet.partition('/')[2]}" for gateway, subnet in pairs if gateway]


@dataclass(frozen=True)
class Endpoint:
    """A container on a network: a link inside, its peer on the host, its addresses as ADDRESS/LENGTH."""

    container: str
    network: str
    ifname: str
    peer: str
    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()

    def addresses(self) -> list[str]:
        return [address for address in (self.ipv4, self.ipv6) if address]


@dataclass(frozen=True)
class Port:
    """A published port; ``host_port`` 0 is one that is yet to be chosen."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        ip = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip
        return f"{ip}:{self.host_port or ''}:{self.container_port}/{self.protocol}"

    @property
    def key(self) -> tuple[str, int]:
        return self.protocol, self.host_port

    def overlaps(self, other: Port) -> bool:
        """Can both not be on one host?"""
        wild = ("0.0.0.0", "::")
        same_ip = self.host_ip == other.host_ip or self.host_ip in wild or other.host_ip in wild
        return self.key == other.key and self.host_port != 0 and same_ip


def parse_port(text: str, option: str) -> list[Port]:
    """Docker's forms: PORT, HOST:PORT, IP:HOST:PORT, ranges on both sides, each with /PROTOCOL."""
    match = _PORT.match(text)
    if not match:
        raise OptionError(option, text, "is not a port", hint="write [[IP:]HOST_PORT:]CONTAINER_PORT[/PROTOCOL]")
    protocol = (match["proto"] or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise OptionError(option, text, f"has the protocol {protocol}; use {', '.join(PROTOCOLS)}")
    ip = _host_ip(match["ip"] or "0.0.0.0", text, option)
    if ip == "::1":
        hint = "the kernel lets nothing from elsewhere answer there"
        raise OptionError(option, text, "can't be published on ::1; use 127.0.0.1", hint=hint)
    inside = _range(match["inside"], text, option)
    host = _range(match["host"], text, option) if match["host"] else [0] * len(inside)
    if len(host) != len(inside):
        raise OptionError(option, text, "has ranges of different lengths")
    return [Port(ip, outer, inner, protocol) for outer, inner in zip(host, inside)]


def _host_ip(text: str, whole: str, option: str) -> str:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        raise OptionError(option, whole, f"has the address {text}, which is none") from None
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped:  # no packet is ever sent there, and so nobody would reach the port
        raise OptionError(option, whole, f"has an IPv4 address in the words of IPv6; use {mapped}")
    return str(address)


def _range(text: str, whole: str, option: str) -> list[int]:
    first, dummy, last = text.partition("-")
    low, high = int(first), int(last or first)
    if low > high:
        raise OptionError(option, whole, f"has the range {text}, which ends before it begins")
    if not 1 <= low <= high <= 65535:
        raise OptionError(option, whole, f"has the port {text}; ports are 1 to 65535")
    if high - low >= _RANGE_MAX:
        raise OptionError(option, whole, f"is a range of more than {_RANGE_MAX} ports")
    return list(range(low, high + 1))


def parse_subnet(value: Any, option: str) -> str:
    """An IPv4 or IPv6 network in which containers can be."""
    text = str(value)
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError as error:
        hint = ""
        if "host bits" in str(error):
            hint = f"the network itself is {ipaddress.ip_network(text, strict=False)}"
        raise OptionError(option, value, "is not a subnet such as 10.89.0.0/24", hint=hint) from None
    if (
        network.is_multicast
        or network.is_loopback
        or network.is_link_local
        or network.is_reserved
        or _is_nowhere(network)
    ):
        raise OptionError(option, value, "is not for hosts; use a private one such as 10.89.0.0/24")
    if network.num_addresses < 4:
        raise OptionError(option, value, "is too small; a bridge needs an address of its own beside the containers'")
    return str(network)


def _is_nowhere(network: IPNetwork) -> bool:
    """0.0.0.0/8 is "this network" (RFC 6890), and a subnet that holds it would be the whole world."""
    return network.version == 4 and int(network.network_address) >> 24 == 0


def parse_member(value: Any, subnet: str, option: str) -> str:
    """An address that a host of the subnet can have."""
    try:
        address = ipaddress.ip_address(str(value))
    except ValueError:
        raise OptionError(option, value, "is not an IP address") from None
    network = ipaddress.ip_network(subnet)
    if address not in network:
        raise OptionError(option, value, f"is not in the subnet {subnet}")
    if address in (network.network_address, network.broadcast_address):
        raise OptionError(option, value, f"is the network or broadcast address of {subnet}")
    return str(address)


def parse_ip_range(value: Any, subnet: str, option: str) -> str:
    inner, outer = ipaddress.ip_network(parse_subnet(value, option)), ipaddress.ip_network(subnet)
    if inner.version != outer.version or not inner.subnet_of(outer):  # type: ignore[arg-type]
        raise OptionError(option, value, f"is not in the subnet {subnet}")
    return str(inner)
