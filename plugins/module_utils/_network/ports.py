# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of the host: which are in use, by whom, and which are free."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterable

from .._errors import OptionError, VesselError
from .._kernel.proc_pid_net import LISTEN, UNCONNECTED, rows
from .model import Port

_ANY = "0.0.0.0"
_WILD = (_ANY, "::")
# The dynamic ports of RFC 6335.
FIRST, LAST = 49153, 65535


Key = tuple[str, int]


def listening() -> dict[Key, list[tuple[str, str]]]:
    """(protocol, port): (address, inode) of every socket here that would take a connection or a packet."""
    found: dict[Key, list[tuple[str, str]]] = {}
    for file, protocol, state in (
        ("tcp", "tcp", LISTEN),
        ("tcp6", "tcp", LISTEN),
        ("udp", "udp", UNCONNECTED),
        ("udp6", "udp", UNCONNECTED),
    ):
        for fields in rows(file):
            if fields[3] == state:
                address, dummy, port = fields[1].partition(":")
                found.setdefault((protocol, int(port, 16)), []).append((_address(address), fields[9]))
    for fields in rows("sctp/eps"):  # ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS
        found.setdefault(("sctp", int(fields[5])), []).append((fields[8] if len(fields) > 8 else _ANY, fields[7]))
    return found


def _address(digits: str) -> str:
    """As proc_pid_net(5) writes it: words of 32 bits in the host's order."""
    words = struct.pack(f"={len(digits) // 8}I", *(int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)))
    text = socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words)
    return text[7:] if text.startswith("::ffff:") else text


def _taken_by(port: Port, sockets: dict[Key, list[tuple[str, str]]]) -> str:
    """The inode of a socket that has the port on an address that the port would be published on; empty when none."""
    for address, inode in sockets.get(port.key, ()):
        if address in _WILD or port.host_ip in _WILD or address == port.host_ip:
            return inode
    return ""


def owner(inode: str) -> str:
    """ "nginx (pid 12)" of the process that has the socket; walks /proc, so only for an error."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                    with open(f"/proc/{pid}/comm") as file:
                        return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue
    return "another process"


def check(option: str, ports: Collection[Port], others: dict[str, list[Port]]) -> None:
    """Raise OptionError when a port is taken: by a container of ours, or by a socket of the host."""
    check_others(option, ports, others)
    used = listening()
    for port in ports:
        inode = _taken_by(port, used)
        if inode:
            who = owner(inode)
            problem = f"names port {port.host_port}/{port.protocol}, which is in use by {who}"
            raise OptionError(option, str(port), f"{problem}; choose another host port")


def check_others(option: str, ports: Iterable[Port], others: dict[str, list[Port]]) -> None:
    """Raise OptionError when a container of ours has a port; ``others`` are the ports of each."""
    index: dict[Key, list[tuple[str, Port]]] = {}
    for container, theirs in others.items():
        for port in theirs:
            index.setdefault(port.key, []).append((container, port))
    for port in ports:
        for container, other in index.get(port.key, ()):
            if port.overlaps(other):
                raise OptionError(
                    option, str(port), f"is published by the container {container}; choose another host port"
                )


def check_elsewhere(option: str, ports: Iterable[Port], elsewhere: Iterable[tuple[str, Port]]) -> None:
    """Raise OptionError when another installation publishes a port already: of two that do, one loses without a word.

    ``elsewhere`` are (whose it is, port).
    """
    known: dict[Key, list[tuple[str, Port]]] = {}
    for whose, other in elsewhere:
        known.setdefault(other.key, []).append((whose, other))
    for port in ports:
        for whose, other in known.get(port.key, ()):
            if port.overlaps(other):
                problem = f"names port {port.host_port}/{port.protocol}, which {whose} publishes"
                raise OptionError(option, str(port), f"{problem}; choose another host port")


def choose(protocol: str, taken: set[Key]) -> int:
    """A free dynamic port; it is added to ``taken``."""
    used = listening()
    for number in range(FIRST, LAST + 1):
        if (protocol, number) not in taken and (protocol, number) not in used:
            taken.add((protocol, number))
            return number
    raise VesselError(f"no free {protocol} port from {FIRST} to {LAST} is left on this host")
