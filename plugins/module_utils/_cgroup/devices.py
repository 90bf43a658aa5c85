# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for devices: what every container has (runtime-spec, config-linux.md), and a list of rules as a final state."""

from __future__ import annotations

from typing import Any

Rule = dict[str, Any]
# (kind, major, minor), where -1 is every number
Node = tuple[str, int, int]


def _allow(kind: str, major: int, minor: int, access: str = "rwm") -> Rule:
    return {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}


_DEFAULTS = (
    # mknod makes a name for a device; opening it is another matter
    _allow("c", -1, -1, "m"),
    _allow("b", -1, -1, "m"),
    _allow("c", 1, 3),  # null
    _allow("c", 1, 5),  # zero
    _allow("c", 1, 7),  # full
    _allow("c", 1, 8),  # random
    _allow("c", 1, 9),  # urandom
    _allow("c", 5, 0),  # tty
    _allow("c", 5, 2),  # ptmx
    _allow("c", 136, -1),  # pts
)


def default_rules(rules: list[Rule]) -> list[Rule]:
    """What is added behind the declared rules; nothing where they allow all anyway."""
    last = rules[-1] if rules else {"allow": False}
    everything = last.get("allow") and kind(last) == "a"
    return [] if everything else list(_DEFAULTS)


def kind(rule: Rule) -> str:
    """a, b or c; u is mknod(1)'s word for a character device."""
    return {"": "a", "u": "c"}.get(rule.get("type") or "", rule.get("type") or "")


class State:
    """What a list of rules comes to: an answer for everything, and the nodes for which it is the other one."""

    def __init__(self, allow: bool) -> None:
        self.allow = allow
        self.exceptions: dict[Node, set[str]] = {}

    def take(self, rule: Rule) -> None:
        """One more rule, as the devices controller of v1 takes it: a rule for everything forgets all before it."""
        allow = bool(rule.get("allow"))
        if kind(rule) == "a":
            self.allow = allow
            self.exceptions = {}
            return
        numbers = [-1 if rule.get(key) is None else int(rule[key]) for key in ("major", "minor")]
        node = (kind(rule), numbers[0], numbers[1])
        access = set(rule.get("access") or "rwm")
        kept = self.exceptions.get(node, set())
        kept = kept - access if allow == self.allow else kept | access
        self.exceptions.pop(node, None)
        if kept:
            self.exceptions[node] = kept


def state(rules: list[Rule], *, allow: bool = True) -> State:
    """``allow`` is what holds before the first rule: a new group of v1 has what its parent has."""
    result = State(allow)
    for rule in rules:
        result.take(rule)
    return result
