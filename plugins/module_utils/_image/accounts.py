# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of an image, whose files nobody vouches for: passwd(5) and group(5)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Optional

from .._errors import KernelError
from .._kernel.openat2 import open_in_root

# passwd and group of an image are small; more than this is an attempt to make us read for ever.
_READ_MAX = 4 << 20
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ELOOP, errno.EACCES)


def read(root: int, path: str) -> Optional[str]:
    """A file below the root; empty where something else has the name, None where nothing has."""
    try:
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except KernelError as error:
        if error.errno in _ABSENT:
            return None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return ""
    # overlayfs marks a file that a layer took away with a device 0/0; opening that gave ENXIO.
    with os.fdopen(fd, "rb") as file:
        return file.read(_READ_MAX).decode("utf-8", "replace")


def rows(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= fields and not line.startswith("#"):
            yield parts


def is_id(text: str) -> bool:
    """A number that a user or a group can have."""
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**32 - 1


def find_user(passwd: str, user: str) -> Optional[list[str]]:
    """The row of a user by name or number."""
    column = 2 if user.isdecimal() else 0
    return next((row for row in rows(passwd, 6) if row[column] == user and is_id(row[2]) and is_id(row[3])), None)


def find_group(groups: str, group: str) -> Optional[int]:
    """The number of a group by name or number."""
    if is_id(group):
        return int(group)
    return next((int(row[2]) for row in rows(groups, 3) if row[0] == group and is_id(row[2])), None)
