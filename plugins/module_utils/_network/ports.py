# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of the host: which are in use, by whom, and which are free."""

from __future__ import annotations

import os
from collections.abc import Iterable

from .._errors import OptionError, VesselError
from .model import Port

_LISTEN, _UNCONNECTED = "0A", "07"  # include/net/tcp_states.h
# The dynamic ports of RFC 6335.
FIRST, LAST = 49153, 65535


def listening() -> dict[tuple[str, int], str]:
    """(protocol, port): socket inode, of every socket in this namespace that would take a connection or a packet."""
    found: dict[tuple[str, int], str] = {}
    for file, protocol, state in (
        ("tcp", "tcp", _LISTEN),
        ("tcp6", "tcp", _LISTEN),
        ("udp", "udp", _UNCONNECTED),
        ("udp6", "udp", _UNCONNECTED),
    ):
        try:
            with open(f"/proc/self/net/{file}") as lines:
                next(lines)
                for line in lines:
                    fields = line.split()
                    if fields[3] == state:
                        found[protocol, int(fields[1].rpartition(":")[2], 16)] = fields[9]
        except FileNotFoundError:
            continue
    return found


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


def check(option: str, ports: Iterable[Port], others: dict[str, list[Port]]) -> None:
    """Raise OptionError when a port is taken: by a container of ours, or by a socket of the host."""
    used = listening()
    index: dict[tuple[str, int], list[tuple[str, Port]]] = {}
    for container, theirs in others.items():
        for port in theirs:
            index.setdefault(port.key, []).append((container, port))
    for port in ports:
        for container, other in index.get(port.key, ()):
            if port.overlaps(other):
                raise OptionError(
                    option, str(port), f"is published by the container {container}; choose another host port"
                )
        if port.key in used:
            who = owner(used[port.key])
            problem = f"names port {port.host_port}/{port.protocol}, which is in use by {who}"
            raise OptionError(option, str(port), f"{problem}; choose another host port")


def choose(protocol: str, taken: set[tuple[str, int]]) -> int:
    """A free dynamic port; it is added to ``taken``."""
    used = listening()
    for number in range(FIRST, LAST + 1):
        if (protocol, number) not in taken and (protocol, number) not in used:
            taken.add((protocol, number))
            return number
    raise VesselError(f"no free {protocol} port from {FIRST} to {LAST} is left on this host")
