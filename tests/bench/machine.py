# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of tests/vm for a comparison: playbooks by the clock, and what it takes to boot."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from playing import CHECKOUT, HERE, Play

sys.path[:0] = [str(CHECKOUT / "collection"), str(CHECKOUT / "tests/vm")]

from ansible_collections.vessel.host.tests.machines.machine import PATIENCE, Machine, machine, until
from virt import machine as machines
from virt import ssh

__all__ = ["Boot", "Machine", "machine", "play", "reboot", "until"]

# After 100 ms, so that the end of this connection is no failure.
_REBOOT = "systemd-run --quiet --on-active=100ms --timer-property=AccuracySec=1ms systemctl reboot"


@dataclass
class Boot:
    """Seconds. ``shutdown`` is from the command to the reset; the others are from the start of the next kernel on."""

    shutdown: float
    answered: float
    healthy: float


def play(host: Machine, playbook: str, **extra: object) -> Play:
    start = time.monotonic()
    output = host.play(HERE / playbook, **extra)
    return Play(time.monotonic() - start, output)


def reboot(host: Machine, port: int, healthy: Callable[[], float]) -> Boot:
    """``healthy`` returns the guest's uptime at which all was healthy, when it was; the page tells boots apart."""
    before = until("a page", lambda: host.page(port))
    inner = machines.find(host.name)
    with inner.monitor() as monitor:
        ssh.forget(inner.directory)
        inner.shell(_REBOOT)
        start = time.monotonic()
        monitor.wait("RESET", PATIENCE)
        shutdown = time.monotonic() - start
    until("another page", lambda: host.page(port) not in ("", before))
    answered = time.monotonic()
    inner.wait()
    all_well = float(until("a healthy shop", healthy, pause=1))
    return Boot(shutdown, answered - _kernel_start(host), all_well)


def _kernel_start(host: Machine) -> float:
    """By this host's clock, of the try that took least."""
    found = []
    for _try in range(4):
        before = time.monotonic()
        uptime = float(host.ssh("cat /proc/uptime").split()[0])
        now = time.monotonic()
        found.append((now - before, (now + before) / 2 - uptime))
    return min(found)[1]
