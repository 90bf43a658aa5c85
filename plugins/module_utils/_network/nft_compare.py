# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table as the kernel has it (``nftables.read``) against the commands that would make it: what differs, in words.

A published port is two elements of two maps, and is told as one thing; a rule is told as nft would write it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from .bridge import Difference
from .model import Port
from .nft_words import Json
from .nftables import Target

_FAMILIES = {"ip": "0.0.0.0", "ip6": "::"}
# nft takes the names of protocols anywhere, and tells them only where there is an /etc/protocols.
_PROTOCOLS: dict[Any, str] = {6: "tcp", 17: "udp", 132: "sctp"}


def added(commands: list[Json]) -> list[Json]:
    """What ``nftables.render`` adds, as reading would show it."""
    return [command["add"] for command in commands if "table" not in command.get("add", {"table": None})]


def targets(objects: list[Json]) -> list[Target]:
    """The published ports of a table."""
    return [
        Target(Port(port.host_ip, port.host_port, inside, port.protocol), address)
        for port, (address, inside) in _ports(objects).items()
        if address and inside
    ]


def _ports(objects: list[Json]) -> dict[Port, tuple[str, int]]:
    """Port of the host, its container_port 0: address and port that it leads to, empty where one is missing."""
    found: dict[Port, tuple[str, int]] = {}
    for name, key, value in _elements(objects):
        family, kind, part = name.split("_")
        numbers = [key[-1], value] if part == "port" else [key[-1]]
        if not all(str(number).isdigit() for number in numbers):
            continue  # of another map that somebody put in this one's place
        host_ip = key[0] if kind == "one" else _FAMILIES[family]
        port = Port(str(host_ip), int(key[-1]), 0, _PROTOCOLS.get(key[-2], str(key[-2])))
        address, inside = found.get(port, ("", 0))
        found[port] = (str(value), inside) if part == "address" else (address, int(value))
    return found


def _elements(objects: list[Json]) -> Iterator[tuple[str, list[Any], Any]]:
    """(map, key, value) of the maps that are ours, but for what leads from or to more than one: that is not."""
    for item in objects:
        body = item.get("map")
        if not body or not _is_ports(body["name"]):
            continue
        for element in body.get("elem") or []:
            if isinstance(element, list) and isinstance(element[0], dict) and "concat" in element[0]:
                key, value = element[0]["concat"], element[1]
                if all(isinstance(part, (str, int)) for part in (*key, value)):
                    yield body["name"], key, value


def _is_ports(name: str) -> bool:
    return name in {f"{family}_{kind}_{part}" for family in _FAMILIES for kind in ("any", "one") for part in _PARTS}


_PARTS = ("address", "port")


def owner(objects: list[Json]) -> str:
    """The installation that the table is of: what its first comment says."""
    return next((body["rule"]["comment"] for body in objects if "comment" in body.get("rule", {})), "")


def differences(commands: list[Json], present: list[Json]) -> list[Difference]:
    """What of the table is not as the commands make it, nothing when all is."""
    if not present:
        return [Difference("table", "absent", "present")]
    declared = added(commands)
    return _of_ports(_ports(present), _ports(declared)) + _of_others(_by_name(present), _by_name(declared))


def _of_ports(have: dict[Port, tuple[str, int]], want: dict[Port, tuple[str, int]]) -> list[Difference]:
    found = []
    for port in sorted(have.keys() | want.keys(), key=lambda port: (port.host_port, port.protocol, port.host_ip)):
        if have.get(port) != want.get(port):
            found.append(Difference(_called(port), _leads(have.get(port)), _leads(want.get(port))))
    return found


def _called(port: Port) -> str:
    """ "port 8080/tcp", with the address of the host where it is on one, or the family that goes without saying not."""
    where = {"0.0.0.0": "", "::": " (IPv6)"}.get(port.host_ip, f" on {port.host_ip}")
    return f"port {port.host_port}/{port.protocol}{where}"


