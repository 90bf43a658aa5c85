# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpuacct controller: what was used, in nanoseconds (cgroup-v1/cpuacct.rst). It limits nothing."""

from __future__ import annotations

from typing import Any

from ..files import read_number

_FILES = {
    "cpu_usage_ns": "cpuacct.usage",
    "cpu_user_ns": "cpuacct.usage_user",
    "cpu_system_ns": "cpuacct.usage_sys",
}


def apply(directory: str, resources: dict[str, Any]) -> None:
    pass


def read(directory: str) -> dict[str, Any]:
    return {}


def stats(directory: str) -> dict[str, int]:
    figures = {key: read_number(f"{directory}/{name}") for key, name in _FILES.items()}
    return {key: value for key, value in figures.items() if value is not None}
