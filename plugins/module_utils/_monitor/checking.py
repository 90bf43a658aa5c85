# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health check of one running container: when to look, and what a look changes."""

from __future__ import annotations

import time
from typing import Any, Callable, Optional

from .health import Health
from .host import Host
from .loop import Timer
from .probe import Probe


class Checker:
    """From ``resume`` to ``suspend``. ``changed`` is called after every result."""

    def __init__(
        self, host: Host, name: str, cgroup: str, process: dict[str, Any], health: Health, changed: Callable[[], None]
    ) -> None:
        self._host = host
        self._name = name
        self._cgroup = cgroup
        # The container's own process with another command: user, environment, capabilities, filter are the same.
        drop = ("terminal", "consoleSize", "args")
        kept = {key: value for key, value in process.items() if key not in drop}
        self._process = {**kept, "args": health.check.args()}
        self.health = health
        self._changed = changed
        self._timer: Optional[Timer] = None
        self._probe: Optional[Probe] = None

    def resume(self) -> None:
        self._timer = self._host.loop.after(self.health.delay(time.monotonic()), self._look)

    def suspend(self) -> None:
        """Look no more; a probe that runs is killed, and its result is not taken."""
        if self._timer is not None:
            self._timer.cancel()
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    def _look(self) -> None:
        self._probe = Probe(
            self._host.loop,
            self._host.paths.runtime,
            self._name,
            self._process,
            cgroup=self._cgroup,
            timeout=self.health.check.timeout,
            done=self._result,
        )

    def _result(self, entry: dict[str, Any]) -> None:
        self._probe = None
        self.health.result(time.monotonic(), entry)
        self.resume()
        self._changed()
