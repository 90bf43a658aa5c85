# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a container's health: the test as a process inside it, its output, its end or its time limit."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Callable, Optional

from .._cgroup.manager import open_manager
from .._errors import VesselError
from .._runtime import exec as runtime_exec
from .health import OUTPUT_LIMIT, text
from .loop import Loop, Timer
from .process import Watched, descendants
from .status import timestamp

# Exit codes of docker for a test that could not be judged by its own.
COULD_NOT = -1


class Probe:
    """``done`` is called once with the entry for the health log, unless the probe is cancelled."""

    def __init__(
        self,
        loop: Loop,
        runtime: str,
        container: str,
        process: dict[str, Any],
        *,
        cgroup: str,
        timeout: float,
        done: Callable[[dict[str, Any]], None],
    ) -> None:
        self._loop = loop
        self._done: Optional[Callable[[dict[str, Any]], None]] = done
        self._cgroup = cgroup
        self._timeout = timeout
        self._output = b""
        self._problem = ""
        self._began = time.time()
        self._joining: Optional[runtime_exec.Joining] = None
        self._process: Optional[Watched] = None
        self._timer: Optional[Timer] = None
        self._reader = -1
        try:
            self._start(runtime, container, process)
        except (VesselError, OSError) as error:
            self._close_reader()
            self._problem = str(error)
            self._timer = loop.after(0, lambda: self._finish(COULD_NOT))

    def _start(self, runtime: str, container: str, process: dict[str, Any]) -> None:
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(writer, True)
            null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._joining = runtime_exec.begin(runtime, container, process, stdio=(null, writer, writer))
            finally:
                os.close(null)
        finally:
            os.close(writer)
        self._loop.watch(self._joining.fd, self._advance)
        self._loop.watch(self._reader, self._read)
        self._timer = self._loop.after(self._timeout, self._expired)

    def _advance(self) -> None:
        joining = self._joining
        if joining is None:
            return
        # It closes its descriptor when it is done, and the loop can't let go of a closed one.
        self._loop.unwatch(joining.fd)
        try:
            started = joining.advance()
        except (VesselError, OSError) as error:
            self._joining = None
            self._problem = self._problem or str(error)
            self._finish(COULD_NOT)
            return
        if started is None:
            self._loop.watch(joining.fd, self._advance)
        else:
            self._joining = None
            self._process = Watched(started.pid, started.pidfd)
            self._loop.watch(started.pidfd, self._ended)

    def _read(self) -> None:
        """All of it, so that a talkative test does not block; what is over the limit is dropped."""
        try:
            data = os.read(self._reader, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self._close_reader()
        elif len(self._output) < OUTPUT_LIMIT:
            self._output += data

    def _close_reader(self) -> None:
        if self._reader >= 0:
            self._loop.unwatch(self._reader)
            os.close(self._reader)
            self._reader = -1

    def _expired(self) -> None:
        """Killed with what it started; its end is heard of as usual."""
        self._problem = f"health check exceeded its timeout of {self._timeout:g} s"
        self._kill()

    def _kill(self) -> None:
        if self._joining is not None:
            self._joining.kill()
        if self._process is None:
            return
        # Before its children: when it is gone they are the container's init's, and nobody can tell whose they were.
        children = descendants(self._process.pid, open_manager(self._cgroup).pids())
        self._process.signal(signal.SIGKILL)
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _ended(self) -> None:
        if self._process is None:
            return
        self._loop.unwatch(self._process.pidfd)
        code = self._process.reap()
        self._process.close()
        self._process = None
        if self._reader >= 0:
            self._read()
        self._finish(COULD_NOT if self._problem or code is None else code)

    def _finish(self, code: int) -> None:
        self._close_reader()
        if self._timer is not None:
            self._timer.cancel()
        done, self._done = self._done, None
        if done is not None:
            output = self._problem if not self._output else f"{text(self._output)}\n{self._problem}".rstrip("\n")
            entry = {"start": timestamp(self._began), "end": timestamp(), "exit_code": code, "output": output}
            done(entry)

    def cancel(self) -> None:
        """Nobody wants the result any more; the processes are killed and reaped all the same."""
        self._done = None
        self._kill()
