# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ps: the processes of a container, and what it uses."""

from __future__ import annotations

import os
import time
from typing import Any

from .state import load

# Columns of ps -ef, which is what runc shows.
HEAD = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
_MINUTE, _DAY = 60, 86400


def pids(root: str, container: str) -> list[int]:
    """As the host numbers them."""
    return load(root, container).manager().pids()


def table(root: str, container: str) -> list[tuple[str, ...]]:
    """A row a process."""
    with open("/proc/uptime") as file:
        uptime = float(file.read().split()[0])
    rows = []
    for pid in pids(root, container):
        try:
            rows.append(_row(pid, uptime))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return rows


def _row(pid: int, uptime: float) -> tuple[str, ...]:
    """From proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        stat = file.read()
    name = stat[stat.index(b"(") + 1 : stat.rindex(b")")].decode("utf-8", "replace")
    fields = stat[stat.rindex(b")") + 2 :].split()
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        command = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    ticks = os.sysconf("SC_CLK_TCK")
    used, age = (int(fields[11]) + int(fields[12])) / ticks, max(uptime - int(fields[19]) / ticks, 0.01)
    uid = os.stat(f"/proc/{pid}").st_uid
    share = min(99, int(100 * used / age))
    return (
        str(uid),
        str(pid),
        fields[1].decode(),
        str(share),
        _since(age),
        _tty(int(fields[4])),
        _clock(used),
        (command or f"[{name}]"),
    )


def _since(age: float) -> str:
    """The hour when it began, or the day when that is not today's."""
    began = time.localtime(time.time() - age)
    return time.strftime("%H:%M" if age < _DAY else "%b%d", began)


def _tty(device: int) -> str:
    number = os.minor(device)
    return f"pts/{number}" if 136 <= os.major(device) <= 143 else "?" if device == 0 else f"tty{number}"


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600):02}:{int(seconds // _MINUTE % _MINUTE):02}:{int(seconds % _MINUTE):02}"


def stats(root: str, container: str) -> dict[str, Any]:
    """Figures of use in the shape of runc's events."""
    state = load(root, container)
    found = state.manager().stats()

    def some(**names: str) -> dict[str, int]:
        return {key: found[name] for key, name in names.items() if name in found}

    throttling = some(throttledPeriods="cpu_throttled_periods", throttledTime="cpu_throttled_ns")
    memory = some(limit="memory_limit", usage="memory_usage", max="memory_max_usage", failcnt="memory_failures")
    return {
        "type": "stats",
        "id": container,
        "data": {
            "cpu": {
                "usage": some(total="cpu_usage_ns", kernel="cpu_system_ns", user="cpu_user_ns"),
                "throttling": throttling,
            },
            "memory": {"usage": memory},
            "pids": some(current="pids_current", limit="pids_limit"),
            "blkio": some(read="io_read_bytes", write="io_write_bytes"),
        },
    }
