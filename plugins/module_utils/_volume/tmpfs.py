# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tmpfs driver: memory that several containers share and that survives their restarts, but no reboot."""

from __future__ import annotations

import os
from typing import Optional

from .._errors import KernelError, StateError
from .._kernel import mount as m
from .directory import own, owner_differences
from .model import Difference, Volume

FSTYPE = "tmpfs"
# Where a device stands in mountinfo, by which it is known again.
DEVICE = "vessel"


def source(volume: Volume) -> str:
    return f"{volume.home}/data"


def mounted_type(volume: Volume) -> Optional[str]:
    return FSTYPE


def differences(volume: Volume) -> list[Difference]:
    path = source(volume)
    kind = m.mounted(path)
    if kind != "tmpfs":
        return [Difference("tmpfs", kind or "absent", path)]
    found = owner_differences(os.stat(path), volume)
    if capacity(path) != _expected(volume):
        found.append(Difference("size", capacity(path), volume.size))
    return found


def ensure(volume: Volume) -> None:
    """Mount it, or give the one that is there the declared size, owner and mode. What is in it stays."""
    path = source(volume)
    os.makedirs(path, exist_ok=True)
    kind = m.mounted(path)
    if kind not in ("", "tmpfs"):
        raise StateError(f"volume {volume.name}: {path} has {kind} mounted on it", hint="unmount it, and try again")
    data = f"size={volume.size or '50%'}"
    if not kind:
        m.mount(DEVICE, path, "tmpfs", m.MS_NOSUID | m.MS_NODEV, f"{data},mode=755")
    elif capacity(path) != _expected(volume):
        # The kernel refuses a size below what is used: EINVAL
        try:
            m.mount("none", path, None, m.MS_REMOUNT | m.MS_NOSUID | m.MS_NODEV, data)
        except KernelError as error:
            words, hint = f"resize tmpfs to {volume.size or '50%'} on", "more than that is used"
            raise KernelError(words, path, error.errno, hint=hint) from None
    own(path, volume)


def capacity(path: str) -> int:
    info = os.statvfs(path)
    return info.f_blocks * info.f_frsize


def _expected(volume: Volume) -> int:
    """As the kernel rounds it: to whole pages, and half of the memory where nothing is declared (tmpfs(5))."""
    page = os.sysconf("SC_PAGE_SIZE")
    size = volume.size or os.sysconf("SC_PHYS_PAGES") * page // 2
    return -(-size // page) * page


def usage(volume: Volume) -> int:
    info = os.statvfs(source(volume))
    return (info.f_blocks - info.f_bfree) * info.f_frsize


def remove(volume: Volume) -> None:
    path = source(volume)
    while m.mounted(path) == "tmpfs":
        m.umount2(path, m.UMOUNT_NOFOLLOW)
    if os.path.isdir(path):
        os.rmdir(path)
