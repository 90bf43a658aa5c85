# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a process is: user and group names looked up in the image, which is not mounted and may be hostile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .._errors import KernelError, OptionError
from .._kernel.openat2 import open_in_root, open_root

# passwd and group of an image are small; more than this is an attempt to make us read for ever.
_READ_MAX = 4 << 20


@dataclass(frozen=True)
class Identity:
    """Numbers for config.json's process.user, and where its home is."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/root"


def read_file(directories: Sequence[str], path: str) -> str:
    """A file of the union of ``directories``, the topmost first; empty where there is none.

    A symlink is followed within its own layer only: enough for the files that are read here.
    """
    for directory in directories:
        try:
            root = open_root(directory)
        except KernelError:
            continue
        try:
            fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ELOOP, errno.EACCES):
                continue
            raise
        finally:
            os.close(root)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return ""
        # overlayfs marks a file that a layer took away with a device 0/0; opening that gave ENXIO.
        with os.fdopen(fd, "rb") as file:
            return file.read(_READ_MAX).decode("utf-8", "replace")
    return ""


def _rows(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= fields and not line.startswith("#"):
            yield parts


def _find_user(passwd: str, user: str) -> list[str] | None:
    column = 2 if user.isdecimal() else 0
    return next(
        (row for row in _rows(passwd, 6) if row[column] == user and row[2].isdecimal() and row[3].isdecimal()), None
    )


def _find_group(groups: str, group: str, option: str) -> int:
    if group.isdecimal():
        return int(group)
    row = next((row for row in _rows(groups, 3) if row[0] == group and row[2].isdecimal()), None)
    if row is None:
        raise OptionError(option, group, "is no group in the image's /etc/group; use one of its names, or a number")
    return int(row[2])


def resolve(user: str, extra: Sequence[str], passwd: str, groups: str) -> Identity:
    """``user`` is USER[:GROUP], names or numbers, empty for root; ``extra`` are supplementary groups."""
    name, dummy, group = (user or "0").partition(":")
    row = _find_user(passwd, name)
    if row is None and not name.isdecimal():
        raise OptionError("user", user, "is no user in the image's /etc/passwd; use one of its names, or a number")
    uid = int(row[2]) if row else int(name)
    gid = _find_group(groups, group, "user") if group else int(row[3]) if row else 0
    supplementary = {_find_group(groups, item, "groups") for item in extra}
    if row and not group:
        supplementary |= {int(r[2]) for r in _rows(groups, 4) if r[2].isdecimal() and row[0] in r[3].split(",")}
    home = row[5] if row and row[5].startswith("/") else "/root" if uid == 0 else "/"
    return Identity(uid, gid, tuple(sorted(supplementary - {gid})), home)
