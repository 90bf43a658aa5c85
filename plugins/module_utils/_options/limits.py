# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates of block devices, limits of huge pages, and what cgroup v2 alone has: options, and their linux.resources."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from .._cgroup import hugetlb
from .._cgroup.manager import controllers, is_unified
from .._errors import OptionError
from .parse import Parser, integer, listing, mapping, parse_path, parse_size, size
from .record import Option, check_each_once, group

Spec = Mapping[str, Any]
# The option's name: the key of config.json's blockIO, or the file of cgroup v2.
RATES = {
    "device_read_bps": "throttleReadBpsDevice",
    "device_write_bps": "throttleWriteBpsDevice",
    "device_read_iops": "throttleReadIOPSDevice",
    "device_write_iops": "throttleWriteIOPSDevice",
}
UNIFIED = {"memory_high": "memory.high", "memory_min": "memory.min", "oom_group": "memory.oom.group"}
_OPERATIONS_MAX = 2**32 - 1  # UINT_MAX, what the kernel takes for no limit (block/blk-throttle.c)
BYTES = (Option("path", parse_path, "path", required=True), Option("rate", size(1), required=True))
OPERATIONS = (
    Option("path", parse_path, "path", required=True),
    Option("rate", integer(1, _OPERATIONS_MAX - 1), "int", required=True),
)


def parse_rates(*options: Option) -> Parser:
    """A parser of a list with path and rate, each path once; the order says nothing."""

    def parse(value: Any, option: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = listing(group(*options))(value, option)
        check_each_once(entries, "path", option)
        return sorted(entries, key=lambda entry: str(entry["path"]))

    return parse


def parse_hugepages(value: Any, option: str) -> dict[str, int]:
    """Bytes by page size; the canonical size is the kernel's word, as 2MB."""
    limits: dict[str, int] = mapping(parse_size, _parse_page)(value, option)
    return limits


def _parse_page(value: Any, option: str) -> str:
    page: int = parse_size(value, option)
    if page < 1 << 12 or page & (page - 1):
        raise OptionError(option, value, "is no size of a page; x86 has 2m and 1g")
    return hugetlb.name(page)


def rates(spec: Spec) -> dict[str, Any]:
    """Of linux.resources.blockIO what is declared."""
    return {key: _entries(option, spec[option]) for option, key in RATES.items() if spec[option]}


def _entries(option: str, rates: list[dict[str, Any]]) -> list[dict[str, int]]:
    known: dict[tuple[int, int], str] = {}
    for index, one in enumerate(rates):
        where, path = f"{option}[{index}].path", one["path"]
        disk = _disk(where, path)
        if disk in known:
            raise OptionError(where, path, f"is the same disk as {known[disk]}; give it one rate")
        known[disk] = path
    return [{"major": disk[0], "minor": disk[1], "rate": one["rate"]} for disk, one in zip(known, rates)]


def _disk(option: str, path: str) -> tuple[int, int]:
    """Major and minor of a whole disk: of a part of one the kernel keeps no account."""
    try:
        info = os.stat(path)
    except OSError:
        raise OptionError(option, path, "is not there on this host") from None
    if not stat.S_ISBLK(info.st_mode):
        raise OptionError(option, path, "is no block device; lsblk shows those that there are")
    major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
    if os.path.exists(f"/sys/dev/block/{major}:{minor}/partition"):
        disk = os.path.basename(os.path.dirname(os.path.realpath(f"/sys/dev/block/{major}:{minor}")))
        raise OptionError(option, path, f"is a partition, and the kernel limits whole disks; name /dev/{disk}")
    return major, minor


def hugepages(spec: Spec) -> list[dict[str, Any]]:
    """linux.resources.hugepageLimits."""
    return [{"pageSize": name, "limit": limit} for name, limit in spec["hugepage_limits"].items()]


def unified(spec: Spec) -> dict[str, str]:
    """linux.resources.unified."""
    return {file: str(int(spec[option])) for option, file in UNIFIED.items() if spec[option]}


def check(spec: Spec) -> None:
    """Refuse what this host does not have."""
    for option in UNIFIED:
        if spec[option] and not is_unified():
            raise OptionError(option, spec[option], "needs cgroup v2, and this host has v1; leave the option out")
    for name, limit in spec["hugepage_limits"].items():
        option = f"hugepage_limits.{name}"
        if name not in hugetlb.sizes():
            have = ", ".join(hugetlb.sizes()) or "none"
            raise OptionError(option, limit, f"is for pages of a size that this kernel does not have; it has {have}")
        if "hugetlb" not in controllers():
            raise OptionError(option, limit, "needs the cgroup controller hugetlb, which is not there on this host")
        if limit % hugetlb.sizes()[name]:
            raise OptionError(option, limit, f"is no multiple of {name}; the kernel counts whole pages")
