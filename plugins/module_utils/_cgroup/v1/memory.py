# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory controller: bytes, -1 for no limit. Limits of kernel memory are ignored: the kernel deprecates them."""

from __future__ import annotations

import errno
from typing import Any, Optional

from ..._errors import KernelError
from ..files import UNLIMITED, keyed, read_number, read_optional, write

_FILES = {
    "limit": "memory.limit_in_bytes",
    "swap": "memory.memsw.limit_in_bytes",
    "reservation": "memory.soft_limit_in_bytes",
}
_NO_SWAP_HINT = "this kernel does not count swap; boot it with swapaccount=1, or leave the limit of swap out"


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
        write(f"{directory}/memory.swappiness", memory["swappiness"], hint="it is 0 to 100")
    if memory.get("disableOOMKiller") is not None:
        write(f"{directory}/memory.oom_control", int(memory["disableOOMKiller"]))


def _apply_limits(directory: str, limit: Optional[int], swap: Optional[int]) -> None:
    present = read_number(f"{directory}/{_FILES['swap']}")
    if present is None:
        if swap not in (None, UNLIMITED):
            raise KernelError(f"write {swap} to", f"{directory}/{_FILES['swap']}", errno.ENOENT, hint=_NO_SWAP_HINT)
        swap = None
    for name, value in order(limit, swap, present):
        _write_limit(directory, name, value)


def order(limit: Optional[int], swap: Optional[int], present: Optional[int]) -> list[tuple[str, int]]:
    """The kernel holds memory <= memory and swap at every moment, so what grows the gap goes first.

    ``present`` is the limit of memory and swap that stands now, None where the kernel does not count swap.
    """
    if limit is None or present is None:
        return [(name, value) for name, value in (("limit", limit), ("swap", swap)) if value is not None]
    if swap is None:
        if present == UNLIMITED or limit <= present:
            return [("limit", limit)]
        swap = limit
    grows = present != UNLIMITED and (swap == UNLIMITED or swap > present)
    return [("swap", swap), ("limit", limit)] if grows else [("limit", limit), ("swap", swap)]


def _write_limit(directory: str, name: str, value: int) -> None:
    try:
        write(f"{directory}/{_FILES[name]}", value)
    except KernelError as error:
        used = read_number(f"{directory}/memory.usage_in_bytes")
        if error.errno == errno.EBUSY:
            error.hint = f"{used} bytes are in use, and the kernel can't take them back"
        elif error.errno == errno.EINVAL:
            error.hint = "memory and swap together can't be less than memory"
        raise


def read(directory: str) -> dict[str, Any]:
    values = {key: read_number(f"{directory}/{name}") for key, name in _FILES.items()}
    return {"memory": {key: value for key, value in values.items() if value is not None}}


def stats(directory: str) -> dict[str, int]:
    oom = keyed(read_optional(f"{directory}/memory.oom_control"))
    usage = read_number(f"{directory}/memory.usage_in_bytes")
    both = read_number(f"{directory}/memory.memsw.usage_in_bytes")
    figures = {
        "memory_usage": usage,
        "memory_max_usage": read_number(f"{directory}/memory.max_usage_in_bytes"),
        "memory_limit": read_number(f"{directory}/{_FILES['limit']}"),
        "memory_failures": read_number(f"{directory}/memory.failcnt"),
        "swap_usage": None if both is None or usage is None else max(0, both - usage),
        "oom_kills": oom.get("oom_kill", 0) if oom else None,  # the group may have gone meanwhile
    }
    return {key: value for key, value in figures.items() if value is not None}
