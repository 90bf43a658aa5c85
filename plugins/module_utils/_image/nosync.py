# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs whose fsync(2) and its like do nothing.

A package manager asks for the disk thousands of times, so that a power cut finds the system old or new. What fills a
layer needs none of it: what is half made is thrown away, and a whole layer is brought to the disk once, by syncfs(2).
"""

from __future__ import annotations

import platform
from typing import Any

# What does not come from a program's memory but from its disk is left alone: O_SYNC is a way of writing, not a call.
CALLS = ("fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "sync_file_range2", "msync")
# A host runs programs of these too; a filter ends those that it does not know.
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def rule() -> dict[str, Any]:
    """As in linux.seccomp.syscalls: the calls return 0 and are not made."""
    return {"names": list(CALLS), "action": "SCMP_ACT_ERRNO", "errnoRet": 0}


def profile() -> dict[str, Any]:
    """As linux.seccomp: all else is allowed."""
    found: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule()]}
    if platform.machine() in _ARCHITECTURES:
        found["architectures"] = _ARCHITECTURES[platform.machine()]
    return found


def without_sync(other: dict[str, Any]) -> dict[str, Any]:
    """The profile, in which these calls do nothing."""
    kept = [{**entry, "names": [name for name in entry["names"] if name not in CALLS]} for entry in other["syscalls"]]
    return {**other, "syscalls": [rule(), *(entry for entry in kept if entry["names"])]}
