# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what a container is to become, and what is said when it does not."""

from __future__ import annotations

from typing import Callable, Optional

from .._errors import StateError, VesselError, WaitError
from . import status as s
from .connection import Reply
from .container import Container
from .health import HEALTHY
from .logs import tail
from .loop import Timer

Answer = Optional[Exception]


def running(container: Container) -> bool:
    if container.status.status in (s.RUNNING, s.PAUSED):
        return True
    if container.settled:
        raise WaitError(_sentence(container, "it does not run: " + _ended(container)))
    return False


def healthy(container: Container) -> bool:
    if container.settings.health is None and not container.busy:
        raise StateError(f"container {container.name} has no health check, so it can't become healthy")
    if container.status.status == s.RUNNING:
        return (container.status.health or {}).get("status") == HEALTHY
    if container.settled:
        raise WaitError(_sentence(container, "it is not healthy: " + _ended(container)))
    return False


def exited(container: Container) -> bool:
    return container.settled


CONDITIONS: dict[str, Callable[[Container], bool]] = {"running": running, "healthy": healthy, "exited": exited}


def _ended(container: Container) -> str:
    status = container.status
    if status.error:
        return status.error
    if status.exit_code is None:
        return "it has ended, and its exit code is unknown"
    killed = ", killed for its memory limit" if status.oom_killed else ""
    return f"it has ended with exit code {status.exit_code}{killed}"


def _sentence(container: Container, what: str) -> str:
    """What happened, and what the container itself said last."""
    text = f"container {container.name}: {what}"
    results = (container.status.health or {}).get("log") or []
    if results and container.settings.health is not None and container.status.status == s.RUNNING:
        last = results[-1]
        return f"{text}; its last health check ended with {last['exit_code']}: {_line(last['output']) or 'no output'}"
    lines = _line(tail(container.settings.log.path)) if container.settings.log.driver == "file" else ""
    return f"{text}; its log ends with: {lines}" if lines else text


def _line(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())


class Wait:
    """Answers once: when the condition holds, can't hold any more, or the time is over."""

    def __init__(self, container: Container, until: str, timeout: Optional[float], reply: Reply) -> None:
        self._container = container
        self._until = until
        self._timeout = timeout
        self._condition = CONDITIONS[until]
        self._reply = reply
        self._timer: Optional[Timer] = None
        container.listeners.append(self._look)
        if timeout is not None:
            self._timer = container.host.loop.after(timeout, self._expired)
        self._look(container)

    def _look(self, container: Container) -> None:
        if not self._reply.wanted:
            self._leave()
            return
        try:
            if self._condition(container):
                self._leave()
                self._reply.ok(status=container.status.to_dict())
        except VesselError as error:
            self._leave()
            self._reply.error(error)

    def _expired(self) -> None:
        self._leave()
        status = self._container.status
        state = status.status
        if self._until == "healthy" and state == s.RUNNING:
            state = f"{state} and {(status.health or {}).get('status')}"
        what = f"it is not {self._until} after {self._timeout:g} s, but {state}"
        self._reply.error(WaitError(_sentence(self._container, what)))

    def _leave(self) -> None:
        if self._look in self._container.listeners:
            self._container.listeners.remove(self._look)
        if self._timer is not None:
            self._timer.cancel()
