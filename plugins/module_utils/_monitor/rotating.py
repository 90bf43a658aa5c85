# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps log files within their size: a look every second, one piece copied at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Callable

from .._errors import VesselError
from .container import Container
from .host import Host
from .rotation import Rotation, due

INTERVAL = 1.0


class Rotator:
    def __init__(self, host: Host, containers: Callable[[], Iterable[Container]]) -> None:
        self._host = host
        self._containers = containers
        self._busy: set[str] = set()
        self._scheduled = False

    def wake(self, container: Container) -> None:
        """It has changed: if its log is to be rotated, the looking begins. With nothing to rotate there is no timer."""
        if not self._scheduled and _rotates(container):
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        self._host.loop.after(INTERVAL, self._look)

    def _look(self) -> None:
        self._scheduled = False
        for container in filter(_rotates, self._containers()):
            log = container.settings.log
            if not self._scheduled:
                self._schedule()
            if log.path not in self._busy and due(log.path, log.max_size):
                self._rotate(log.path, log.max_file)

    def _rotate(self, path: str, files: int) -> None:
        try:
            rotation = Rotation(path, files)
        except OSError as error:
            sys.stderr.write(f"rotate {path}: {error.strerror}\n")
            return
        self._busy.add(path)
        self._step(path, rotation)

    def _step(self, path: str, rotation: Rotation) -> None:
        try:
            done = rotation.step()
        except (VesselError, OSError) as error:
            sys.stderr.write(f"rotate {path}: {error}\n")
            rotation.close()
            done = True
        if done:
            self._busy.discard(path)
        else:
            self._host.loop.after(0, lambda: self._step(path, rotation))


def _rotates(container: Container) -> bool:
    log = container.settings.log
    return container.process is not None and log.driver == "file" and log.max_size > 0
