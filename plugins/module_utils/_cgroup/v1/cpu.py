# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpu controller: shares relative to 1024, quota and period in microseconds (scheduler/sched-bwc.rst)."""

from __future__ import annotations

import errno
from typing import Any

from ..._errors import KernelError
from ..files import keyed, read_number, read_optional, write

_REALTIME_HINT = "real-time time comes out of the parent's; give cpu.rt_runtime_us there first"


def apply(directory: str, resources: dict[str, Any]) -> None:
    cpu = resources.get("cpu") or {}
    # A group that is idle takes no shares, so it wakes before and falls asleep after.
    if cpu.get("idle") == 0:
        write(f"{directory}/cpu.idle", 0)
    if cpu.get("shares") is not None:
        write(f"{directory}/cpu.shares", cpu["shares"])
    if cpu.get("idle"):
        write(f"{directory}/cpu.idle", cpu["idle"])
    _apply_bandwidth(directory, cpu)
    for key, name in (("realtimePeriod", "cpu.rt_period_us"), ("realtimeRuntime", "cpu.rt_runtime_us")):
        if cpu.get(key) is not None:
            write(f"{directory}/{name}", cpu[key], hint=_REALTIME_HINT)


def _apply_bandwidth(directory: str, cpu: dict[str, Any]) -> None:
    quota, period, burst = cpu.get("quota"), cpu.get("period"), cpu.get("burst")
    if burst is not None:
        write(f"{directory}/cpu.cfs_burst_us", 0)  # a quota below the burst is refused
    if period is not None and not _take_period(directory, period, final=quota is None):
        write(f"{directory}/cpu.cfs_quota_us", quota)
        _take_period(directory, period, final=True)
    elif quota is not None:
        write(f"{directory}/cpu.cfs_quota_us", quota)
    if burst:
        write(f"{directory}/cpu.cfs_burst_us", burst, hint="a burst is at most the quota")


def _take_period(directory: str, period: int, *, final: bool) -> bool:
    """The old quota in the new period may be more than the parent has; the new quota may help, so it is tried first."""
    try:
        write(
            f"{directory}/cpu.cfs_period_us", period, hint="a period is 1000 to 1000000, a quota at most the parent's"
        )
        return True
    except KernelError as error:
        if final or error.errno != errno.EINVAL:
            raise
        return False


def read(directory: str) -> dict[str, Any]:
    values = {
        "shares": read_number(f"{directory}/cpu.shares"),
        "quota": read_number(f"{directory}/cpu.cfs_quota_us"),
        "period": read_number(f"{directory}/cpu.cfs_period_us"),
    }
    return {"cpu": {key: value for key, value in values.items() if value is not None}}


def stats(directory: str) -> dict[str, int]:
    """Of how often the quota stopped it."""
    figures = keyed(read_optional(f"{directory}/cpu.stat"))
    names = {"cpu_throttled_ns": "throttled_time", "cpu_throttled_periods": "nr_throttled"}
    return {key: figures[name] for key, name in names.items() if name in figures}
