# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pids controller: processes and threads together. Its files are the same in both versions."""

from __future__ import annotations

from typing import Any

from .files import keyed, read_number, read_optional, write


def apply(directory: str, resources: dict[str, Any]) -> None:
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        write(f"{directory}/pids.max", limit if limit > 0 else "max")


def read(directory: str) -> dict[str, Any]:
    limit = read_number(f"{directory}/pids.max")
    return {} if limit is None else {"pids": {"limit": limit}}


def stats(directory: str) -> dict[str, int]:
    figures = {
        "pids_current": read_number(f"{directory}/pids.current"),
        "pids_limit": read_number(f"{directory}/pids.max"),
        "pids_refused": keyed(read_optional(f"{directory}/pids.events")).get("max"),
    }
    return {key: value for key, value in figures.items() if value is not None}
