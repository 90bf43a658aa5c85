# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hugetlb controller: bytes of huge pages, a limit for each page size. Both versions have it, under other names."""

from __future__ import annotations

import os
from typing import Any

from .files import write


def apply(directory: str, resources: dict[str, Any], *, limit: str = "max") -> None:
    """``limit`` is what the files' names end with."""
    for entry in resources.get("hugepageLimits") or []:
        page = f"{directory}/hugetlb.{entry['pageSize']}"
        hint = "" if os.path.exists(f"{page}.{limit}") else "this kernel has no huge pages of that size"
        write(f"{page}.{limit}", entry["limit"], hint=hint)
        # Reservations too (Linux 5.7): else one that reserves more than it may touch gets SIGBUS later.
        if os.path.exists(f"{page}.rsvd.{limit}"):
            write(f"{page}.rsvd.{limit}", entry["limit"])
