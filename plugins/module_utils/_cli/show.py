# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``vessel`` tells of containers. It asks the kernel and reads files; no supervisor need be there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from .._cgroup.manager import open_manager
from .._errors import NotFoundError
from .._kernel.process import alive
from .._paths import Paths, container_of

CPU_WINDOW = 0.25  # seconds over which the share of CPU is measured


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be, two spaces apart."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def names(paths: Paths) -> list[str]:
    """Declared, or known to the supervisor."""
    entries = [*_entries(f"{paths.state}/containers"), *_entries(os.path.dirname(paths.bundle("x")))]
    found = set(map(container_of, entries))
    return sorted(name for name in found if spec(paths, name) or status(paths, name))


def _entries(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


def spec(paths: Paths, name: str) -> dict[str, Any]:
    return read_json(f"{paths.resource('containers', name)}/spec.json")


def status(paths: Paths, name: str) -> dict[str, Any]:
    """What the supervisor wrote; a process that is gone does not run, whatever is written."""
    data = read_json(paths.status(name))
    if data.get("pid") and not alive(int(data["pid"]), int(data.get("pid_start") or 0)):
        data.update(pid=0, status="exited")
    return data


def known(paths: Paths, name: str) -> None:
    if not spec(paths, name) and not status(paths, name):
        raise NotFoundError("container", name, hint="vessel ps lists them")


def age(seconds: float) -> str:
    """Two units at the most: 3 d 4 h, 12 s."""
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size or (unit == "s" and not parts):
            parts.append(f"{int(seconds // size)}{unit}")
            seconds %= size
    return "".join(parts[:2])


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f}{unit}" if unit == "B" else f"{count:.1f}{unit}"


def row(paths: Paths, name: str) -> dict[str, Any]:
    now, declared = status(paths, name), spec(paths, name)
    began = os.sysconf("SC_CLK_TCK")
    lives = time.clock_gettime(time.CLOCK_BOOTTIME) - int(now.get("pid_start") or 0) / began if now.get("pid") else 0
    return {
        "name": name,
        "status": now.get("status") or "created",
        "pid": now.get("pid") or 0,
        "exit_code": now.get("exit_code"),
        "image": declared.get("image") or "",
        "ports": declared.get("published_ports") or [],
        "health": (now.get("health") or {}).get("status") or "",
        "restarts": now.get("restarts") or 0,
        "age": round(lives, 1),
        "error": now.get("error") or "",
    }


def ps(paths: Paths, wanted: Sequence[str], *, as_json: bool) -> str:
    for name in wanted:
        known(paths, name)
    rows = [row(paths, name) for name in wanted or names(paths)]
    if as_json:
        return json.dumps(rows, indent=2)
    head = ("NAME", "STATUS", "PID", "IMAGE", "PORTS", "HEALTH", "RESTARTS", "AGE")
    return table(head, [_cells(entry) for entry in rows])


def _cells(entry: dict[str, Any]) -> list[str]:
    state = entry["status"]
    if state == "exited" and entry["exit_code"] is not None:
        state = f"exited ({entry['exit_code']})"
    return [
        entry["name"],
        state,
        str(entry["pid"] or "-"),
        entry["image"] or "-",
        ",".join(map(str, entry["ports"])) or "-",
        entry["health"] or "-",
        str(entry["restarts"]),
        age(entry["age"]) if entry["pid"] else "-",
    ]


def stats(paths: Paths, wanted: Sequence[str], *, as_json: bool) -> str:
    """Usage of those that run; the share of CPU is that of a moment."""
    for name in wanted:
        known(paths, name)
    running = [name for name in wanted or names(paths) if status(paths, name).get("pid")]
    first = {name: _figures(paths, name) for name in running}
    if as_json:
        return json.dumps([{"name": name, **figures} for name, figures in first.items()], indent=2)
    began = time.monotonic()
    time.sleep(CPU_WINDOW if running else 0)
    second = {name: _figures(paths, name) for name in running}
    window = time.monotonic() - began
    head = ("NAME", "CPU", "MEMORY", "LIMIT", "PIDS", "OOM KILLS")
    return table(head, [_stats_cells(name, first[name], second[name], window) for name in running])


def _figures(paths: Paths, name: str) -> dict[str, int]:
    manager = open_manager(paths.cgroup(name))
    return manager.stats() if manager.exists() else {}


def _stats_cells(name: str, before: dict[str, int], after: dict[str, int], window: float) -> list[str]:
    used = after.get("cpu_usage_ns", 0) - before.get("cpu_usage_ns", 0)
    limit = after.get("memory_limit", -1)
    return [
        name,
        f"{max(0.0, used / 1e7 / window):.1f}%",
        size(after.get("memory_usage", 0)),
        size(limit) if limit >= 0 else "-",
        str(after.get("pids_current", 0)),
        str(after.get("oom_kills", 0)),
    ]


def inspect(paths: Paths, wanted: Sequence[str]) -> str:
    from .._converge.container import labels

    found = []
    for name in wanted:
        known(paths, name)
        now, config = status(paths, name), read_json(f"{paths.bundle(name)}/config.json")
        found.append(
            {
                "name": name,
                "spec": spec(paths, name),
                "status": now,
                "security": labels.shown(int(now.get("pid") or 0), labels.of_config(config)),
                "config": config,
                "monitor": read_json(f"{paths.bundle(name)}/monitor.json"),
                "log": paths.log(name),
                "netns": paths.netns(name),
                "cgroup": paths.cgroup(name),
            }
        )
    return json.dumps(found[0] if len(found) == 1 else found, indent=2)
