# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many containers started, stopped and removed at once through the supervisor, in the order that they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

from .._errors import StartError, VesselError, WaitError
from .host import Host

# "done" and "started" hold when nothing more is to happen with the other; for the rest the supervisor is asked.
_UNTIL = {"healthy": "healthy", "completed": "exited"}

Errors = dict[str, Exception]


@dataclass
class Call:
    """A request to the supervisor, and what is done here before and after it. ``op`` may be empty.

    It is about the ``instance`` of the container, else about the one that counts by then.
    """

    op: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    instance: str = ""
    before: Optional[Callable[[], Any]] = None
    after: Optional[Callable[[dict[str, Any]], Any]] = None


@dataclass
class Job:
    """What is to happen with one container; ``needs`` are (container, condition) that must hold before it begins."""

    name: str
    calls: list[Call]
    needs: list[tuple[str, str]] = field(default_factory=list)


class _Run:
    def __init__(self, host: Host, jobs: list[Job], timeout: float, errors: Optional[Errors]) -> None:
        self.host = host
        self.errors = errors
        self.unmet: dict[tuple[str, str], Exception] = {}  # conditions that will not hold any more
        self.timeout = timeout
        self.waiting = {job.name: job for job in jobs}
        self.active: dict[str, list[Call]] = {}
        self.requests: dict[int, tuple[str, str, Optional[Call]]] = {}  # id: (kind, container or condition's, call)
        self.met: set[tuple[str, str]] = set()
        self.asked: set[tuple[str, str]] = set()
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        self._advance()
        while self.requests:
            number, reply = self.host.client().next()
            kind, name, call = self.requests.pop(number)
            try:
                self.host.client().result(reply)
                if kind == "call":
                    self._called(name, call, reply)
                else:
                    self._met(name, kind, reply)
            except (VesselError, OSError) as error:
                self._failed(error, name, "" if kind == "call" else kind)
            if self.error is None:
                self._advance()
        if self.error is None and self.waiting:
            self.error = WaitError(
                f"nothing can start any more; these wait for one another: {', '.join(sorted(self.waiting))}"
            )
        if self.error is not None:
            raise self.error

    def _failed(self, error: Exception, name: str, condition: str = "") -> None:
        """The first error is the one to tell; what is under way comes to its end, and nothing new begins.

        Where errors are collected, only those that need the container, or its condition, do not begin.
        """
        error = _named(error, name)
        if self.errors is None:
            self.error = self.error or error
        elif condition:
            self.unmet[name, condition] = error
        else:
            self.errors[name] = error
            self.active.pop(name, None)
            self.unmet.update({(name, each): error for each in (*_UNTIL, "started", "done")})

    def _advance(self) -> None:
        """Begin all jobs whose needs hold, again while one ends at once: it may be what another waits for."""
        while self.error is None and self._begin():
            pass

    def _begin(self) -> bool:
        """Begin what can begin, and ask for those conditions that nobody asked for yet. Did a job end already?"""
        ended = False
        for name, job in list(self.waiting.items()):
            if self.error is not None:
                break
            unmet = next((need for need in job.needs if need in self.unmet), None)
            if unmet:
                del self.waiting[name]
                self._failed(WaitError(f"container {name} waits for {unmet[0]}: {self.unmet[unmet]}"), name)
                ended = True
                continue
            open_needs = [need for need in job.needs if not self._holds(need)]
            if not open_needs:
                del self.waiting[name]
                self.active[name] = list(job.calls)
                self._next(name)
                ended = ended or name not in self.active
                continue
            for need in open_needs:
                settled = need[0] not in self.waiting and need[0] not in self.active
                if need[1] in _UNTIL and settled and need not in self.asked:
                    self._ask(need)
        return ended

    def _holds(self, need: tuple[str, str]) -> bool:
        name, condition = need
        if condition in _UNTIL:
            return need in self.met
        return name not in self.waiting and name not in self.active

    def _ask(self, need: tuple[str, str]) -> None:
        name, condition = need
        self.asked.add(need)
        instance = self.host.paths.instance(name)
        number = self.host.client().submit("wait", name=instance, until=_UNTIL[condition], timeout=self.timeout)
        self.requests[number] = (condition, name, None)

    def _met(self, name: str, condition: str, reply: dict[str, Any]) -> None:
        if condition == "completed" and reply["status"].get("exit_code") != 0:
            code = reply["status"].get("exit_code")
            raise WaitError(f"container {name} ended with exit code {code}, and others wait for its success")
        self.met.add((name, condition))

    def _next(self, name: str) -> None:
        """Go on until a call has to be waited for."""
        calls = self.active[name]
        while calls:
            call = calls.pop(0)
            try:
                if call.before is not None:
                    call.before()
            except (VesselError, OSError) as error:
                self._failed(error, name)
                return
            if call.op:
                instance = call.instance or self.host.paths.instance(name)
                self.requests[self.host.client().submit(call.op, name=instance, **call.fields)] = ("call", name, call)
                return
            if call.after is not None:
                call.after({})
        del self.active[name]

    def _called(self, name: str, call: Optional[Call], reply: dict[str, Any]) -> None:
        if call is not None and call.after is not None:
            call.after(reply)
        self._next(name)


def _named(error: Exception, name: str) -> Exception:
    """Of one container among many: what its child could not do does not say whose it was."""
    if isinstance(error, StartError):
        error.message = f"container {name}: {error.message}"
    return error


def run(host: Host, jobs: list[Job], timeout: float, errors: Optional[Errors] = None) -> None:
    """Return when all is done; the first error otherwise. ``timeout`` bounds each wait for a condition, in seconds.

    With ``errors`` they are collected there, by container, and everything is done that can be done nevertheless.
    """
    merged: dict[str, Job] = {}
    for job in jobs:
        known = merged.setdefault(job.name, Job(job.name, []))
        known.calls += job.calls
        known.needs += job.needs
    if merged:
        _Run(host, list(merged.values()), timeout, errors).run()
