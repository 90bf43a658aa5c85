# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of a service, short and long, as the option published_ports takes them."""

from __future__ import annotations

import re
from typing import Any

_PORT = re.compile(r"(?:(?:(?P<ip>\[[^\]]*\]|[^:]*):)?(?P<host>[\d-]*):)?(?P<inside>[\d-]+)(?:/(?P<protocol>\w+))?")


def parts(port: Any) -> tuple[str, str, str, str] | None:
    """(host's address, host's port or range, container's port or range, protocol), the first two may be empty; None for
    what is no port."""
    if isinstance(port, dict):
        words = [port.get(name) for name in ("host_ip", "published", "target", "protocol")]
        ip, host, inside, protocol = ("" if word is None else str(word) for word in words)
        return ip, host, inside, (protocol or "tcp").lower()
    match = _PORT.fullmatch(str(port))
    if not match:
        return None
    return match["ip"] or "", match["host"] or "", match["inside"], (match["protocol"] or "tcp").lower()


def identity(port: Any) -> Any:
    """The same for two that speak of one port."""
    return parts(port) or str(port)


def published(port: Any, number: int, count: int) -> str:
    """As published_ports has it, for the replica of that number, from 0 on, of so many.

    Of a range that leads to one port each replica has one; ValueError says what is wrong.
    """
    found = parts(port)
    if found is None:
        raise ValueError("is no port; write [[IP:]HOST_PORT:]PORT[/PROTOCOL]")
    ip, host, inside, protocol = found
    low, dash, high = host.partition("-")
    if dash and "-" not in inside:
        if not (low.isdecimal() and high.isdecimal() and int(high) >= int(low)):
            raise ValueError(f"has the range {host}, which is none")
        if number > int(high) - int(low):
            raise ValueError(f"has a range of {int(high) - int(low) + 1} ports for {count} replicas")
        host = str(int(low) + number)
    elif host and count > 1:
        raise ValueError(
            f"is one port of the host, and there are {count} replicas; give a range, or no port of the host"
        )
    address = f"[{ip}]" if ":" in ip and not ip.startswith("[") else ip
    outside = f"{address}:{host}:" if address else f"{host}:" if host else ""
    return f"{outside}{inside}/{protocol}"
