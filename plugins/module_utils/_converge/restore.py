# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Around a reboot: all ends in order, and what was declared and not stopped comes back, from what was stored.

What can't be brought back keeps nothing else from coming, but what waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .._errors import VesselError, WaitError
from .._monitor import status as s
from .._monitor.client import connect
from .._paths import Paths
from . import containers, firewall, lifecycle, networks, prepare, stacks, store, volumes
from .host import Host
from .plan import Plan


def restore(paths: Paths) -> tuple[list[str], list[Exception]]:
    """(what was done, what failed): volumes, networks, then the containers, in the order that their stacks declare."""
    run = _Run(Host(paths))
    for name in store.names(paths, volumes.KIND):
        run.attempt(lambda name=name: volumes.plan(paths, {"name": name}))  # type: ignore[misc]
    for name in store.names(paths, networks.KIND):
        run.attempt(lambda name=name: _network(run.host, name))  # type: ignore[misc]
    run.attempt(lambda: firewall.plan(paths))
    needs = _needs(paths)
    for name in _order(paths, needs):
        if not run.attempt(lambda name=name: run.container(name, needs.get(name) or {})):  # type: ignore[misc]
            run.lost.add(name)
    return run.done, run.errors


def _network(host: Host, name: str) -> Plan:
    return networks.plan(host.paths, {"name": name}, seen=host.snapshot, others=host.networks)


def shut_down(paths: Paths) -> tuple[list[str], list[Exception]]:
    """(what was stopped, what failed): who is waited for ends after who waits. What is declared stays as it is."""
    done: list[str] = []
    errors: list[Exception] = []
    with connect(paths) as client:
        running = [name for name, status in client.call("list")["containers"].items() if status["status"] != s.EXITED]
        for level in reversed(_levels(running, _needs(paths))):
            asked = {client.submit("stop", name=name): name for name in level}
            while asked:
                number, reply = client.next()
                name = asked.pop(number)
                try:
                    client.result(reply)
                    done.append(name)
                except VesselError as error:
                    errors.append(error)
    return done, errors


class _Run:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.done: list[str] = []
        self.errors: list[Exception] = []
        self.lost: set[str] = set()  # containers that do not come back

    def attempt(self, plan: Callable[[], Plan]) -> bool:
        try:
            steps = plan()
            steps.apply()
        except (VesselError, OSError) as error:
            self.errors.append(error)
            return False
        self.done += steps.describe()
        return True

    def container(self, name: str, needs: dict[str, str]) -> Plan:
        for other, condition in sorted(needs.items()):
            if other in self.lost:
                raise WaitError(f"container {name} waits for {other}, which did not come back")
            until = {"healthy": "healthy", "completed": "exited"}.get(condition)
            if until:
                self.host.client().call("wait", name=other, until=until, timeout=lifecycle.WAIT)
        return containers.plan(self.host.paths, {"name": name, "state": "started"}, host=self.host)


def _needs(paths: Paths) -> dict[str, dict[str, str]]:
    """What the containers of all stacks wait for."""
    found: dict[str, dict[str, str]] = {}
    for stack in store.names(paths, stacks.KIND):
        found.update((store.read_spec(paths, stacks.KIND, stack) or {}).get("depends_on") or {})
    return found


def _order(paths: Paths, needs: dict[str, dict[str, str]]) -> Iterator[str]:
    """Those that are to run and do not: first who waits for nobody."""
    names = [name for name in store.names(paths, prepare.KIND) if not prepare.is_stopped(paths, name)]
    for level in _levels(names, needs):
        for name in level:
            if not prepare.look(paths, name).pid:
                yield name


def _levels(names: list[str], needs: dict[str, dict[str, str]]) -> list[list[str]]:
    """Those that wait for nobody, those that wait for them, and so on."""
    depths: dict[str, int] = {}

    def depth(name: str, path: tuple[str, ...] = ()) -> int:
        if name not in depths and name not in path:
            depths[name] = max((depth(other, (*path, name)) + 1 for other in needs.get(name) or {}), default=0)
        return depths.get(name, 0)

    found: list[list[str]] = [[] for dummy in range(max(map(depth, names), default=-1) + 1)]
    for name in sorted(names):
        found[depth(name)].append(name)
    return found
