# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpuset controller: an empty list means all that the parent has."""

from __future__ import annotations

from typing import Any

from ..files import read_optional, write

_FILES = {"cpus": "cpuset.cpus", "mems": "cpuset.mems"}


def apply(directory: str, resources: dict[str, Any]) -> None:
    cpu = resources.get("cpu") or {}
    for key, name in _FILES.items():
        if cpu.get(key) is not None:
            write(f"{directory}/{name}", cpu[key] or "\n")


def read(directory: str) -> dict[str, Any]:
    values = {key: read_optional(f"{directory}/{name}") for key, name in _FILES.items()}
    return {"cpu": {key: value.strip() for key, value in values.items() if value is not None}}
