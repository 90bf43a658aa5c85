# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices controller: a list of what may be opened and made (cgroup-v1/devices.rst)."""

from __future__ import annotations

from typing import Any

from ..devices import default_rules
from ..files import write


def apply(directory: str, resources: dict[str, Any]) -> None:
    rules = resources.get("devices")
    if rules is None:
        return
    for rule in [*rules, *default_rules(rules)]:
        write(f"{directory}/devices.{'allow' if rule.get('allow') else 'deny'}", _line(rule))


def _line(rule: dict[str, Any]) -> str:
    kind = rule.get("type") or "a"
    if kind == "a":
        return "a"  # the kernel takes a wildcard only for everything
    numbers = ["*" if rule.get(key) in (None, -1) else str(rule[key]) for key in ("major", "minor")]
    return f"{kind} {':'.join(numbers)} {rule.get('access') or 'rwm'}"


def read(directory: str) -> dict[str, Any]:
    return {}
