# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who of a network may talk to whom, and what is on it beside the containers of this host: as users write it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Optional

from .._errors import OptionError
from .._network.model import Allow, End, Name
from .._network.names import RESERVED
from .parse import choice, listing, mapping, parse_name, parse_str, parse_word
from .record import Option, parse_options

PROTOCOLS = ("tcp", "udp", "sctp", "icmp")
_PORTED = PROTOCOLS[:3]
_ALL = (0, 65535)

Spec = Mapping[str, Any]


# names


def _address(value: Any, option: str) -> str:
    text = parse_word(value, option)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise OptionError(option, text, "is not an IP address") from None


_NAME = (
    Option("addresses", listing(_address, unique=True), "list", elements="str", required=True),
    Option("labels", mapping(parse_str), "dict", default={}),
)


def _name(value: Any, option: str) -> str:
    text = parse_name(value, option)
    if text.lower() in RESERVED:
        raise OptionError(option, text, "stands for something else in every hosts file; choose another name")
    return text


def parse_names(value: Any, option: str) -> dict[str, dict[str, Any]]:
    """A mapping name: an address, a list of them, or addresses and labels."""
    return mapping(_named, _name)(value, option)  # type: ignore[no-any-return]


def _named(value: Any, option: str) -> dict[str, Any]:
    if isinstance(value, dict):
        found = parse_options(_NAME, value, option)
        return {"addresses": found["addresses"], "labels": found.get("labels", {})}
    given = value if isinstance(value, (list, tuple)) else [value]
    return {"addresses": listing(_address, unique=True)(given, option), "labels": {}}


def to_names(names: Mapping[str, Spec]) -> tuple[Name, ...]:
    return tuple(
        Name(name, tuple(body["addresses"]), tuple(body["labels"].items())) for name, body in sorted(names.items())
    )


# allow


def parse_end(value: Any, option: str) -> Any:
    """A mapping of labels, or a name, an address or a subnet, or a list of those."""
    if isinstance(value, dict):
        if not value:
            raise OptionError(option, value, "names no label; leave the word out for everybody")
        return mapping(parse_str)(value, option)
    found = listing(_whom, unique=True, ordered=False)(value if isinstance(value, (list, tuple)) else [value], option)
    if not found:
        raise OptionError(option, value, "names nobody; leave the word out for everybody")
    return found


def _whom(value: Any, option: str) -> str:
    text = parse_word(value, option)
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        if "/" in text:
            problem = "has host bits set" if "host bits" in str(error) else "is not a subnet"
            raise OptionError(option, text, f"{problem}; write one such as 10.89.0.0/28") from None
        return str(parse_name(text, option))
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _ports(value: Any, option: str) -> str:
    text = parse_word(value, option)
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise OptionError(option, text, "is not a port; write 80 or 8000-8010")
    low, high = int(first), int(last or first)
    if low > high:
        raise OptionError(option, text, "is a range that ends before it begins")
    if not 1 <= low <= high <= _ALL[1]:
        raise OptionError(option, text, "is not a port; ports are 1 to 65535")
    return f"{low}-{high}" if high > low else str(low)


ALLOW: tuple[Option, ...] = (
    Option("from", parse_end, "raw"),
    Option("to", parse_end, "raw"),
    Option("ports", listing(_ports, unique=True, ordered=False), "list", elements="str"),
    Option("protocol", choice(*PROTOCOLS), choices=PROTOCOLS),
)


def parse_allow(value: Any, option: str) -> list[dict[str, Any]]:
    return listing(_entry)(value, option)  # type: ignore[no-any-return]


def _entry(value: Any, option: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OptionError(option, value, "is not a mapping; it takes from, to, ports and protocol")
    found = parse_options(ALLOW, value, option)
    ports, protocol = found.get("ports") or [], found.get("protocol", "")
    if ports and protocol == "icmp":
        raise OptionError(f"{option}.ports", ports, "can't be: icmp has no ports")
    return {"from": found.get("from"), "to": found.get("to"), "ports": ports, "protocol": protocol}


def to_allow(entries: Optional[list[Spec]]) -> Optional[tuple[Allow, ...]]:
    """None where everybody may talk to everybody: an entry without a word is the way back to that."""
    if entries is None or any(not any(entry.values()) for entry in entries):
        return None
    return tuple(map(_to_allow, entries))


def _to_allow(entry: Spec) -> Allow:
    protocols = (entry["protocol"],) if entry["protocol"] else ("tcp",) if entry["ports"] else PROTOCOLS
    ports = []
    for text in entry["ports"]:
        first, dummy, last = text.partition("-")
        ports.append((int(first), int(last or first)))
    return Allow(_end(entry["from"]), _end(entry["to"]), protocols, tuple(ports))


def _end(value: Any) -> End:
    if isinstance(value, dict):
        return End(labels=tuple(sorted(value.items())))
    return End(names=tuple(value or ()))
