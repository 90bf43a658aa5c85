# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is run on a host, on its Python, to read on in a progress file (_image/progress.py): see following.py."""

from __future__ import annotations

import fcntl
import os
import sys
import time

MOST = 1 << 16
TICK = 0.1


def where(root: str, token: str) -> str:
    """The file, as Paths.at() has it."""
    root = os.path.expanduser(os.path.expandvars(root)) or os.environ.get("VESSEL_ROOT", "")
    run = "/run/vessel" if root in ("", "/") else os.path.realpath(root) + "/run"
    return run + "/progress/" + token


def poll(path: str, at: int, patience: float) -> tuple[int, bytes]:
    """(where to read on, lines), as soon as there is anything after ``at``; (-1, nothing) where nobody writes."""
    end = time.monotonic() + patience
    while True:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1, b""
        try:
            size = os.fstat(fd).st_size
            start = 0 if size < at else max(at, size - MOST)  # it begins anew when it is full
            if size > start:
                data = os.pread(fd, MOST, start)
                return start + len(data), data
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return -1, b""  # a killed process left it
        except BlockingIOError:
            if time.monotonic() > end:
                return start, b""
        finally:
            os.close(fd)
        time.sleep(TICK)


if __name__ == "__main__":
    at, data = poll(where(*sys.argv[1:3]), int(sys.argv[3]), float(sys.argv[4]))
    sys.stdout.buffer.write(b"%d\n" % at + data)
