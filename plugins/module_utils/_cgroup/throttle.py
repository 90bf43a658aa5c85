# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates of block devices as config.json has them in blockIO: a list for each key, of major, minor and rate."""

from __future__ import annotations

from typing import Any

KEYS = ("throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice")
Entries = list[dict[str, int]]


def entry(device: str, rate: int) -> dict[str, int]:
    """``device`` is MAJOR:MINOR, as the kernel writes it."""
    major, dummy, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor), "rate": rate}


def ordered(entries: Entries) -> Entries:
    """By device, for the order says nothing."""
    return sorted(entries, key=_device)


def lifted(present: Entries, wanted: Entries) -> Entries:
    """Devices that have a rate and shall have none: 0 is no limit."""
    kept = {_device(one) for one in wanted}
    return [{**one, "rate": 0} for one in present if _device(one) not in kept]


def _device(one: dict[str, Any]) -> tuple[int, int]:
    return one["major"], one["minor"]
