# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pressure stall information of a group (accounting/psi.rst): how long some, and all, waited for what they lacked."""

from __future__ import annotations

from .files import read_optional


def stats(directory: str) -> dict[str, int]:
    """Microseconds since the group began, as ``cpu_some_us``, ``memory_full_us`` and so on; none where PSI is off."""
    result: dict[str, int] = {}
    for resource in ("cpu", "memory", "io"):
        for line in (read_optional(f"{directory}/{resource}.pressure") or "").splitlines():
            kind, *fields = line.split()
            for field in fields:
                if field.startswith("total="):
                    result[f"{resource}_{kind}_us"] = int(field[6:])
    return result
