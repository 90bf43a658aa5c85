# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpu controller: shares relative to 1024, quota and period in microseconds (scheduler/sched-bwc.rst)."""

from __future__ import annotations

from typing import Any

from ..files import keyed, read_number, read_optional, write

_FILES = {
    "shares": "cpu.shares",
    "burst": "cpu.cfs_burst_us",
    "period": "cpu.cfs_period_us",
    "quota": "cpu.cfs_quota_us",
    "realtimePeriod": "cpu.rt_period_us",
    "realtimeRuntime": "cpu.rt_runtime_us",
    "idle": "cpu.idle",
}


def apply(directory: str, resources: dict[str, Any]) -> None:
    cpu = resources.get("cpu") or {}
    # A burst above the quota is refused, and a period below it too: none of them limits while the quota is off.
    if cpu.get("quota") is not None and cpu.get("period") is not None:
        write(f"{directory}/{_FILES['quota']}", -1)
    for key, name in _FILES.items():
        if cpu.get(key) is not None:
            write(f"{directory}/{name}", cpu[key])


def read(directory: str) -> dict[str, Any]:
    values = {key: read_number(f"{directory}/{_FILES[key]}") for key in ("shares", "quota", "period")}
    return {"cpu": {key: value for key, value in values.items() if value is not None}}


def stats(directory: str) -> dict[str, int]:
    """Of the cpuacct controller, which may be mounted by itself."""
    usage = read_number(f"{directory}/cpuacct.usage")
    throttled = keyed(read_optional(f"{directory}/cpu.stat")).get("throttled_time")
    figures = {"cpu_usage_ns": usage, "cpu_throttled_ns": throttled}
    return {key: value for key, value in figures.items() if value is not None}
