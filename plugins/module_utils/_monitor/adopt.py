# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of a supervisor that is no more: those that run go on, those that ended meanwhile get their policy."""

from __future__ import annotations

import os
import sys
from typing import Any, Optional

from .._cgroup.manager import open_manager
from .._errors import NotFoundError, VesselError
from .._kernel.process import pidfd_open
from .._paths import Paths
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
    adopted = {}
    for name in names(host.paths):
        try:
            container = _adopt(host, name)
        except (VesselError, OSError) as error:
            sys.stderr.write(f"{name}: it can't be adopted: {error}\n")
            continue
        if container is not None:
            adopted[name] = container
    return adopted


def _adopt(host: Host, name: str) -> Optional[Container]:
    container = Container(host, name)
    known = s.load(host.paths.status(name))
    state = _state(host.paths, name)
    if known is None:
        if state is None or not state.alive():
            _sweep(host, name)
            return None
        # Started, and killed before that was written down.
        known = s.Status()
        known.wanted = s.WANT_RUNNING
    container.status = known
    container.read_settings()
    watched = _watch(state)
    if state is not None and watched is not None and not os.path.exists(state.gate):
        _go_on(container, state, watched)
    else:
        if watched is not None:
            watched.close()
        _ended(container, state)
    return container


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
    status.started_at = status.started_at or s.timestamp()
    if status.pid_start != watched.start_time:
        status.health, status.exit_code = None, None  # of a life before
    container.run(watched, process, now)
    if status.wanted == s.WANT_STOPPED:
        container.stop()


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
    if status.status in (s.RUNNING, s.PAUSED, s.STOPPING):
        code = status.exit_code if status.pid == 0 else _last_word(state)
        container.ended(code, age(status.pid_start) if status.pid_start else 0.0)
        return
    _sweep(container.host, container.name)
    if status.wanted == s.WANT_RUNNING and status.status in (s.CREATED, s.RESTARTING):
        container.await_restart(status.backoff)
        container.changed()
    elif status.status != s.EXITED:
        status.status = s.EXITED
        container.changed()


def _last_word(state: Optional[State]) -> Optional[int]:
    """The exit code while it is a zombie that nobody has reaped; else it is lost."""
    return None if state is None else zombie_exit_code(state.pid, state.start_time)


def _sweep(host: Host, name: str) -> None:
    """What a supervisor left that was killed while it made or removed the container."""
    delete(host.paths.runtime, name, force=True)
    manager = open_manager(host.paths.cgroup(name))
    if manager.exists():
        manager.kill()
        manager.remove()
