# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has, dumped once: the host's links, addresses and routes; a container's by reading /proc."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass

from .rtnl import Link, Route, Rtnl


@dataclass(frozen=True)
class Snapshot:
    """The host's side."""

    links: dict[str, Link]
    addresses: dict[int, set[str]]
    routes: list[Route]

    @classmethod
    def take(cls, rtnl: Rtnl) -> Snapshot:
        return cls(rtnl.links(), rtnl.addresses(), rtnl.routes())

    def on(self, name: str) -> set[str]:
        """Addresses of the link with this name."""
        link = self.links.get(name)
        return self.addresses.get(link.index, set()) if link else set()


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
            found.append(socket.inet_ntoa(struct.pack("=I", int(fields[2], 16))))
    return found


def _gateways6(lines: list[str]) -> list[str]:
    rows = [line.split() for line in lines]
    return [_ipv6(row[4]) for row in rows if len(row) > 8 and row[1] == "00" and row[4] != "0" * 32]


def _ipv6(digits: str) -> str:
    return str(ipaddress.IPv6Address(int(digits, 16)))
