# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tmpfs driver: memory that several containers share and that survives their restarts, but no reboot."""

from __future__ import annotations

import os

from .._errors import KernelError
from .._kernel import mount as m
from .directory import own, owner_differences
from .model import Difference, Volume


def source(volume: Volume) -> str:
    return f"{volume.home}/data"


def differences(volume: Volume) -> list[Difference]:
    path = source(volume)
    if not os.path.ismount(path):
        return [Difference("tmpfs", "absent", path)]
    found = owner_differences(os.stat(path), volume)
    if volume.size and capacity(path) != _rounded(volume.size):
        found.append(Difference("size", capacity(path), volume.size))
    return found


def ensure(volume: Volume) -> None:
    """Mount it, or give the one that is there the declared size, owner and mode. What is in it stays."""
    path = source(volume)
    os.makedirs(path, exist_ok=True)
    data = f"size={volume.size}" if volume.size else "size=50%"
    if not os.path.ismount(path):
        m.mount("vessel", path, "tmpfs", m.MS_NOSUID | m.MS_NODEV, f"{data},mode=755")
    elif not volume.size or capacity(path) != _rounded(volume.size):
        # The kernel refuses a size below what is used: EINVAL
        try:
            m.mount("none", path, None, m.MS_REMOUNT | m.MS_NOSUID | m.MS_NODEV, data)
        except KernelError as error:
            raise KernelError(
                f"resize tmpfs to {data.partition('=')[2]} on", path, error.errno, hint="more than that is used"
            ) from None
    own(path, volume)


def capacity(path: str) -> int:
    info = os.statvfs(path)
    return info.f_blocks * info.f_frsize


def _rounded(size: int) -> int:
    page = os.sysconf("SC_PAGE_SIZE")
    return -(-size // page) * page


def usage(volume: Volume) -> int:
    info = os.statvfs(source(volume))
    return (info.f_blocks - info.f_bfree) * info.f_frsize


def remove(volume: Volume) -> None:
    path = source(volume)
    if os.path.ismount(path):
        m.umount2(path, 0)
    if os.path.isdir(path):
        os.rmdir(path)
