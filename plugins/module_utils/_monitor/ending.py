# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left when a container's first process has ended: others in its group, the group, the runtime's state."""

from __future__ import annotations

import sys
import time
from signal import SIGKILL
from typing import Callable, Optional

from .._cgroup.manager import open_manager
from .._errors import VesselError
from .._kernel.kmsg import messages
from .._runtime.delete import delete
from .host import Host

# A process that no signal ends (a hung device) is left behind after this; its group is tried again at the next start.
PATIENCE = 5.0


def oom_killed(cgroup: str, code: Optional[int], since: float) -> bool:
    """Did the kernel kill somebody in the group for want of memory, in a life that began ``since`` seconds after boot?

    The group is made anew at each start, so that what it has counted is of this life. systemd may have removed it
    already, for it is empty; then the kernel's own message tells, of those whose first process was killed.
    """
    try:
        kills = open_manager(cgroup).stats().get("oom_kills")
    except (VesselError, OSError):
        kills = None
    if kills is not None or code not in (128 + SIGKILL, None):
        return bool(kills)
    return any(f",task_memcg={cgroup}," in message for message in messages(since))


class Ending:
    """``done`` is called once, when nothing is left but the bundle, the writable layer and the network."""

    def __init__(self, host: Host, name: str, cgroup: str, done: Callable[[], None]) -> None:
        self._host = host
        self._name = name
        self._manager = open_manager(cgroup)
        self._done = done
        self._until = time.monotonic() + PATIENCE
        self._pause = 0.001
        self._look()

    def _look(self) -> None:
        try:
            if not self._empty() and time.monotonic() < self._until:
                self._host.loop.after(self._pause, self._look)
                self._pause = min(self._pause * 2, 0.1)
                return
            delete(self._host.paths.runtime, self._name, force=True)
        except (VesselError, OSError) as error:
            sys.stderr.write(f"{self._name}: after its end: {error}\n")
        self._host.loop.after(0, self._done)

    def _empty(self) -> bool:
        """Is nobody in the group? Who is, is killed; a frozen process is killed when it thaws."""
        if not self._manager.exists() or not self._manager.pids():
            return True
        if self._manager.frozen():
            self._manager.freeze(False)
        self._manager.kill()
        return not self._manager.pids()
