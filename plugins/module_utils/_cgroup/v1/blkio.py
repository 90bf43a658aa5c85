# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blkio controller: weight 10 to 1000, throttling of a device in bytes or operations a second."""

from __future__ import annotations

import errno
import os
from typing import Any

from ..._errors import KernelError
from .. import throttle
from ..files import read_optional, write

# BFQ's since 5.0; before, those of CFQ.
_WEIGHT = ("blkio.bfq.weight", "blkio.weight")
_THROTTLE = {
    "throttleReadBpsDevice": "blkio.throttle.read_bps_device",
    "throttleWriteBpsDevice": "blkio.throttle.write_bps_device",
    "throttleReadIOPSDevice": "blkio.throttle.read_iops_device",
    "throttleWriteIOPSDevice": "blkio.throttle.write_iops_device",
}


def apply(directory: str, resources: dict[str, Any]) -> None:
    block = resources.get("blockIO") or {}
    if block.get("weight"):
        write(_weight_file(directory), block["weight"])
    for entry in block.get("weightDevice") or []:
        if entry.get("weight"):
            write(f"{_weight_file(directory)}_device", f"{entry['major']}:{entry['minor']} {entry['weight']}")
    for key, name in _THROTTLE.items():
        for entry in block.get(key) or []:
            write(f"{directory}/{name}", f"{entry['major']}:{entry['minor']} {entry['rate']}")


def _weight_file(directory: str) -> str:
    for name in _WEIGHT:
        if os.path.exists(f"{directory}/{name}"):
            return f"{directory}/{name}"
    hint = "blkio_weight needs a kernel with the BFQ scheduler (CONFIG_BFQ_GROUP_IOSCHED), which this one lacks"
    raise KernelError("find blkio.bfq.weight in", directory, errno.ENOENT, hint=hint)


def read(directory: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in _WEIGHT:
        text = read_optional(f"{directory}/{name}")
        if text:
            # BFQ may print "default 100" when devices have weights of their own
            values["weight"] = int(text.splitlines()[0].split()[-1])
            break
    for key, name in _THROTTLE.items():
        text = read_optional(f"{directory}/{name}")
        if text is not None:
            lines = [line.split() for line in text.splitlines()]
            values[key] = throttle.ordered([throttle.entry(device, int(rate)) for device, rate in lines])
    return {"blockIO": values} if values else {}


def stats(directory: str) -> dict[str, int]:
    """Lines of "MAJ:MIN Read N", for every device and operation."""
    totals = {"Read": 0, "Write": 0}
    for line in (read_optional(f"{directory}/blkio.throttle.io_service_bytes_recursive") or "").splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in totals:
            totals[words[1]] += int(words[2])
    return {"io_read_bytes": totals["Read"], "io_write_bytes": totals["Write"]}
