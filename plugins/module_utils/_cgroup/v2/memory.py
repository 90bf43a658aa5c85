# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory controller: bytes, -1 for no limit. Swap is counted apart from memory here, unlike in config.json."""

from __future__ import annotations

from typing import Any, Optional

from ..files import UNLIMITED, keyed, read_number, read_optional, write


def apply(directory: str, resources: dict[str, Any]) -> None:
    memory = resources.get("memory") or {}
    limit, swap = memory.get("limit"), memory.get("swap")
    swap_max = _swap_max(limit, swap)
    if swap_max is not None:
        write(f"{directory}/memory.swap.max", _text(swap_max))
    if limit is not None:
        write(f"{directory}/memory.max", _text(limit))
    if memory.get("reservation") is not None:
        write(f"{directory}/memory.low", _text(memory["reservation"]))


def _swap_max(limit: Optional[int], swap: Optional[int]) -> Optional[int]:
    """config.json's swap is memory and swap together (config-linux.md)."""
    if swap is None:
        return UNLIMITED if limit == UNLIMITED else None
    if swap == UNLIMITED or limit is None or limit == UNLIMITED:
        return UNLIMITED if swap == UNLIMITED else swap
    return max(0, swap - limit)


def _text(value: int) -> str:
    return "max" if value < 0 else str(value)


def read(directory: str) -> dict[str, Any]:
    limit = read_number(f"{directory}/memory.max")
    swap = read_number(f"{directory}/memory.swap.max")
    low = read_number(f"{directory}/memory.low")
    together = UNLIMITED if UNLIMITED in (limit, swap) or limit is None or swap is None else limit + swap
    values = {"limit": limit, "swap": together if swap is not None else None, "reservation": low}
    return {"memory": {key: value for key, value in values.items() if value is not None}}


def stats(directory: str) -> dict[str, int]:
    events = keyed(read_optional(f"{directory}/memory.events"))
    figures = {
        "memory_usage": read_number(f"{directory}/memory.current"),
        "memory_max_usage": read_number(f"{directory}/memory.peak"),
        "memory_limit": read_number(f"{directory}/memory.max"),
        "memory_failures": events.get("max", 0),
        "oom_kills": events.get("oom_kill", 0),
    }
    return {key: value for key, value in figures.items() if value is not None}
