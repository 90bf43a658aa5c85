# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controllers net_cls and net_prio: a mark for packets, a priority for each link. v2 has neither."""

from __future__ import annotations

from typing import Any

from ..files import write


def apply_class(directory: str, resources: dict[str, Any]) -> None:
    network = resources.get("network") or {}
    if network.get("classID") is not None:
        write(f"{directory}/net_cls.classid", network["classID"])


def apply_priorities(directory: str, resources: dict[str, Any]) -> None:
    for entry in (resources.get("network") or {}).get("priorities") or []:
        write(f"{directory}/net_prio.ifpriomap", f"{entry['name']} {entry['priority']}")
