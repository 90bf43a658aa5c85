# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that no signal ends, which no test can make for real: it waits for a device for ever."""

from __future__ import annotations

import os

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import StateError
from ansible_collections.vessel.host.plugins.module_utils._monitor import container as containers
from ansible_collections.vessel.host.plugins.module_utils._monitor import status
from ansible_collections.vessel.host.plugins.module_utils._monitor.container import Container
from ansible_collections.vessel.host.plugins.module_utils._monitor.host import Host
from ansible_collections.vessel.host.plugins.module_utils._monitor.server import _when_settled
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths


class Undying:
    pid = 4711
    start_time = 1

    def __init__(self):
        self.signals = []

    def signal(self, number):
        self.signals.append(int(number))


class Reply:
    def __init__(self):
        self.said = []

    def error(self, error):
        self.said.append(error)


@pytest.fixture
def container(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "KILL_PATIENCE", 0.02)
    monkeypatch.setattr(Container, "_thaw", lambda self: None)
    host = Host(Paths.at(str(tmp_path)))
    os.makedirs(host.paths.bundle("a"))
    container = Container(host, "a")
    container.process = Undying()
    container.status.status, container.status.pid = status.RUNNING, 4711
    yield container
    host.loop.close()


@pytest.mark.parametrize(("timeout", "signals"), [(0, [9]), (0.02, [15, 9])])
def test_who_waits_for_the_stop_is_told(container, timeout, signals):
    reply = Reply()
    _when_settled(container, reply, lambda: pytest.fail("it has not ended"))
    container.stop(timeout)
    for dummy in range(3):
        container.host.loop.turn(0.05)
    assert container.process.signals == signals
    (error,) = reply.said
    assert isinstance(error, StateError)
    assert str(error).startswith("container a: process 4711 does not end, even by SIGKILL (")
    assert container.status.status == status.STOPPING
    assert container.listeners == []
