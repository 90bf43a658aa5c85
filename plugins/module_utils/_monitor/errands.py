# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errands of the supervisor's: the loop goes on while a child does what may hang."""

from __future__ import annotations

import errno
from typing import Any, Callable, Optional

from .._errors import KernelError
from .._kernel.errand import Errand
from .loop import Loop

Done = Callable[[Any, Optional[Exception]], None]


class Call:
    """``done`` is called once, with the result or the error, unless it is cancelled."""

    def __init__(self, loop: Loop, work: Callable[[], Any], patience: float, what: str, done: Done) -> None:
        self._loop = loop
        self._what = what
        self._done: Optional[Done] = done
        self._ended = False
        try:
            self._errand = Errand(work)
        except OSError as error:  # for want of processes or descriptors, which may be there again soon
            failure = error
            self._ended = True
            self._timer = loop.after(0, lambda: self._tell(None, failure))
            return
        loop.watch(self._errand.fd, self._read)
        self._timer = loop.after(patience, self._late)

    def _read(self) -> None:
        if not self._errand.take():
            return
        self._timer.cancel()
        self._loop.unwatch(self._errand.fd)
        self._ended = True
        try:
            result, failure = self._errand.result(), None
        except (KernelError, OSError) as error:
            result, failure = None, error
        self._tell(result, failure)

    def _tell(self, result: Any, error: Optional[Exception]) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(result, error)

    def _late(self) -> None:
        self._abandon()
        self._tell(None, KernelError("ask", self._what, errno.ETIMEDOUT, hint="its server does not answer"))

    def _abandon(self) -> None:
        self._loop.unwatch(self._errand.fd)
        self._ended = self._errand.abandon(0.0)

    def cancel(self) -> None:
        """Nobody is told any more."""
        self._done = None
        if not self._ended:
            self._timer.cancel()
            self._abandon()

    def gone(self) -> bool:
        """Is nothing left of it? A dead server may hold its process for long."""
        self._ended = self._ended or self._errand.reap()
        return self._ended
