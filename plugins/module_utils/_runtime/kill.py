# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill: a signal to the container's first process, or to all of them."""

from __future__ import annotations

import os

from .._errors import StateError
from .._kernel.process import send
from .state import load


def kill(root: str, container: str, signal: int, *, all: bool = False) -> None:
    state = load(root, container)
    if all:
        state.manager().kill(signal)
        return
    fd = state.pidfd()
    if fd < 0:
        raise StateError(f"container {container} is stopped; there is nothing to signal")
    try:
        send(fd, signal)
    finally:
        os.close(fd)
