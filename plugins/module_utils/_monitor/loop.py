# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One epoll, and timers in a heap."""

from __future__ import annotations

import heapq
import select
import sys
import time
from typing import Callable, Optional

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_LONGEST_SLEEP = 3600.0


class Timer:
    """A call to come. ``cancel`` makes it none; it may be cancelled twice or after it was due."""

    __slots__ = ("call", "number", "when")

    def __init__(self, when: float, number: int, call: Callable[[], None]) -> None:
        self.when = when
        self.number = number
        self.call: Optional[Callable[[], None]] = call

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        self.call = None


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._timers: list[Timer] = []
        self._count = 0
        self._stopped = False

    def watch(self, fd: int, handler: Callable[[], None], events: int = READ) -> None:
        """Call ``handler`` whenever ``fd`` has ``events``, or its other end is gone."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """To be called before the descriptor is closed: a closed one leaves epoll only when no copy is left."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        self._count += 1
        timer = Timer(time.monotonic() + seconds, self._count, call)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Until ``stop``."""
        while not self._stopped:
            self.turn()

    def turn(self, longest: float = _LONGEST_SLEEP) -> None:
        """Wait for the next thing, and do all that is due."""
        for fd, dummy in self._epoll.poll(min(self._pause(), longest)):
            handler = self._handlers.get(fd)
            if handler is not None:  # a handler before it may have ended this one
                self._call(handler, fd)
        now = time.monotonic()
        while self._timers and self._timers[0].when <= now:
            call = heapq.heappop(self._timers).call
            if call is not None:
                self._call(call)

    def _pause(self) -> float:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0].when - time.monotonic()) if self._timers else _LONGEST_SLEEP

    def _call(self, call: Callable[[], None], fd: int = -1) -> None:
        """A defect that shows with one container must not take the supervisor from all the others."""
        try:
            call()
        except Exception:
            import traceback

            traceback.print_exc(file=sys.stderr)
            self.unwatch(fd)  # it would be called again at once, for ever

    def close(self) -> None:
        self._epoll.close()
