# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""syncfs(2): a whole file system on the disk, where an fsync for each of many new files would take minutes."""

from __future__ import annotations

import os

from .libc import libc, oserror


def syncfs(path: str) -> None:
    """All that was written to the file system that holds ``path``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd) < 0:
            oserror("syncfs", path)
    finally:
        os.close(fd)
