# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The io controller: weights and limits of a device; named as in v1, since config.json has blockIO for both."""

from __future__ import annotations

import errno
import os
from typing import Any

from ..._errors import KernelError
from .. import throttle
from ..files import read_optional, write

_LIMITS = {
    "throttleReadBpsDevice": "rbps",
    "throttleWriteBpsDevice": "wbps",
    "throttleReadIOPSDevice": "riops",
    "throttleWriteIOPSDevice": "wiops",
}


_DEFAULT = 100  # io.weight of a group that was given none


def weight(blkio: int) -> int:
    """[10, 1000] onto [1, 10000], as the OCI runtimes do where the kernel has no BFQ.

    The kernel's own default lies between two steps; the one that it is read as leads back to it.
    """
    return _DEFAULT if blkio == _step(_DEFAULT) else 1 + (blkio - 10) * 9999 // 990


def blkio(weight: int) -> int:
    """The smallest blkio weight that gives this io.weight."""
    return _step(weight)


def _step(weight: int) -> int:
    return 10 + -(-(weight - 1) * 990 // 9999)


def apply(directory: str, resources: dict[str, Any]) -> None:
    block = resources.get("blockIO") or {}
    if block.get("weight"):
        _apply_weight(directory, block["weight"])
    for entry in block.get("weightDevice") or []:
        if entry.get("weight"):
            _apply_weight(directory, entry["weight"], device=f"{entry['major']}:{entry['minor']} ")
    for key, name in _LIMITS.items():
        for entry in block.get(key) or []:
            # 0 is no limit in config.json, and refused in io.max
            write(f"{directory}/io.max", f"{entry['major']}:{entry['minor']} {name}={entry['rate'] or 'max'}")


def _apply_weight(directory: str, value: int, device: str = "") -> None:
    if os.path.exists(f"{directory}/io.bfq.weight"):
        write(f"{directory}/io.bfq.weight", f"{device}{value}")
    elif os.path.exists(f"{directory}/io.weight"):
        write(f"{directory}/io.weight", f"{device}{weight(value)}")
    else:
        hint = "blkio_weight needs a kernel with BFQ (CONFIG_BFQ_GROUP_IOSCHED) or io.cost, and this one has neither"
        raise KernelError("find io.weight in", directory, errno.ENOENT, hint=hint)


def read(directory: str) -> dict[str, Any]:
    values = {**_read_weight(directory), **_read_limits(directory)}
    return {"blockIO": values} if values else {}


def _read_weight(directory: str) -> dict[str, int]:
    text = read_optional(f"{directory}/io.bfq.weight")
    if text:
        return {"weight": _default(text)}
    text = read_optional(f"{directory}/io.weight")
    return {"weight": blkio(_default(text))} if text else {}


def _read_limits(directory: str) -> dict[str, throttle.Entries]:
    """Lines of "MAJ:MIN rbps=N wbps=max …", one a device that has a limit."""
    text = read_optional(f"{directory}/io.max")
    if text is None:
        return {}
    found: dict[str, throttle.Entries] = {key: [] for key in _LIMITS}
    for line in text.splitlines():
        device, *words = line.split()
        values = dict(word.split("=") for word in words)
        for key, name in _LIMITS.items():
            if values.get(name, "max") != "max":
                found[key].append(throttle.entry(device, int(values[name])))
    return {key: throttle.ordered(entries) for key, entries in found.items()}


def _default(text: str) -> int:
    """Of "default 100", then lines for devices that have weights of their own."""
    return int(text.splitlines()[0].split()[-1])


def stats(directory: str) -> dict[str, int]:
    """Lines of "MAJ:MIN rbytes=N wbytes=N …", one a device."""
    totals = {"rbytes": 0, "wbytes": 0}
    for word in (read_optional(f"{directory}/io.stat") or "").split():
        name, dummy, number = word.partition("=")
        if name in totals:
            totals[name] += int(number)
    return {"io_read_bytes": totals["rbytes"], "io_write_bytes": totals["wbytes"]}
