# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpuset controller: an empty list means all that the parent has."""

from __future__ import annotations

import os
from typing import Any

from ..._errors import KernelError
from ..cpuset import outside
from ..files import read_optional, write

_FILES = {"cpus": "cpuset.cpus", "mems": "cpuset.mems"}


def apply(directory: str, resources: dict[str, Any]) -> None:
    cpu = resources.get("cpu") or {}
    for key, name in _FILES.items():
        if cpu.get(key) is None:
            continue
        try:
            write(f"{directory}/{name}", cpu[key] or "\n")
        except KernelError as error:
            offered = read_optional(f"{os.path.dirname(directory)}/{name}.effective")
            error.hint = outside(cpu[key], offered) or error.hint
            raise


def read(directory: str) -> dict[str, Any]:
    """Where no list was given, the one that holds: a group with processes can't be given an empty one (ENOSPC)."""
    values = {key: read_optional(f"{directory}/{name}") for key, name in _FILES.items()}
    for key, value in values.items():
        if value is not None and not value.strip():
            values[key] = read_optional(f"{directory}/{_FILES[key]}.effective")
    return {"cpu": {key: value.strip() for key, value in values.items() if value is not None}}
