# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory driver: a directory of the store."""

from __future__ import annotations

import os
import stat
from typing import Optional

from .._errors import KernelError
from .._kernel.file import remove_tree
from .model import Difference, Volume


def source(volume: Volume) -> str:
    """What is bound into containers."""
    return f"{volume.home}/data"


def mounted_type(volume: Volume) -> Optional[str]:
    """The type of file system that must be mounted there before it is used; empty for any, None for none."""
    return None


def differences(volume: Volume) -> list[Difference]:
    try:
        info = os.stat(source(volume))
    except FileNotFoundError:
        return [Difference("directory", "absent", source(volume))]
    return owner_differences(info, volume)


def owner_differences(info: os.stat_result, volume: Volume) -> list[Difference]:
    found = []
    pairs = (("owner", info.st_uid, volume.uid), ("group", info.st_gid, volume.gid))
    found += [Difference(what, before, after) for what, before, after in pairs if after not in (None, before)]
    if volume.mode is not None and stat.S_IMODE(info.st_mode) != volume.mode:
        found.append(Difference("mode", f"{stat.S_IMODE(info.st_mode):04o}", f"{volume.mode:04o}"))
    return found


def ensure(volume: Volume) -> None:
    """Make it, or give it the declared owner and mode; what is in it is not touched."""
    os.makedirs(source(volume), exist_ok=True)
    own(source(volume), volume)


def own(path: str, volume: Volume) -> None:
    try:
        if (volume.uid, volume.gid) != (None, None):  # else nobody's: a read-only one could not even be left as it is
            os.chown(path, *(-1 if wanted is None else wanted for wanted in (volume.uid, volume.gid)))
        if volume.mode is not None:
            os.chmod(path, volume.mode)
    except OSError as error:
        raise KernelError("chown", path, error.errno or 0) from None


def usage(volume: Volume) -> int:
    """Bytes on the disk."""
    total, seen = 0, set()
    for directory, dummy, files in os.walk(source(volume)):
        for name in files:
            try:
                info = os.lstat(f"{directory}/{name}")
            except FileNotFoundError:
                continue  # its containers go on meanwhile
            if info.st_nlink == 1 or info.st_ino not in seen:
                seen.add(info.st_ino)
                total += info.st_blocks * 512
    return total


def remove(volume: Volume) -> None:
    """The data goes with it."""
    remove_tree(source(volume))
