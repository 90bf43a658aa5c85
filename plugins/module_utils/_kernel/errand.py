# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that may never end, done by a child: a file system whose server is gone makes whoever asks it wait, and not even
SIGKILL may end that."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from .._errors import KernelError
from .process import close_all_but

_PATIENCE_AFTER_KILL = 0.5


class Errand:
    """``fd`` becomes readable when there is something to ``take``. What the work returns must be JSON's."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.fd, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._data = b""
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self.fd)
            os.close(writer)
            raise
        if self._pid == 0:
            _work(work, writer)
        os.close(writer)

    def take(self) -> bool:
        """Has it ended?"""
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return False
        self._data += data
        return not data

    def result(self) -> Any:
        """Of one that has ended: what the work returned, or its error."""
        os.close(self.fd)
        os.waitpid(self._pid, 0)
        if not self._data:
            raise KernelError("ask", "a child, which was killed", errno.EIO)
        answer: dict[str, Any] = json.loads(self._data)
        if "error" in answer:
            operation, obj, code, hint = answer["error"]
            raise KernelError(operation, obj, code, hint=hint)
        return answer["result"]

    def abandon(self, patience: float = _PATIENCE_AFTER_KILL) -> bool:
        """Kill it. Is it gone? One that a dead server holds is left: nothing can end it."""
        os.close(self.fd)
        os.kill(self._pid, signal.SIGKILL)
        return self.reap(patience)

    def reap(self, patience: float = 0.0) -> bool:
        until = time.monotonic() + patience
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)
        return True


def _work(work: Callable[[], Any], writer: int) -> None:
    try:
        # A child that hangs must keep nothing of ours open: no lock, no socket that clients would wait at.
        close_all_but((0, 1, 2, writer))
        os.set_blocking(writer, True)
        try:
            answer: dict[str, Any] = {"result": work()}
        except KernelError as error:
            answer = {"error": [error.operation, str(error.obj), error.errno, error.hint]}
        except OSError as error:
            answer = {"error": ["use", str(error.filename or ""), error.errno or 0, ""]}
        os.write(writer, json.dumps(answer).encode())
    finally:
        os._exit(0)


def bounded(work: Callable[[], Any], seconds: float, operation: str, obj: str, *, hint: str = "") -> Any:
    """What the work returns; KernelError with ETIMEDOUT when it has not ended after so many seconds."""
    errand = Errand(work)
    until = time.monotonic() + seconds
    while not errand.take():
        left = until - time.monotonic()
        if left <= 0:
            errand.abandon()
            raise KernelError(operation, obj, errno.ETIMEDOUT, hint=hint or "its server does not answer")
        select.select([errand.fd], [], [], left)
    return errand.result()
