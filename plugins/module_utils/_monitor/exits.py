# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exit codes of adopted containers, whose parent we are not, before Linux 6.15."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Callable, Optional

from .._errors import KernelError
from .._kernel.cn_proc import ExitEvents
from .._kernel.pidfd import tells_exit_codes
from .loop import Loop

# A pidfd tells of an end before the event is sent, by as long as the process that ends has to wait for a processor.
PATIENCE = 0.1

Tell = Callable[[Optional[int]], None]


class Exits:
    """Listens while there is somebody to listen for, where no pidfd tells an exit code."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._events: Optional[ExitEvents] = None
        self._codes: dict[int, Optional[int]] = {}  # of those that are listened for; None before their end
        self._asked: dict[int, Tell] = {}

    def listen(self, pids: Collection[int]) -> None:
        """To be called before it is found out which of these processes live: then no end is between the two."""
        if not pids or tells_exit_codes():
            return
        try:
            self._events = ExitEvents(pids)
        except KernelError as error:
            sys.stderr.write(f"the exit codes of adopted containers will be unknown: {error}\n")
            return
        self._codes = dict.fromkeys(pids)
        self._loop.watch(self._events.fileno(), self._hear)

    def ask(self, pid: int, code: Optional[int], tell: Tell) -> None:
        """Of a process that has ended: tell ``code``, or else what is heard of it, for which there is a moment."""
        if code is None and pid in self._codes:
            self._asked[pid] = tell
            self._loop.after(PATIENCE, lambda: self._answer(pid))
            self._hear()
        else:
            self.forget(pid)
            tell(code)

    def _hear(self) -> None:
        if self._events is not None:
            heard = self._events.read()
            self._codes.update({pid: code for pid, code in heard.items() if pid in self._codes})
        for pid in [pid for pid in self._asked if self._codes[pid] is not None]:
            self._answer(pid)

    def _answer(self, pid: int) -> None:
        tell = self._asked.pop(pid, None)
        if tell is not None:
            code = self._codes[pid]
            self.forget(pid)
            tell(code)

    def forget(self, pid: int) -> None:
        """Its end is known. With the last one, the kernel need not make events any more."""
        if pid not in self._codes:
            return
        del self._codes[pid]
        if self._codes or self._events is None:
            return
        self._loop.unwatch(self._events.fileno())
        self._events.close()
        self._events = None
