# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/dev/kmsg: what the kernel said lately (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_LARGEST = 8192  # a record; read() gives one


def messages(since: float, *, path: str = "/dev/kmsg") -> Iterator[str]:
    """Messages of the kernel that are not older than ``since``, seconds after boot; none where it may not be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        while True:
            try:
                record = os.read(fd, _LARGEST)
            except OSError as error:
                if error.errno == errno.EPIPE:
                    continue  # it was overwritten meanwhile; the next read gives the oldest that is left
                return
            if not record:
                return
            head, dummy, message = record.partition(b";")
            fields = head.split(b",")
            if len(fields) > 2 and int(fields[0]) < 8 and int(fields[2]) >= since * 1_000_000:
                yield message.partition(b"\n")[0].decode("utf-8", "replace")
    finally:
        os.close(fd)
