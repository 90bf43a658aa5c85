# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""monitor.json of a bundle: what the supervisor is told of a container."""

from __future__ import annotations

import json
from typing import Any, Optional

from .._errors import SpecError
from .restart import POLICIES, Policy


class Log:
    """Where stdout and stderr go; ``max_size`` 0 is no rotation, ``max_file`` counts the current file too."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.driver: str = data.get("driver") or "none"
        self.path: str = data.get("path") or ""
        self.max_size = int(data.get("max_size") or 0)
        self.max_file = max(1, int(data.get("max_file") or 1))
        self.tag: str = data.get("tag") or ""


class HealthCheck:
    """The test, and its times in seconds."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.test: list[str] = list(data["test"])
        self.interval = float(data.get("interval") or 30.0)
        self.timeout = float(data.get("timeout") or 30.0)
        self.retries = int(data.get("retries") or 3)
        self.start_period = float(data.get("start_period") or 0.0)
        self.start_interval = float(data.get("start_interval") or 5.0)

    def args(self) -> list[str]:
        kind, *rest = self.test
        return ["/bin/sh", "-c", *rest] if kind == "CMD-SHELL" else rest


class Settings:
    """All of it, checked."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        restart = data.get("restart") or {}
        name = restart.get("policy") or "no"
        if name not in POLICIES:
            raise SpecError("monitor.restart.policy", f"{name!r} is none of {', '.join(POLICIES)}")
        self.policy = Policy(name, int(restart.get("retries") or 0))
        self.log = Log(data.get("log") or {})
        if self.log.driver not in ("file", "journald", "none"):
            raise SpecError("monitor.log.driver", f"{self.log.driver!r} is none of file, journald, none")
        self.health = _health(data.get("health"))
        stop = data.get("stop") or {}
        self.stop_signal = int(stop.get("signal") or 15)
        self.stop_timeout = float(10.0 if stop.get("timeout") is None else stop["timeout"])


def _health(data: Optional[dict[str, Any]]) -> Optional[HealthCheck]:
    test = (data or {}).get("test")
    if not data or not test or test[0] == "NONE":
        return None
    if test[0] not in ("CMD", "CMD-SHELL") or len(test) < 2:
        raise SpecError("monitor.health.test", f"{test!r} does not start with CMD or CMD-SHELL and a command")
    return HealthCheck(data)


def load(bundle: str) -> Settings:
    """The bundle's monitor.json; without one, a container that is started once and not looked at further."""
    path = f"{bundle}/monitor.json"
    try:
        with open(path, "rb") as file:
            data = json.load(file)
    except FileNotFoundError:
        return Settings({})
    except ValueError as error:
        raise SpecError("monitor", f"{path} is not JSON: {error}") from None
    return Settings(dict(data))
