# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""status.json: what the supervisor knows of a container, for all others to read.

It lies on tmpfs, so there is no fsync: what a crash of the host would lose is gone with /run anyway.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Optional

CREATED, RUNNING, PAUSED = "created", "running", "paused"
RESTARTING, STOPPING, EXITED = "restarting", "stopping", "exited"
WANT_RUNNING, WANT_STOPPED = "running", "stopped"


def timestamp(seconds: Optional[float] = None) -> str:
    """UTC with milliseconds."""
    now = time.time() if seconds is None else seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


class Status:
    """The record; its attributes are the file's keys."""

    def __init__(self) -> None:
        self.status = CREATED
        self.pid = 0
        self.pid_start = 0
        self.started_at = ""
        self.finished_at = ""
        self.exit_code: Optional[int] = None
        self.oom_killed = False
        self.restarts = 0
        self.error = ""
        self.health: Optional[dict[str, Any]] = None
        self.wanted = WANT_STOPPED
        self.backoff = 0.0  # the last delay, so that another supervisor goes on from there

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Status:
        status = cls()
        for key in status.__dict__:
            if key in data:
                setattr(status, key, data[key])
        return status

    def save(self, path: str) -> None:
        temporary = f"{path}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, json.dumps(self.__dict__, separators=(",", ":")).encode())
        finally:
            os.close(fd)
        os.rename(temporary, path)


def load(path: str) -> Optional[Status]:
    """None when there is none, or nothing that could be one."""
    try:
        with open(path, "rb") as file:
            data = json.load(file)
    except (OSError, ValueError):
        return None
    return Status.from_dict(data) if isinstance(data, dict) else None
