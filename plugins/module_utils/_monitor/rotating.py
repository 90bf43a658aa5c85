# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps log files within their size, though nobody is in between who could make their writers wait.

The kernel tells when a quiet log is written to (inotify), once. From then on its size is looked at by the clock, the
sooner the faster it grows, until it has not grown for a while. So a quiet container costs nothing, a talkative one a
few looks a second whatever it writes, and a flood is met within SLOW. How far a log may come above its size is the
writer's speed times that, and times what a rotation takes.

A rotation waits for the disk, and for whoever writes to the file just now. So it is a process of its own: neither the
supervisor nor another log has to wait along.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from typing import Callable, NoReturn, Optional

from .._errors import VesselError
from .._kernel import process
from .._kernel.inotify import (
    IN_DONT_FOLLOW,
    IN_MODIFY,
    IN_ONESHOT,
    inotify_add_watch,
    inotify_events,
    inotify_init,
    inotify_rm_watch,
)
from .container import Container
from .host import Host
from .loop import Loop, Timer
from .rotation import BLOCK, Rotation
from .settings import Log

FAST, SLOW = 0.005, 0.05
# Where the kernel has no watch to give.
BLIND = 1.0


class Rotator:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._logs: dict[str, Growth] = {}  # by path: instances of a container share a log
        self._inotify = -1
        self._watches: dict[int, Growth] = {}

    def wake(self, container: Container) -> None:
        """Something of it has changed. When it has started or ended, or been given other settings, its log is looked
        at; of one that has ended too, for what it said last."""
        log = container.settings.log
        growth = self._logs.get(log.path)
        limited = log.driver == "file" and log.max_size > 0
        follow = limited and container.process is not None
        if growth is None and follow:
            growth = self._logs[log.path] = Growth(self, log.path)
        if growth is not None and growth.is_said_by(container.name, writes=follow):
            growth.update(log, follow=follow, limited=limited)

    def forget(self, container: Container) -> None:
        """It is removed, and its log with it, unless another instance writes to that."""
        growth = self._logs.get(container.settings.log.path)
        if growth is not None and growth.is_said_by(container.name, writes=False):
            growth.abort()

    # for Growth
    def after(self, seconds: float, growth: Growth) -> Timer:
        """Looks that are not urgent are all at the same moment: they wake us once."""
        if seconds >= SLOW:
            seconds += SLOW - (time.monotonic() + seconds) % SLOW
        return self._host.loop.after(seconds, growth.look)

    def rotate(self, growth: Growth) -> Rotating:
        return Rotating(self._host.loop, growth.log, growth.rotated)

    def drop(self, growth: Growth) -> None:
        self._logs.pop(growth.path, None)

    def arm(self, growth: Growth) -> Optional[int]:
        """Be told of the next write, and of that alone: a flood of events would be a load of its own."""
        try:
            if self._inotify < 0:
                self._inotify = inotify_init()
                self._host.loop.watch(self._inotify, self._told)
            number = inotify_add_watch(self._inotify, growth.log.path, IN_MODIFY | IN_ONESHOT | IN_DONT_FOLLOW)
        except VesselError:
            return None  # no file yet, or the host's watches are used up
        self._watches[number] = growth
        return number

    def disarm(self, number: int) -> None:
        if self._watches.pop(number, None) is not None:
            inotify_rm_watch(self._inotify, number)

    def _told(self) -> None:
        for number in inotify_events(self._inotify):
            growth = self._watches.pop(number, None)
            if growth is not None:
                growth.stirred()


class Growth:
    """One log: quiet with a watch on it, growing with a timer, or being rotated."""

    def __init__(self, rotator: Rotator, path: str) -> None:
        self._rotator = rotator
        self.path = path
        self.log = Log({})
        self._writers: set[str] = set()
        self._follow = False  # somebody may write to it
        self._size = 0
        self._seen = time.monotonic()
        self._block = 0  # what is less can't be taken off it
        self._timer: Optional[Timer] = None
        self._watch: Optional[int] = None
        self._rotating: Optional[Rotating] = None

    def is_said_by(self, writer: str, *, writes: bool) -> bool:
        """Whether the writer's word counts: it writes, or nobody else does."""
        (self._writers.add if writes else self._writers.discard)(writer)
        return writes or not self._writers

    def update(self, log: Log, *, follow: bool, limited: bool) -> None:
        if (log, follow) == (self.log, self._follow):
            return
        self.log, self._follow = log, follow
        if limited:
            self._plan(0)
        else:
            self.abort()

    def abort(self) -> None:
        """No more looks, and no more of a rotation that has begun."""
        self._still()
        if self._rotating is not None:
            self._rotating.abort()
            self._rotating = None
        self._rotator.drop(self)

    def _still(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watch is not None:
            self._rotator.disarm(self._watch)
            self._watch = None

    def _plan(self, seconds: float) -> None:
        self._still()
        self._timer = self._rotator.after(seconds, self)

    def stirred(self) -> None:
        """A flood may have begun: the first look comes soon."""
        self._watch = None
        self._plan(FAST)

    def look(self) -> None:
        self._timer = None
        if self._rotating is not None:
            return  # its end looks again
        size, now = self._measure(), time.monotonic()
        grown, passed = size - self._size, max(now - self._seen, FAST)
        self._size, self._seen = size, now
        if size > max(self.log.max_size, self._block):
            self._rotating = self._rotator.rotate(self)
        elif not self._follow:
            self._rotator.drop(self)
        elif grown:
            self._plan(self._delay(grown / passed))
        else:
            self._rest()

    def _measure(self) -> int:
        try:
            info = os.stat(self.log.path, follow_symlinks=False)
        except OSError:
            return 0
        self._block = max(info.st_blksize, BLOCK)
        return info.st_size

    def _delay(self, rate: float) -> float:
        """Half the time in which it reaches its size, if it goes on so."""
        room = max(0, self.log.max_size - self._size)
        return min(max(room / (2 * rate), FAST), SLOW) if rate > 0 else SLOW

    def _rest(self) -> None:
        self._watch = self._rotator.arm(self)
        if self._watch is None:
            self._plan(BLIND)
        elif self._measure() != self._size:
            self._plan(FAST)  # it was written to before the watch was there

    def rotated(self, well: bool) -> None:
        self._rotating = None
        self._size, self._seen = self._measure(), time.monotonic()
        self._plan(FAST if well else BLIND)


class Rotating:
    """One rotation; ``ended`` hears whether it went well, unless it is aborted."""

    def __init__(self, loop: Loop, log: Log, ended: Callable[[bool], None]) -> None:
        self._loop = loop
        self._ended: Optional[Callable[[bool], None]] = ended
        supervisor = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _rotate_and_exit(log, supervisor)
        self._pidfd = process.pidfd_open(self._pid)
        loop.watch(self._pidfd, self._reap)

    def _reap(self) -> None:
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        code = process.exit_code(os.waitpid(self._pid, 0)[1])
        if self._ended is not None:
            self._ended(code == 0)

    def abort(self) -> None:
        """From now on it makes no file any more: what is killed does not come back from the kernel."""
        self._ended = None
        process.send(self._pidfd, signal.SIGKILL)


def _rotate_and_exit(log: Log, supervisor: int) -> NoReturn:
    code = 1
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        process.reset_signals()
        process.end_with(supervisor)
        process.close_all_but({2})  # clients wait for the ends of their connections
        rotation = Rotation(log.path, log.max_file, max_size=log.max_size)
        while not rotation.step():
            pass
        code = 0
    except (VesselError, OSError) as error:
        sys.stderr.write(f"rotate {log.path}: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(code)
