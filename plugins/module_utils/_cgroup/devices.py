# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which devices every container has, whatever its config.json says (runtime-spec, config-linux.md, default devices)."""

from __future__ import annotations

from typing import Any

Rule = dict[str, Any]


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
    everything = last.get("allow") and (last.get("type") or "a") == "a"
    return [] if everything else list(_DEFAULTS)
