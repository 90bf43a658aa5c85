# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of cores and memory nodes as the kernel writes them (cpuset(7), "List format"): 0-2,7."""

from __future__ import annotations

from typing import Optional


def members(text: str) -> set[int]:
    """ValueError for what is no list; the rarer form 0-31:2/4 is none of ours."""
    found: set[int] = set()
    for part in text.replace("\n", ",").split(","):
        if part.strip():
            first, dummy, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found


def canonical(text: str) -> str:
    """The list as the kernel prints it; what can't be read stays as it is."""
    try:
        numbers = sorted(members(text))
    except ValueError:
        return text
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def outside(value: str, parent: Optional[str]) -> str:
    """The hint, when the kernel refused what the parent does not have."""
    try:
        missing = members(value) - members(parent or "")
    except ValueError:
        return "it is no list such as 0-2,7"
    return f"{canonical(','.join(map(str, missing)))} not in the parent's {parent!r}" if missing else ""
