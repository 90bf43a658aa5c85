# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that is surely the one that is meant: by its number and the moment it began."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Optional

Identity = tuple[int, str]  # pid, and starttime of proc_pid_stat(5)


def identify(pid: int) -> Optional[Identity]:
    """None when there is none; a zombie has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (pid, fields[19])


def is_alive(identity: Identity) -> bool:
    return identify(identity[0]) == tuple(identity)


def has_argument(pid: int, argument: str) -> bool:
    """Was it started with this among its arguments?"""
    try:
        return argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def wait(identity: Identity, timeout: float) -> bool:
    """Has it ended within the seconds? It need not be our child."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(identity[0])
        try:
            if is_alive(identity):
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                return bool(poll.poll(timeout * 1000))
        finally:
            os.close(handle)
    return True


def kill(identity: Identity) -> None:
    """SIGKILL, and wait for the end. By a pidfd: between look and signal the number may have become another's."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(identity[0])
        try:
            if is_alive(identity):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
    wait(identity, 30)
