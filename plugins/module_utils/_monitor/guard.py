# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard: a child of the supervisor that outlives it, while leases are held.

The supervisor ends a container whose lease it can't renew. Where it is killed itself, another host may take the lease,
and this one's container must not go on: the guard ends it at the deadline, unless the next supervisor has renewed the
lease by then. It reads what is in /run and touches no storage, so nothing makes it wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time

from .._cgroup.manager import open_manager
from .._errors import VesselError
from .._kernel.process import close_all_but
from .._paths import Paths
from . import holding

# The supervisor acts first.
_GRACE = 0.3
_LONGEST_SLEEP = 5.0


class Guard:
    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._pid = 0

    def watch(self) -> None:
        """See to it that there is one; another supervisor's does as well."""
        if self._running():
            return
        lock = _lock(self._paths)
        if lock < 0:
            return
        try:
            self._pid = os.fork()
            if self._pid == 0:
                _run(self._paths, lock)
        finally:
            os.close(lock)

    def look(self) -> None:
        """Without leases none is needed."""
        if self._running() and not _deadlines(self._paths):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _running(self) -> bool:
        with contextlib.suppress(ChildProcessError):
            if self._pid and os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                return True
        self._pid = 0
        return False


def _lock(paths: Paths) -> int:
    """A lock that one process at a time has, and that ends with it; -1 where another one has it. No container can take
    it, as it could take a name on the host's network."""
    fd = os.open(_bundles(paths), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def _bundles(paths: Paths) -> str:
    return os.path.dirname(paths.bundle("x"))


def _run(paths: Paths, lock: int) -> None:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        close_all_but((0, 1, 2, lock))
        while deadlines := _deadlines(paths):
            present = holding.now()
            for name, deadline in deadlines.items():
                if present >= deadline + _GRACE:
                    _end(paths, name)
            time.sleep(min(_LONGEST_SLEEP, max(0.05, min(deadlines.values()) + _GRACE - present)))
    finally:
        os._exit(0)


def _deadlines(paths: Paths) -> dict[str, float]:
    """Container: when the first of its leases is over."""
    base, found = _bundles(paths), {}
    for name in os.listdir(base) if os.path.isdir(base) else []:
        held = holding.load(f"{base}/{name}")
        if held:
            found[name] = min(data["deadline"] for data in held.values())
    return found


def _end(paths: Paths, name: str) -> None:
    """Everything in the container's group, at once; what is left of it the next supervisor takes away."""
    with contextlib.suppress(VesselError, OSError):
        manager = open_manager(paths.cgroup(name))
        if manager.exists():
            if manager.frozen():
                manager.freeze(False)
            manager.kill()
            if manager.pids():
                return
        os.unlink(holding.path_of(paths.bundle(name)))
