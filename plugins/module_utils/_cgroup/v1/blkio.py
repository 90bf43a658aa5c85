# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blkio controller: weight 10 to 1000, throttling of a device in bytes or operations a second."""

from __future__ import annotations

import errno
import os
from typing import Any

from ..._errors import KernelError
from ..files import read_optional, write

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
    for key, name in _THROTTLE.items():
        for entry in block.get(key) or []:
            write(f"{directory}/{name}", f"{entry['major']}:{entry['minor']} {entry['rate']}")


def _weight_file(directory: str) -> str:
    for name in _WEIGHT:
        if os.path.exists(f"{directory}/{name}"):
            return f"{directory}/{name}"
    hint = "this kernel weighs block devices only with the BFQ scheduler, which is not there"
    raise KernelError("find blkio.weight in", directory, errno.ENOENT, hint=hint)


def read(directory: str) -> dict[str, Any]:
    for name in _WEIGHT:
        text = read_optional(f"{directory}/{name}")
        if text:
            # BFQ may print "default 100" when devices have weights of their own
            return {"blockIO": {"weight": int(text.splitlines()[0].split()[-1])}}
    return {}
