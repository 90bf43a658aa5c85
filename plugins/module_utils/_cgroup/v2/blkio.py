# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The io controller: weights and limits of a device; named as in v1, since config.json has blockIO for both."""

from __future__ import annotations

import errno
import os
from typing import Any

from ..._errors import KernelError
from ..files import read_optional, write

_LIMITS = {
    "throttleReadBpsDevice": "rbps",
    "throttleWriteBpsDevice": "wbps",
    "throttleReadIOPSDevice": "riops",
    "throttleWriteIOPSDevice": "wiops",
}


def weight(blkio: int) -> int:
    """[10, 1000] onto [1, 10000], as the OCI runtimes do where the kernel has no BFQ."""
    return 1 + (blkio - 10) * 9999 // 990


def apply(directory: str, resources: dict[str, Any]) -> None:
    block = resources.get("blockIO") or {}
    if block.get("weight"):
        _apply_weight(directory, block["weight"])
    for key, name in _LIMITS.items():
        for entry in block.get(key) or []:
            write(f"{directory}/io.max", f"{entry['major']}:{entry['minor']} {name}={entry['rate']}")


def _apply_weight(directory: str, value: int) -> None:
    if os.path.exists(f"{directory}/io.bfq.weight"):
        write(f"{directory}/io.bfq.weight", value)
    elif os.path.exists(f"{directory}/io.weight"):
        write(f"{directory}/io.weight", weight(value))
    else:
        hint = "this kernel weighs block devices neither by BFQ nor by io.cost"
        raise KernelError("find io.weight in", directory, errno.ENOENT, hint=hint)


def read(directory: str) -> dict[str, Any]:
    text = read_optional(f"{directory}/io.bfq.weight")
    if text:
        return {"blockIO": {"weight": int(text.splitlines()[0].split()[-1])}}
    text = read_optional(f"{directory}/io.weight")
    if text:
        value = int(text.splitlines()[0].split()[-1])
        return {"blockIO": {"weight": 10 + -(-(value - 1) * 990 // 9999)}}
    return {}
