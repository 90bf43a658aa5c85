# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hugetlb controller: bytes of huge pages, a limit for each page size."""

from __future__ import annotations

import os
from typing import Any

from ..files import write


def apply(directory: str, resources: dict[str, Any]) -> None:
    for entry in resources.get("hugepageLimits") or []:
        page = f"{directory}/hugetlb.{entry['pageSize']}"
        hint = "" if os.path.exists(f"{page}.max") else "this kernel has no huge pages of that size"
        write(f"{page}.max", entry["limit"], hint=hint)
        # Reservations too (Linux 5.7): else one that reserves more than it may touch gets SIGBUS later.
        if os.path.exists(f"{page}.rsvd.max"):
            write(f"{page}.rsvd.max", entry["limit"])


def read(directory: str) -> dict[str, Any]:
    return {}
