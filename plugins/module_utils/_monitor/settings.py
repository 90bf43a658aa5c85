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
        self.max_size = int(_number(data, "max_size", 0, "log"))
        self.max_file = max(1, int(_number(data, "max_file", 1, "log")))
        self.tag: str = data.get("tag") or ""


class HealthCheck:
    """The test, and its times in seconds."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.test: list[str] = list(data["test"])
        self.interval = _number(data, "interval", 30.0, "health") or 30.0
        self.timeout = _number(data, "timeout", 30.0, "health") or 30.0
        self.retries = int(_number(data, "retries", 3, "health")) or 3
        self.start_period = _number(data, "start_period", 0.0, "health")
        self.start_interval = _number(data, "start_interval", 5.0, "health") or 5.0

    def args(self) -> list[str]:
        kind, *rest = self.test
        return ["/bin/sh", "-c", *rest] if kind == "CMD-SHELL" else rest


class LeaseSetting:
    """What a container needs a lease on: the volume, and for how many seconds one lasts."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.volume = str(data["volume"])
        self.duration = _number(data, "duration", 30.0, "leases")


class Settings:
    """All of it, checked."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        restart = data.get("restart") or {}
        name = restart.get("policy") or "no"
        if name not in POLICIES:
            raise SpecError("monitor.restart.policy", f"{name!r} is none of {', '.join(POLICIES)}")
        self.policy = Policy(name, int(_number(restart, "retries", 0, "restart")))
        self.log = Log(data.get("log") or {})
        if self.log.driver not in ("file", "journald", "none"):
            raise SpecError("monitor.log.driver", f"{self.log.driver!r} is none of file, journald, none")
        self.health = _health(data.get("health"))
        stop = data.get("stop") or {}
        # Path: type of the file system that must be mounted there, empty for any. Where it is not, the container would
        # write below it.
        self.mounts: dict[str, str] = dict(data.get("mounts") or {})
        # Path: the lease without which the container must not write there.
        self.leases = {path: LeaseSetting(entry) for path, entry in (data.get("leases") or {}).items()}
        self.stop_signal = int(_number(stop, "signal", 15, "stop")) or 15
        self.stop_timeout = _number(stop, "timeout", 10.0, "stop")


def _number(data: dict[str, Any], key: str, default: float, where: str) -> float:
    """The number, or the default for none; SpecError for what no timer and no count can be."""
    value = default if data.get(key) is None else data[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1 << 63:
        raise SpecError(f"monitor.{where}.{key}", f"{str(value)[:40]!r} is not a number from 0 on")
    return float(value)


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
