# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine of a health check. Pure: it is told the time and the results, and says when to look again."""

from __future__ import annotations

from typing import Any, Optional

from .settings import HealthCheck

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
KEPT = 5  # results
OUTPUT_LIMIT = 4096  # bytes of a result's output


class Health:
    """``began`` is when the container started. ``status`` changes by ``result`` alone.

    In the start period failures do not count and looks are more frequent; it ends with the first success.
    """

    def __init__(self, check: HealthCheck, began: float) -> None:
        self.check = check
        self.began = began
        self.status = STARTING
        self.failing_streak = 0
        self.log: list[dict[str, Any]] = []

    @classmethod
    def resumed(cls, check: HealthCheck, began: float, data: Optional[dict[str, Any]]) -> Health:
        """As another supervisor left it in status.json."""
        health = cls(check, began)
        if data and data.get("status") in (STARTING, HEALTHY, UNHEALTHY):
            health.status = data["status"]
            health.failing_streak = int(data.get("failing_streak") or 0)
            health.log = list(data.get("log") or [])[-KEPT:]
        return health

    def starting_up(self, now: float) -> bool:
        return self.status == STARTING and now - self.began < self.check.start_period

    def delay(self, now: float) -> float:
        """Seconds from now until the next look."""
        return self.check.start_interval if self.starting_up(now) else self.check.interval

    def result(self, now: float, entry: dict[str, Any]) -> bool:
        """Take a result in (start, end, exit_code, output); has the status changed?"""
        before = self.status
        self.log = [*self.log[1 - KEPT :], entry] if KEPT > 1 else [entry]
        if entry["exit_code"] == 0:
            self.failing_streak = 0
            self.status = HEALTHY
        elif not self.starting_up(now):
            self.failing_streak += 1
            if self.failing_streak >= self.check.retries:
                self.status = UNHEALTHY
        return self.status != before

    def to_dict(self) -> dict[str, Any]:
        return {"status": self.status, "failing_streak": self.failing_streak, "log": self.log}


def text(output: bytes) -> str:
    """A probe's output as it is kept."""
    return output[:OUTPUT_LIMIT].decode("utf-8", "replace").rstrip("\n")
