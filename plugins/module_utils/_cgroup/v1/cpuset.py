# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpuset controller: lists of cores and memory nodes (cpuset(7))."""

from __future__ import annotations

import os
from typing import Any

from ..files import read as read_file
from ..files import read_optional, write

_FILES = {"cpus": "cpuset.cpus", "mems": "cpuset.mems"}


def inherit(directory: str, made: list[str]) -> None:
    """Give each new group what its parent has; also an older one that was left empty by a killed process."""
    for path in made if directory in made else [*made, directory]:
        for name in _FILES.values():
            if not read_file(f"{path}/{name}"):
                write(f"{path}/{name}", read_file(f"{os.path.dirname(path)}/{name}"))


def apply(directory: str, resources: dict[str, Any]) -> None:
    cpu = resources.get("cpu") or {}
    for key, name in _FILES.items():
        value = cpu.get(key)
        if value is not None:
            # An empty list means all that the parent has; the file itself does not take it.
            write(f"{directory}/{name}", value or read_file(f"{os.path.dirname(directory)}/{name}"))


def read(directory: str) -> dict[str, Any]:
    values = {key: read_optional(f"{directory}/{name}") for key, name in _FILES.items()}
    return {"cpu": {key: value for key, value in values.items() if value is not None}}
