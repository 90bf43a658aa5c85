# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpu controller: cpu.weight from shares, cpu.max from quota and period."""

from __future__ import annotations

from typing import Any, Optional

from ..files import keyed, read_number, read_optional, write

_PERIOD = 100000


def weight(shares: int) -> int:
    """[2, 262144] onto [1, 10000] in a straight line, as the OCI runtimes have done from the first; 1024 becomes 39.

    Newer ones bend the line so that 1024 becomes 100. Shares are compared between containers, and a host where some
    were started by the one and some by the other formula would weigh them apart, so the older one it is.
    """
    return min(10000, max(1, 1 + (shares - 2) * 9999 // 262142))


def shares(weight: int) -> int:
    """The smallest shares that give this weight."""
    return 2 + -(-(weight - 1) * 262142 // 9999)


def apply(directory: str, resources: dict[str, Any]) -> None:
    cpu = resources.get("cpu") or {}
    # A group that is idle takes no weight, so it wakes before and falls asleep after.
    if cpu.get("idle") == 0:
        write(f"{directory}/cpu.idle", 0)
    if cpu.get("shares"):
        write(f"{directory}/cpu.weight", weight(cpu["shares"]))
    if cpu.get("idle"):
        write(f"{directory}/cpu.idle", cpu["idle"])
    quota, period, burst = cpu.get("quota"), cpu.get("period"), cpu.get("burst")
    if burst is not None:
        write(f"{directory}/cpu.max.burst", 0)  # a quota below the burst is refused
    if quota is not None or period is not None:
        write(f"{directory}/cpu.max", maximum(quota, period, read_optional(f"{directory}/cpu.max")))
    if burst:
        write(f"{directory}/cpu.max.burst", burst, hint="a burst is at most the quota")


def maximum(quota: Optional[int], period: Optional[int], present: Optional[str] = None) -> str:
    """cpu.max; what is not given stays as it is at present."""
    old_quota, old_period = (present or f"max {_PERIOD}").split()
    if quota is not None:
        old_quota = str(quota) if quota > 0 else "max"
    return f"{old_quota} {period or old_period}"


def read(directory: str) -> dict[str, Any]:
    values: dict[str, int] = {}
    number = read_number(f"{directory}/cpu.weight")
    if number is not None:
        values["shares"] = shares(number)
    limit = (read_optional(f"{directory}/cpu.max") or "").split()
    if len(limit) == 2:
        values.update(quota=-1 if limit[0] == "max" else int(limit[0]), period=int(limit[1]))
    return {"cpu": values}


def stats(directory: str) -> dict[str, int]:
    figures = keyed(read_optional(f"{directory}/cpu.stat"))
    names = {
        "cpu_usage_ns": "usage_usec",
        "cpu_user_ns": "user_usec",
        "cpu_system_ns": "system_usec",
        "cpu_throttled_ns": "throttled_usec",
    }
    result = {key: figures[name] * 1000 for key, name in names.items() if name in figures}
    if "nr_throttled" in figures:
        result["cpu_throttled_periods"] = figures["nr_throttled"]
    return result
