# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expressions and objects as libnftables-json(5) spells them."""

from __future__ import annotations

from typing import Any, Optional

Json = dict[str, Any]

ACCEPT: Json = {"accept": None}
DROP: Json = {"drop": None}


def match(left: Any, right: Any, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def key(name: str) -> Json:
    return {"meta": {"key": name}}


def field(protocol: str, name: str) -> Json:
    return {"payload": {"protocol": protocol, "field": name}}


def raw(base: str, offset: int, length: int) -> Json:
    """Bits of a header that nft has no words for."""
    return {"payload": {"base": base, "offset": offset, "len": length}}


def concat(*parts: Json) -> Json:
    return {"concat": list(parts)}


def meta(name: str, right: Any, op: str = "==") -> Json:
    return match(key(name), right, op)


def address(family: str, name: str, right: Any, op: str = "==") -> Json:
    return match(field(family, name), right, op)


def prefix(subnet: str) -> Json:
    first, dummy, length = subnet.partition("/")
    return {"prefix": {"addr": first, "len": int(length)}}


class Table:
    """Commands that add to a table, in their order."""

    def __init__(self, family: str, name: str) -> None:
        self.head: Json = {"family": family, "name": name}
        self.commands: list[Json] = [{"add": {"table": self.head}}]

    def _add(self, kind: str, body: Json) -> None:
        self.commands.append({"add": {kind: {"family": self.head["family"], "table": self.head["name"], **body}}})

    def set(self, name: str, kind: Any, elements: Optional[list[Any]] = None, **more: Any) -> None:
        self._add("set", {"name": name, "type": kind, **more, **({"elem": elements} if elements else {})})

    def map(self, name: str, kind: Any, data: str, elements: Optional[list[Any]] = None) -> None:
        self._add("map", {"name": name, "type": kind, "map": data, **({"elem": elements} if elements else {})})

    def chain(self, name: str, kind: str = "", hook: str = "", priority: int = 0) -> None:
        """Without a hook, one that others jump to."""
        hooked = {"type": kind, "hook": hook, "prio": priority, "policy": "accept"} if hook else {}
        self._add("chain", {"name": name, **hooked})

    def rule(self, chain: str, *expressions: Json) -> None:
        self._add("rule", {"chain": chain, "expr": list(expressions)})
