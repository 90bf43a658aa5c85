# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory controller: bytes, -1 for no limit. Swap is counted apart from memory here, unlike in config.json.

memory.high, memory.min, memory.oom.group and the rest have no word of their own there: linux.resources.unified does it.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Optional

from ..._errors import KernelError
from ..files import UNLIMITED, keyed, read_number, read_optional, write

# Read back as they are written, but for a part of a page.
_UNIFIED = ("memory.high", "memory.min", "memory.oom.group")
_NO_SWAP_HINT = "this kernel does not count swap; leave the limit of swap out"


def apply(directory: str, resources: dict[str, Any]) -> None:
    memory = resources.get("memory") or {}
    limit = memory.get("limit")
    if memory.get("checkBeforeUpdate") and limit is not None:
        _check(directory, limit)
    swap = swap_max(limit, memory.get("swap"), read_number(f"{directory}/memory.max"))
    if swap is not None:
        _write_swap(directory, swap)
    if limit is not None:
        write(f"{directory}/memory.max", _text(limit))
    if memory.get("reservation") is not None:
        write(f"{directory}/memory.low", _text(memory["reservation"]))


def _check(directory: str, limit: int) -> None:
    """Here a limit below the use is not refused: the kernel takes it and kills. So it is asked before."""
    used = read_number(f"{directory}/memory.current") or 0
    if 0 <= limit < used:
        used = _squeezed(directory, limit)
    if 0 <= limit < used:
        hint = f"{used} bytes are in use, and the kernel can't take them back; the container would be killed"
        raise KernelError(f"write {limit} to", f"{directory}/memory.max", errno.EBUSY, hint=hint)


def _squeezed(directory: str, limit: int) -> int:
    """What is in use when caches are given back: a write to memory.high waits for that, and kills nobody."""
    path = f"{directory}/memory.high"
    high = read_optional(path)
    if high is not None:
        write(path, limit)
        write(path, high)
    return read_number(f"{directory}/memory.current") or 0


def _write_swap(directory: str, value: int) -> None:
    path = f"{directory}/memory.swap.max"
    if value == UNLIMITED and read_optional(path) is None:
        return  # nothing that could limit it
    write(path, _text(value), hint=_NO_SWAP_HINT)


def swap_max(limit: Optional[int], swap: Optional[int], present: Optional[int]) -> Optional[int]:
    """memory.swap.max for config.json's swap, which is memory and swap together (config-linux.md).

    ``present`` is memory.max as it stands, for when only swap is given.
    """
    if swap is None:
        return UNLIMITED if limit == UNLIMITED else None
    if swap < 0:
        return UNLIMITED
    memory = present if limit is None else limit
    if memory is None or memory < 0:
        raise KernelError(f"limit memory and swap to {swap}", errno=errno.EINVAL, hint="limit memory as well")
    if swap < memory:
        hint = f"memory and swap together can't be less than memory, {memory}"
        raise KernelError(f"limit memory and swap to {swap}", errno=errno.EINVAL, hint=hint)
    return swap - memory


def _text(value: int) -> str:
    return "max" if value < 0 else str(value)


def read(directory: str) -> dict[str, Any]:
    limit = read_number(f"{directory}/memory.max")
    swap = read_number(f"{directory}/memory.swap.max")
    low = read_number(f"{directory}/memory.low")
    together = UNLIMITED if UNLIMITED in (limit, swap) or limit is None or swap is None else limit + swap
    values = {"limit": limit, "swap": together if swap is not None else None, "reservation": low}
    unified = {name: read_optional(f"{directory}/{name}") for name in _UNIFIED}
    return {
        "memory": {key: value for key, value in values.items() if value is not None},
        "unified": {name: text for name, text in unified.items() if text is not None},
    }


def rounded(unified: dict[str, str]) -> dict[str, str]:
    """Of linux.resources.unified what the kernel rounds, as it reads then."""
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = {name: unified[name] for name in ("memory.high", "memory.min") if unified.get(name, "").isdecimal()}
    return {name: str(int(text) // page * page) for name, text in sizes.items()}


def stats(directory: str) -> dict[str, int]:
    events = keyed(read_optional(f"{directory}/memory.events"))
    figures = {
        "memory_usage": read_number(f"{directory}/memory.current"),
        "memory_max_usage": read_number(f"{directory}/memory.peak"),
        "memory_limit": read_number(f"{directory}/memory.max"),
        "memory_failures": events.get("max", 0),
        "memory_high_exceeded": events.get("high"),
        "swap_usage": read_number(f"{directory}/memory.swap.current"),
        "oom_kills": events.get("oom_kill"),
    }
    return {key: value for key, value in figures.items() if value is not None}
