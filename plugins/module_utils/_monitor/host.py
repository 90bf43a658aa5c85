# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all containers share: the loop, the paths, and turns to be set up in."""

from __future__ import annotations

import os
import resource
from collections import deque
from typing import Any, Callable

from .._paths import Paths
from .exits import Exits
from .guard import Guard
from .loop import Loop

# As systemd has it: who needs more asks for it, and with our own limit some would close a million descriptors.
_NOFILE_SOFT = 1024


class Slots:
    """So many may be in set-up at a time; the others wait in their order."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._busy = 0
        self._queue: deque[Callable[[], None]] = deque()

    def ask(self, job: Callable[[], None]) -> None:
        """Run the job when it is its turn, which may be now. It must ``leave`` once."""
        self._queue.append(job)
        self._next()

    def forget(self, job: Callable[[], None]) -> bool:
        """Was the job still waiting? Then it will not run."""
        try:
            self._queue.remove(job)
        except ValueError:
            return False
        return True

    def leave(self) -> None:
        self._busy -= 1
        self._next()

    def _next(self) -> None:
        while self._queue and self._busy < self._limit:
            self._busy += 1
            self._queue.popleft()()


class Host:
    def __init__(self, paths: Paths, version: str = "") -> None:
        # A container here is an instance of one: two of one name may run at a time.
        self.paths = paths._replace(by_instance=True)
        self.version = version
        self.loop = Loop()
        self.exits = Exits(self.loop)
        self.guard = Guard(self.paths)
        self.slots = Slots(2 * (os.cpu_count() or 1) + 2)
        self._nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._oom_score_adj: int | None = None

    def raise_limits(self) -> None:
        """A pidfd a container, and more while they start; and the OOM killer shall spare us, if we may ask for it."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._nofile, self._nofile))
        try:
            with open("/proc/self/oom_score_adj", "r+") as file:
                before = int(file.read())
                file.seek(0)
                file.write("-999")
            self._oom_score_adj = before
        except OSError:
            pass  # needs CAP_SYS_RESOURCE

    def adjust(self, config: dict[str, Any]) -> None:
        """What a container would else inherit of ours, in its config.json as it is given to the runtime."""
        process = config["process"]
        limits = process.setdefault("rlimits", [])
        if not any(limit.get("type") == "RLIMIT_NOFILE" for limit in limits):
            hard = self._nofile if self._nofile >= 0 else 2**64 - 1
            limits.append({"type": "RLIMIT_NOFILE", "soft": min(_NOFILE_SOFT, hard), "hard": hard})
        if self._oom_score_adj is not None:
            process.setdefault("oomScoreAdj", self._oom_score_adj)
