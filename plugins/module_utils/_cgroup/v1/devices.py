# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices controller: a list of what may be opened and made (cgroup-v1/devices.rst)."""

from __future__ import annotations

from typing import Any

from ..devices import Node, State, default_rules, state
from ..files import read as read_file
from ..files import write


def apply(directory: str, resources: dict[str, Any]) -> None:
    rules = resources.get("devices")
    if rules is None:
        return
    wanted = state([*rules, *default_rules(rules)])
    for verb, line in changes(parse(read_file(f"{directory}/devices.list")), wanted):
        write(f"{directory}/devices.{verb}", line)


def parse(text: str) -> State:
    """devices.list shows what is allowed: everything (with unnamed exceptions), or some nodes."""
    result = State(False)
    for line in text.splitlines():
        kind, numbers, access = line.split()
        if kind == "a":
            return State(True)
        major, minor = (-1 if number == "*" else int(number) for number in numbers.split(":"))
        result.exceptions[(kind, major, minor)] = set(access)
    return result


def changes(present: State, wanted: State) -> list[tuple[str, str]]:
    """Writes that lead from one to the other; a device that stays allowed is allowed at every moment between."""
    other, same = ("deny", "allow") if wanted.allow else ("allow", "deny")
    nodes = wanted.exceptions
    if present.allow != wanted.allow or wanted.allow:
        # The kernel does not show what an open list denies, so that one is always written afresh.
        return [(same, "a"), *((other, line(node, access)) for node, access in nodes.items())]
    more = [(other, line(node, nodes[node] - present.exceptions.get(node, set()))) for node in nodes]
    less = [(same, line(node, present.exceptions[node] - nodes.get(node, set()))) for node in present.exceptions]
    return [change for change in more + less if not change[1].endswith(" ")]


def line(node: Node, access: set[str]) -> str:
    numbers = ":".join("*" if number == -1 else str(number) for number in node[1:])
    return f"{node[0]} {numbers} {''.join(letter for letter in 'rwm' if letter in access)}"


def read(directory: str) -> dict[str, Any]:
    return {}
