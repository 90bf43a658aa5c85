# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of a supervisor that is no more: those that run go on, those that ended meanwhile get their policy."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Optional

from .._cgroup.manager import open_manager
from .._errors import NotFoundError, VesselError
from .._kernel.process import pidfd_open
from .._paths import Paths
from .._runtime import gate
from .._runtime.delete import delete
from .._runtime.state import State, load
from . import status as s
from .container import Container
from .host import Host
from .process import Watched, age, zombie_exit_code


def names(paths: Paths) -> list[str]:
    """What has a status, or a trace in the runtime."""
    found = set(_entries(paths.runtime))
    for name in _entries(os.path.dirname(paths.bundle("x"))):
        if os.path.exists(paths.status(name)):
            found.add(name)
    return sorted(found)


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def adopt_all(host: Host) -> dict[str, Container]:
    states = {name: _state(host.paths, name) for name in names(host.paths)}
    host.exits.listen([state.pid for state in states.values() if state is not None and state.alive()])
    adopted = {}
    for name, state in states.items():
        try:
            container = _adopt(host, name, state)
        except (VesselError, OSError) as error:
            sys.stderr.write(f"{name}: it can't be adopted: {error}\n")
            _forget(host, state)
            continue
        if container is not None:
            adopted[name] = container
    return adopted


def _adopt(host: Host, name: str, state: Optional[State]) -> Optional[Container]:
    container = Container(host, name)
    known = s.load(host.paths.status(name))
    if known is None:
        if state is None or not state.alive():
            _sweep(host, name)
            return None
        # Started, and killed before that was written down.
        known = s.Status()
        known.wanted = s.WANT_RUNNING
    container.status = known
    container.read_settings()
    container.leases.resume()
    watched = _watch(state)
    if state is not None and watched is not None and not os.path.exists(state.gate):
        gate.open_wholly(state.directory)
        _go_on(container, state, watched)
    else:
        if watched is not None:
            watched.close()
        _ended(container, state)
    if container.settled:
        container.leases.release(lambda: None)
    return container


def _forget(host: Host, state: Optional[State]) -> None:
    if state is not None:
        host.exits.forget(state.pid)


def _state(paths: Paths, name: str) -> Optional[State]:
    try:
        return load(paths.runtime, name)
    except (NotFoundError, ValueError, KeyError):
        return None


def _watch(state: Optional[State]) -> Optional[Watched]:
    """The pidfd first, then the start time: after that nobody else can be meant."""
    if state is None or not state.alive():
        return None
    try:
        watched = Watched(state.pid, pidfd_open(state.pid), state.start_time)
    except VesselError:
        return None
    if state.alive():
        return watched
    watched.close()
    return None


def _go_on(container: Container, state: State, watched: Watched) -> None:
    status = container.status
    process = _process(container)
    now = s.PAUSED if state.manager().frozen() else s.RUNNING
    if status.pid_start != watched.start_time:
        _begin_life(status, watched.start_time)
    container.run(watched, process, now)
    if status.wanted == s.WANT_STOPPED:
        container.stop()


def _begin_life(status: s.Status, start_time: int) -> None:
    """Instead of the supervisor that was killed after it had let the process go, and before it wrote that down."""
    status.pid_start = start_time
    status.started_at, status.finished_at = s.timestamp(time.time() - age(start_time)), ""
    status.exit_code, status.oom_killed, status.health = None, False, None


def _process(container: Container) -> dict[str, Any]:
    try:
        return container.process_spec()
    except VesselError as error:
        sys.stderr.write(f"{container.name}: no health check without its bundle: {error}\n")
        container.settings.health = None
        return {}


def _ended(container: Container, state: Optional[State]) -> None:
    """It is not there: it ended, or it was about to be started, or to be started again."""
    status = container.status
    if status.status == s.CREATED and state is not None and not os.path.exists(state.gate):
        _begin_life(status, state.start_time)  # which is over already
        status.status = s.RUNNING
    if status.status == s.STOPPING and status.pid == 0 and status.pid_start:
        _forget(container.host, state)
        container.clean(age(status.pid_start))
        return
    if status.status in (s.RUNNING, s.PAUSED, s.STOPPING):
        _end(container, state)
        return
    _sweep(container.host, container.name)
    _forget(container.host, state)
    if status.wanted == s.WANT_RUNNING and status.status in (s.CREATED, s.RESTARTING):
        container.await_restart(status.backoff)
        container.changed()
    elif status.status != s.EXITED:
        status.status = s.EXITED
        container.changed()


def _end(container: Container, state: Optional[State]) -> None:
    """Its exit code is known while it is a zombie that nobody has reaped, or if it lived when we came; else it is
    lost."""
    ran = age(container.status.pid_start) if container.status.pid_start else 0.0
    if state is None:
        container.ended(None, ran)
    else:
        code = zombie_exit_code(state.pid, state.start_time)
        container.host.exits.ask(state.pid, code, lambda code: container.ended(code, ran))


def _sweep(host: Host, name: str) -> None:
    """What a supervisor left that was killed while it made or removed the container."""
    delete(host.paths.runtime, name, force=True)
    manager = open_manager(host.paths.cgroup(name))
    if manager.exists():
        manager.kill()
        manager.remove()
    manager.release()
