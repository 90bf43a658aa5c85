# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hugetlb controller: bytes of huge pages, a limit for each page size. Both versions have it, under other names."""

from __future__ import annotations

import os
from typing import Any

from .files import UNLIMITED, read_number, write

_SIZES = "/sys/kernel/mm/hugepages"
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))
_sizes: dict[str, int] = {}


def sizes() -> dict[str, int]:
    """Bytes by name, of each size of huge page that this kernel has; that does not change while it runs."""
    if not _sizes and os.path.isdir(_SIZES):
        found = [int(entry[len("hugepages-") : -len("kB")]) << 10 for entry in os.listdir(_SIZES)]
        _sizes.update({name(size): size for size in sorted(found)})
    return _sizes


def name(size: int) -> str:
    """As the files' names have it, and config.json's pageSize (mm/hugetlb_cgroup.c, mem_fmt)."""
    unit, word = next((unit for unit in _UNITS if size >= unit[0]), _UNITS[-1])
    return f"{size // unit}{word}"


def apply(directory: str, resources: dict[str, Any], *, limit: str = "max") -> None:
    """``limit`` is what the files' names end with."""
    for entry in resources.get("hugepageLimits") or []:
        page = f"{directory}/hugetlb.{entry['pageSize']}"
        hint = "" if os.path.exists(f"{page}.{limit}") else "this kernel has no huge pages of that size"
        value = "max" if limit == "max" and entry["limit"] < 0 else entry["limit"]
        write(f"{page}.{limit}", value, hint=hint)
        # Reservations too (Linux 5.7): else one that reserves more than it may touch gets SIGBUS later.
        if os.path.exists(f"{page}.rsvd.{limit}"):
            write(f"{page}.rsvd.{limit}", value)


def read(directory: str, *, limit: str = "max") -> dict[str, Any]:
    """Nothing where the controller is not."""
    found = {size: read_number(f"{directory}/hugetlb.{size}.{limit}") for size in sizes()}
    entries = [{"pageSize": size, "limit": value} for size, value in found.items() if value is not None]
    return {"hugepageLimits": entries} if entries else {}


def rounded(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What read() gives after apply(): whole pages, by size."""
    result = []
    for entry in sorted(entries, key=lambda entry: sizes().get(entry["pageSize"], 0)):
        value, page = entry["limit"], sizes().get(entry["pageSize"], 1)
        result.append({"pageSize": entry["pageSize"], "limit": UNLIMITED if value < 0 else value - value % page})
    return result
