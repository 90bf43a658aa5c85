# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpu controller: cpu.weight from shares, cpu.max from quota and period."""

from __future__ import annotations

from typing import Any

from ..files import keyed, read_number, read_optional, write


def weight(shares: int) -> int:
    """[2, 262144] onto [1, 10000], as the OCI runtimes agreed on first; 1024 becomes 39."""
    return 1 + ((shares - 2) * 9999) // 262142


def shares(weight: int) -> int:
    """The smallest shares that give this weight."""
    return 2 + -(-(weight - 1) * 262142 // 9999)


def apply(directory: str, resources: dict[str, Any]) -> None:
    cpu = resources.get("cpu") or {}
    if cpu.get("shares") is not None:
        write(f"{directory}/cpu.weight", weight(cpu["shares"]))
    if cpu.get("idle") is not None:
        write(f"{directory}/cpu.idle", cpu["idle"])
    if cpu.get("quota") is not None or cpu.get("period") is not None:
        quota = cpu.get("quota") or -1
        write(f"{directory}/cpu.max", f"{'max' if quota < 0 else quota} {cpu.get('period') or 100000}")
    if cpu.get("burst") is not None:
        write(f"{directory}/cpu.max.burst", cpu["burst"])


def read(directory: str) -> dict[str, Any]:
    values: dict[str, int] = {}
    number = read_number(f"{directory}/cpu.weight")
    if number is not None:
        values["shares"] = shares(number)
    maximum = (read_optional(f"{directory}/cpu.max") or "").split()
    if len(maximum) == 2:
        values.update(quota=-1 if maximum[0] == "max" else int(maximum[0]), period=int(maximum[1]))
    return {"cpu": values}


def stats(directory: str) -> dict[str, int]:
    figures = keyed(read_optional(f"{directory}/cpu.stat"))
    names = {"cpu_usage_ns": "usage_usec", "cpu_throttled_ns": "throttled_usec"}
    return {key: figures[name] * 1000 for key, name in names.items() if name in figures}