def _leads(value: tuple[str, int] | None) -> str:
    if value is None:
        return "missing"
    address, inside = value
    shown = f"[{address}]" if ":" in address else address
    return f"{shown or '?'}:{inside or '?'}"


def _of_others(have: dict[str, list[str]], want: dict[str, list[str]]) -> list[Difference]:
    found = []
    for name in sorted(have.keys() | want.keys()):
        present, wanted = have.get(name, []), want.get(name, [])
        if present != wanted:
            found.append(Difference(name, _without(present, wanted), _without(wanted, present)))
    return found


def _by_name(objects: list[Json]) -> dict[str, list[str]]:
    """ "rules of CHAIN", "set NAME", …: what there is of it as text; rules in their order, elements in any. Of the
    maps of ports only what they are, for what is in them is told by port."""
    found: dict[str, list[str]] = {}
    for item in objects:
        for kind, body in item.items():
            if kind == "rule":
                found.setdefault(f"rules of {body['chain']}", []).append(_rule(body))
            elif kind != "table":
                rest = {key: value for key, value in body.items() if key not in ("elem", "handle")}
                elements = [] if kind == "map" and _is_ports(body["name"]) else body.get("elem") or []
                found[f"{kind} {body['name']}"] = [_text(rest), *sorted(map(_words, elements))]
    return found


def _without(one: list[str], other: list[str]) -> list[str]:
    """What is in one alone; where only the order differs, all of it."""
    there = set(other)
    return [text for text in one if text not in there] if set(one) != there else one


# rules in nft's own words, as far as ours go


def _rule(body: Json) -> str:
    comment = [f'comment "{body["comment"]}"'] if body.get("comment") else []
    return " ".join([*map(_words, body.get("expr") or []), *comment])


def _words(value: Any) -> str:
    """An expression of libnftables-json(5). What rules of ours have none of is left as it is."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, body),) = value.items()
        if body is None:
            return str(kind)
        if kind in _WORDS and isinstance(body, (dict, list)):
            return _WORDS[kind](body)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return str(value) if isinstance(value, (str, int)) else _text(value)


def _match(body: Json) -> str:
    op = {"==": "", "in": ""}.get(body["op"], f"{body['op']} ")
    return f"{_words(body['left'])} {op}{_words(body['right'])}"


def _fib(body: Json) -> str:
    flags = body["flags"]
    return f"fib {' . '.join(flags if isinstance(flags, list) else [flags])} {body['result']}"


def _dnat(body: Json) -> str:
    return f"dnat {body.get('family', '')} to {_words(body.get('addr', ''))} : {_words(body.get('port', ''))}"


def _set(body: Any) -> str:
    """Of what a match may be with, or the statement that adds to a named one."""
    if isinstance(body, dict):
        return f"{body['op']} {body['set']} {{ {_words(body['elem'])} }}"
    return f"{{ {', '.join(sorted(map(_protocol, body)))} }}"


def _protocol(value: Any) -> str:
    """Sets in rules of ours are of protocols."""
    return _PROTOCOLS.get(value, str(value)) if isinstance(value, (int, str)) else _words(value)


_WORDS: dict[str, Callable[[Any], str]] = {
    "match": _match,
    "meta": lambda body: str(body["key"]),
    "ct": lambda body: f"ct {body['key']}",
    "payload": lambda body: f"{body['protocol']} {body['field']}" if "protocol" in body else _text(body),
    "prefix": lambda body: f"{body['addr']}/{body['len']}",
    "fib": _fib,
    "dnat": _dnat,
    "map": lambda body: f"{_words(body['key'])} map {_words(body['data'])}",
    "concat": lambda body: " . ".join(map(_words, body)),
    "set": _set,
    "range": lambda body: "-".join(map(str, body)),
    "vmap": lambda body: f"{_words(body['key'])} vmap {_words(body['data'])}",
    "jump": lambda body: f"jump {body['target']}",
    "&": lambda body: f"{_words(body[0])} & {_words(body[1])}",
    "exthdr": lambda body: f"{body['name']} {body['field']}",
}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
