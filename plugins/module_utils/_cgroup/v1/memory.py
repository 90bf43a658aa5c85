# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory controller: bytes, -1 for no limit."""

from __future__ import annotations

from typing import Any

from ..files import UNLIMITED, keyed, read_number, read_optional, write

_FILES = {
    "limit": "memory.limit_in_bytes",
    "swap": "memory.memsw.limit_in_bytes",
    "reservation": "memory.soft_limit_in_bytes",
}


def apply(directory: str, resources: dict[str, Any]) -> None:
    memory = resources.get("memory") or {}
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit == UNLIMITED and swap is None:
        swap = UNLIMITED  # a limit of memory and swap would stand below the one of memory
    if limit is not None or swap is not None:
        _apply_limits(directory, limit, swap)
    if memory.get("reservation") is not None:
        write(f"{directory}/{_FILES['reservation']}", memory["reservation"])
    if memory.get("swappiness") is not None:
        write(f"{directory}/memory.swappiness", memory["swappiness"])
    if memory.get("disableOOMKiller") is not None:
        write(f"{directory}/memory.oom_control", int(memory["disableOOMKiller"]))


def _apply_limits(directory: str, limit: int | None, swap: int | None) -> None:
    """The kernel holds memory <= memory+swap at every moment, so what grows the gap goes first."""
    present = read_number(f"{directory}/{_FILES['swap']}")
    if present is None:
        if limit is not None:
            write(f"{directory}/{_FILES['limit']}", limit)
        return
    if limit is not None and limit != UNLIMITED and swap is None and present not in (UNLIMITED,) and limit > present:
        swap = limit
    first_swap = swap is not None and (swap == UNLIMITED or (present != UNLIMITED and swap > present))
    order = [("swap", swap), ("limit", limit)] if first_swap else [("limit", limit), ("swap", swap)]
    for name, value in order:
        if value is not None:
            write(f"{directory}/{_FILES[name]}", value)


def read(directory: str) -> dict[str, Any]:
    values = {key: read_number(f"{directory}/{name}") for key, name in _FILES.items()}
    return {"memory": {key: value for key, value in values.items() if value is not None}}


def stats(directory: str) -> dict[str, int]:
    oom = keyed(read_optional(f"{directory}/memory.oom_control"))
    figures = {
        "memory_usage": read_number(f"{directory}/memory.usage_in_bytes"),
        "memory_max_usage": read_number(f"{directory}/memory.max_usage_in_bytes"),
        "memory_limit": read_number(f"{directory}/{_FILES['limit']}"),
        "memory_failures": read_number(f"{directory}/memory.failcnt"),
        "oom_kills": oom.get("oom_kill", 0),
    }
    return {key: value for key, value in figures.items() if value is not None}
