# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hugetlb controller: bytes of huge pages, a limit for each page size."""

from __future__ import annotations

from typing import Any

from ..files import write


def apply(directory: str, resources: dict[str, Any]) -> None:
    for entry in resources.get("hugepageLimits") or []:
        write(f"{directory}/hugetlb.{entry['pageSize']}.limit_in_bytes", entry["limit"])


def read(directory: str) -> dict[str, Any]:
    return {}
