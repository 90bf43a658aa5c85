# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has: the host's links, addresses and routes, and a container's, by reading /proc and /sys.

A dump of all links decodes a hundred attributes each, of thousands that nobody asks about; files tell of one at a time.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union

from .rtnl import Link, Route, Rtnl


class Links:
    """The host's links by name, each read when it is first asked for, and then kept."""

    def __init__(self) -> None:
        self._known: dict[str, Optional[Link]] = {}

    def get(self, name: str) -> Optional[Link]:
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    @staticmethod
    def _read(name: str) -> Optional[Link]:
        try:
            index = socket.if_nametoindex(name)
        except OSError:
            return None
        base = f"/sys/class/net/{name}"
        try:
            if int(_word(f"{base}/ifindex")) == index:
                return _from_sysfs(base, name, index)
        except OSError:
            pass
        with Rtnl() as rtnl:  # /sys shows another network namespace than ours
            return rtnl.link(name)


def _from_sysfs(base: str, name: str, index: int) -> Link:
    kind = "bridge" if os.path.isdir(f"{base}/bridge") else ""
    up = bool(int(_word(f"{base}/flags"), 16) & 1)
    try:
        master = int(_word(f"{base}/master/ifindex"))
    except FileNotFoundError:
        master = 0
    peer = int(_word(f"{base}/iflink"))
    return Link(index, name, kind, up, int(_word(f"{base}/mtu")), _word(f"{base}/address"), master, peer)


def _word(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


class Snapshot:
    """The host's side. Addresses are ADDRESS/LENGTH by the link's index; routes are read when they are asked for."""

    def __init__(
        self,
        links: Union[Links, Mapping[str, Link]],
        addresses: Mapping[int, set[str]],
        routes: Optional[Sequence[Route]] = None,
    ) -> None:
        self.links = links
        self.addresses = addresses
        self._routes = routes

    @classmethod
    def take(cls, rtnl: Rtnl) -> Snapshot:
        addresses = rtnl.addresses(socket.AF_INET)
        for index, found in _ipv6_addresses().items():
            addresses.setdefault(index, set()).update(found)
        return cls(Links(), addresses)

    @property
    def routes(self) -> Sequence[Route]:
        if self._routes is None:
            self._routes = _ipv4_routes() + _ipv6_routes()
        return self._routes

    def on(self, name: str) -> set[str]:
        """Addresses of the link with this name."""
        link = self.links.get(name)
        return self.addresses.get(link.index, set()) if link else set()


def _ipv6_addresses() -> dict[int, set[str]]:
    """proc_pid_net(5), if_inet6; link-local ones left out."""
    found: dict[int, set[str]] = {}
    for line in _lines("/proc/self/net/if_inet6"):
        digits, index, length = line.split()[:3]
        if not digits.startswith("fe80"):
            found.setdefault(int(index, 16), set()).add(f"{_ipv6(digits)}/{int(length, 16)}")
    return found


def _ipv4_routes() -> list[Route]:
    found = []
    for line in _lines("/proc/self/net/route")[1:]:
        fields = line.split()
        name, destination, gateway, flags, mask = *fields[:4], fields[7]
        if not int(flags, 16) & _RTF_UP:
            continue
        length = bin(int(mask, 16)).count("1")
        where = f"{_ipv4(destination)}/{length}" if length else "default"
        found.append(Route(where, _ipv4(gateway) if int(gateway, 16) else "", _index(name)))
    return found


_RTF_UP = 1


def _ipv6_routes() -> list[Route]:
    """Those that could be somebody's network: link-local, multicast and single addresses are not."""
    found = []
    for line in _lines("/proc/self/net/ipv6_route"):
        fields = line.split()
        length = int(fields[1], 16)
        if (
            fields[0].startswith(("fe8", "ff"))
            or length == 128
            or fields[9] == "lo"
            or not int(fields[8], 16) & _RTF_UP
        ):
            continue
        gateway = "" if fields[4] == "0" * 32 else _ipv6(fields[4])
        found.append(Route(f"{_ipv6(fields[0])}/{length}" if length else "default", gateway, _index(fields[9])))
    return found


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _ipv4(digits: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(digits, 16)))


@dataclass(frozen=True)
class Inside:
    """A container's side, from /proc/PID/net: reading files costs less than a socket in each namespace."""

    names: frozenset[str]
    addresses: frozenset[str]  # without length
    gateways: frozenset[str]


def inside(pid: int) -> Inside:
    """Raises FileNotFoundError or ProcessLookupError when the process is gone."""
    base = f"/proc/{pid}/net"
    names = [line.partition(":")[0].strip() for line in _lines(f"{base}/dev")[2:]]
    ipv4, gateways = _fib(_lines(f"{base}/fib_trie")), _gateways(_lines(f"{base}/route")[1:])
    ipv6 = [_ipv6(line.split()[0]) for line in _lines(f"{base}/if_inet6")]
    gateways += _gateways6(_lines(f"{base}/ipv6_route"))
    return Inside(frozenset(names), frozenset([*ipv4, *ipv6]), frozenset(gateways))


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except FileNotFoundError:
        if path.endswith(("if_inet6", "ipv6_route")):
            return []  # a kernel without IPv6
        raise


def _fib(lines: list[str]) -> list[str]:
    """Local addresses: a leaf "|-- A.B.C.D" whose next line says "/32 host LOCAL"."""
    found = []
    for line, following in zip(lines, lines[1:]):
        if "|-- " in line and "host LOCAL" in following:
            found.append(line.rpartition(" ")[2])
    return found


def _gateways(lines: list[str]) -> list[str]:
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            found.append(_ipv4(fields[2]))
    return found


def _gateways6(lines: list[str]) -> list[str]:
    rows = [line.split() for line in lines]
    return [_ipv6(row[4]) for row in rows if len(row) > 8 and row[1] == "00" and row[4] != "0" * 32]


def _ipv6(digits: str) -> str:
    return str(ipaddress.IPv6Address(int(digits, 16)))
