# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what a container is to become, and what is said when it does not."""

from __future__ import annotations

from collections.abc import Collection
from typing import Callable, Optional

from .._errors import StateError, VesselError, WaitError
from .._kernel.proc_pid_net import tcp
from . import status as s
from .connection import Reply
from .container import Container
from .health import HEALTHY, UNHEALTHY
from .logs import tail
from .loop import Timer
from .process import age

Answer = Optional[Exception]


def running(container: Container) -> bool:
    if container.status.status in (s.RUNNING, s.PAUSED):
        return True
    if container.settled:
        raise WaitError(_sentence(container, "it does not run: " + _ended(container)))
    return False


def healthy(container: Container) -> bool:
    if container.settings.health is None and not container.busy:
        raise StateError(f"{container.title} has no health check, so it can't become healthy")
    if container.status.status == s.RUNNING:
        return (container.status.health or {}).get("status") == HEALTHY
    if container.settled:
        raise WaitError(_sentence(container, "it is not healthy: " + _ended(container)))
    return False


def exited(container: Container) -> bool:
    return container.settled


def ready(container: Container, ports: Collection[int]) -> bool:
    """May it take over from another one? It is healthy, or without a health check has run for a while, and listens
    where it has to. It is given up sooner than ``healthy`` does: nothing is lost by that, for the other one serves."""
    if container.status.restarts:
        raise WaitError(_sentence(container, "it does not stay up: " + _ended(container)))
    if not running(container) or container.process is None:
        return False
    if container.settings.health is None:
        if age(container.process.start_time) < SETTLED:
            return False
    elif not healthy(container):
        if (container.status.health or {}).get("status") == UNHEALTHY:
            raise WaitError(_sentence(container, "it is unhealthy"))
        return False
    return tcp(container.process.pid)[0].issuperset(ports)


def idle(container: Container, ports: Collection[int]) -> bool:
    """Is there no connection left that has come in?"""
    return container.process is None or not tcp(container.process.pid)[1]


CONDITIONS: dict[str, Callable[[Container], bool]] = {"running": running, "healthy": healthy, "exited": exited}
# What is looked at by the clock, for nobody tells of it. ``ports`` are those of TCP that it has to listen to.
POLLED: dict[str, Callable[[Container, Collection[int]], bool]] = {"ready": ready, "idle": idle}
PAUSE = 0.05
SETTLED = 1.0


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
    text = f"{container.title}: {what}"
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

    def __init__(
        self, container: Container, until: str, timeout: Optional[float], reply: Reply, ports: Collection[int] = ()
    ) -> None:
        self._container = container
        self._until = until
        self._timeout = timeout
        polled = POLLED.get(until)
        self._condition: Callable[[Container], bool] = (
            CONDITIONS[until] if polled is None else lambda container: polled(container, ports)
        )
        self._reply = reply
        self._timer: Optional[Timer] = None
        self._next: Optional[Timer] = None
        container.listeners.append(self._look)
        if timeout is not None:
            self._timer = container.host.loop.after(timeout, self._expired)
        if polled is None:
            self._look(container)
        else:
            self._look_again()  # not at once: what was on its way to it when we were asked has arrived by then

    def _look_again(self) -> None:
        self._next = self._container.host.loop.after(PAUSE, self._poll)

    def _poll(self) -> None:
        self._look(self._container)
        if self._look in self._container.listeners:
            self._look_again()

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
        if self._until == "idle":
            self._reply.ok(status=status.to_dict())  # whoever asks has no more time for it
            return
        state = status.status
        if status.health and state == s.RUNNING:
            state = f"{state} and {status.health.get('status')}"
        what = f"it is not {self._until} after {self._timeout:g} s, but {state}"
        self._reply.error(WaitError(_sentence(self._container, what)))

    def _leave(self) -> None:
        if self._look in self._container.listeners:
            self._container.listeners.remove(self._look)
        for timer in (self._timer, self._next):
            if timer is not None:
                timer.cancel()
