# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process that is watched through its pidfd: a child of ours, or one that was adopted."""

from __future__ import annotations

import os
import time
from typing import Optional

from .._kernel import process
from .._kernel.pidfd import foreign_exit_code, own_exit_code


class Watched:
    """Owns the pidfd. ``pid`` is for messages and for /proc; signals go through the pidfd, which can't be mistaken."""

    def __init__(self, pid: int, pidfd: int, start_time: int = 0) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.start_time = start_time

    def signal(self, number: int) -> None:
        process.send(self.pidfd, number)

    def reap(self) -> Optional[int]:
        """The exit code of a process whose pidfd is readable: 128 + n for signal n; None when nobody can tell.

        Of a process that is not our child /proc has it until its parent reaps it, and the pidfd after that (Linux
        6.15); in this order, for it may be reaped between the two.
        """
        code = own_exit_code(self.pidfd)
        if code is not None:
            return code
        code = zombie_exit_code(self.pid, self.start_time)
        return foreign_exit_code(self.pidfd) if code is None else code

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def zombie_exit_code(pid: int, start_time: int) -> Optional[int]:
    """By field 52 of proc_pid_stat(5), the wait status that a process shows until its parent has reaped it."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[0] not in (b"Z", b"X") or int(fields[19]) != start_time:
        return None
    return process.exit_code(int(fields[49]))


def age(start_time: int) -> float:
    """Seconds since the process of that start time (clock ticks after boot) began."""
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - start_time / os.sysconf("SC_CLK_TCK"))


def descendants(pid: int, among: list[int]) -> list[int]:
    """Processes of ``among`` that ``pid`` started, directly or not, or that are still of its session."""
    parents: dict[int, int] = {}
    found = []
    for other in among:
        try:
            with open(f"/proc/{other}/stat", "rb", buffering=0) as file:
                text = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = text[text.rindex(b")") + 2 :].split()
        parents[other] = int(fields[1])
        if int(fields[3]) == pid:
            found.append(other)
    return [other for other in among if other != pid and (other in found or _leads_to(other, pid, parents))]


def _leads_to(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    for dummy in range(len(parents)):
        pid = parents.get(pid, 0)
        if pid == ancestor:
            return True
        if not pid:
            return False
    return False
