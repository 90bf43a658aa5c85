# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cgroup.freeze (Linux 5.2)."""

from __future__ import annotations

import errno
import time

from ..._errors import KernelError
from ..files import keyed, read_optional, write

_ROUNDS = 2000


def freeze(directory: str, frozen: bool) -> None:
    """Return when cgroup.events says so."""
    write(f"{directory}/cgroup.freeze", int(frozen), hint="it needs Linux 5.2")
    for dummy in range(_ROUNDS):
        if keyed(read_optional(f"{directory}/cgroup.events")).get("frozen", int(frozen)) == int(frozen):
            return
        time.sleep(0.001)
    write(f"{directory}/cgroup.freeze", 0)  # half frozen is worse than not
    raise KernelError("freeze" if frozen else "thaw", directory, errno.ETIMEDOUT)


def frozen(directory: str) -> bool:
    return read_optional(f"{directory}/cgroup.freeze") == "1"
