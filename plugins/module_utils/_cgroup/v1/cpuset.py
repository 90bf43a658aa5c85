# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpuset controller: lists of cores and memory nodes (cpuset(7))."""

from __future__ import annotations

import os
from typing import Any

from ..._errors import KernelError
from ..cpuset import outside
from ..files import read as read_file
from ..files import read_optional, write

_FILES = {"cpus": "cpuset.cpus", "mems": "cpuset.mems"}


def inherit(directory: str, top: str) -> None:
    """A new group is empty and takes no process: give it what its parent has, which a killed process may have left
    empty too."""
    for name in _FILES.values():
        _inherit(directory, top, name)


def _inherit(directory: str, top: str, name: str) -> str:
    value = read_file(f"{directory}/{name}")
    if not value and len(directory) > len(top):
        value = _inherit(os.path.dirname(directory), top, name)
        write(f"{directory}/{name}", value)
    return value


def apply(directory: str, resources: dict[str, Any]) -> None:
    cpu = resources.get("cpu") or {}
    for key, name in _FILES.items():
        if cpu.get(key) is None:
            continue
        parent = f"{os.path.dirname(directory)}/{name}"
        # An empty list means all that the parent has; the file itself does not take it.
        value = cpu[key] or read_file(parent)
        try:
            write(f"{directory}/{name}", value)
        except KernelError as error:
            error.hint = outside(value, read_optional(parent)) or error.hint
            raise


def read(directory: str) -> dict[str, Any]:
    values = {key: read_optional(f"{directory}/{name}") for key, name in _FILES.items()}
    return {"cpu": {key: value for key, value in values.items() if value is not None}}
