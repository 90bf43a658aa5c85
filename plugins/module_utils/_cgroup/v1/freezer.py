# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The freezer controller (cgroup-v1/freezer-subsystem.rst)."""

from __future__ import annotations

import errno
import time

from ..._errors import KernelError
from ..files import read_optional, write

_ROUNDS = 2000


def freeze(directory: str, frozen: bool) -> None:
    """Return when the kernel says that the last process has stopped, or runs again."""
    state = "FROZEN" if frozen else "THAWED"
    for attempt in range(_ROUNDS):
        # Written again each time: a process that forked while the group was freezing may have slipped through.
        write(f"{directory}/freezer.state", state)
        if read_optional(f"{directory}/freezer.state") == state:
            return
        if attempt % 50 == 49:
            # One that waits for another that is frozen already can't stop; let all go on for a moment.
            write(f"{directory}/freezer.state", "THAWED")
        time.sleep(0.001)
    write(f"{directory}/freezer.state", "THAWED")  # half frozen is worse than not
    raise KernelError("freeze" if frozen else "thaw", directory, errno.ETIMEDOUT)


def frozen(directory: str) -> bool:
    return read_optional(f"{directory}/freezer.state") in ("FROZEN", "FREEZING")
