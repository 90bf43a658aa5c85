# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Around a reboot: all ends in order, and what was declared and not stopped comes back, from what was stored.

What can't be brought back keeps nothing else from coming, but what waits for it.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable
from functools import partial
from typing import Optional, TypeVar

from .._errors import VesselError
from .._monitor import status as s
from .._paths import Paths
from . import containers, firewall, jobs, lifecycle, networks, prepare, stacks, store, volumes
from .host import Host
from .jobs import Call, Job
from .plan import Plan, Step

_Needs = dict[str, dict[str, str]]
_T = TypeVar("_T")


def restore(paths: Paths, *, boot: bool = False) -> tuple[list[str], list[Exception]]:
    """(what was done, what failed): volumes, networks, then the containers, in the order that their stacks declare.

    With ``boot`` those alone that have not been started since the host was: what has ended has ended.
    A task that comes meanwhile waits for what it names, as for another task.
    """
    run = _Run(Host(paths))
    _raise_nofile()  # a lock is a descriptor
    with contextlib.ExitStack() as held:
        for kind in sorted((prepare.KIND, networks.KIND, volumes.KIND)):
            for name in store.names(paths, kind):
                held.enter_context(store.lock(paths, kind, name))
        _restore(run, paths, boot=boot)
    return run.done, run.errors


def _raise_nofile() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _restore(run: _Run, paths: Paths, *, boot: bool) -> None:
    present = [prepare.look(paths, name) for name in _to_run(paths)]
    wanted = [each.name for each in present if not each.pid and not (boot and each.status)]
    if wanted:
        run.attempt(run.host.client)  # it starts while the rest is made ready
    for name in store.names(paths, volumes.KIND):
        run.converge(partial(volumes.plan, paths, {"name": name}))
    for name in store.names(paths, networks.KIND):
        run.converge(partial(_network, run.host, name))
    run.converge(partial(firewall.plan, paths))
    run.containers(wanted)


def shut_down(paths: Paths) -> tuple[list[str], list[Exception]]:
    """(what was stopped, what failed): who is waited for ends after who waits. What is declared stays as it is."""
    host, needs = Host(paths), _needs(paths)
    known = host.client().call("list")["containers"]
    running = sorted(name for name, status in known.items() if status["status"] != s.EXITED)
    stops = []
    for name in running:
        waiting = [(other, "done") for other in running if name in (needs.get(other) or {})]
        stops.append(Job(name, [Call("stop")], waiting))
    failed: jobs.Errors = {}
    jobs.run(host, stops, lifecycle.WAIT, failed)
    return [name for name in running if name not in failed], list(failed.values())


def _network(host: Host, name: str) -> Plan:
    return networks.plan(host.paths, {"name": name}, seen=host.snapshot, others=host.networks)


class _Run:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.done: list[str] = []
        self.errors: list[Exception] = []

    def attempt(self, function: Callable[[], _T]) -> Optional[_T]:
        """What the function gives; None when it fails."""
        try:
            return function()
        except (VesselError, OSError) as error:
            self.errors.append(error)
            return None

    def converge(self, plan: Callable[[], Plan]) -> None:
        def do() -> None:
            steps = plan()
            steps.apply()
            self.done += steps.describe()

        self.attempt(do)

    def containers(self, names: list[str]) -> None:
        """All at once, as a stack's; but what fails for one is undone and told for that one alone."""
        needs, whole = _needs(self.host.paths), Plan()
        for name in (name for level in _levels(names, needs) for name in level):  # so they get the addresses they had
            desired = {"name": name, "state": "started"}
            part = self.attempt(partial(containers.plan, self.host.paths, desired, host=self.host)) or Plan()
            # Who was stopped stays so; who needs it comes up without.
            wanted = [need for need in (needs.get(name) or {}).items() if need[0] in names]
            whole.extend(stacks.with_needs(part, wanted))
        for group in stacks.arrange(self.host, whole).groups():
            if isinstance(group[0].payload, Job):
                failed: jobs.Errors = {}
                jobs.run(self.host, [step.payload for step in group], lifecycle.WAIT, failed)
                self.done += [step.describe() for step in group if step.payload.name not in failed]
                self.errors += failed.values()
            else:
                self._together(group)

    def _together(self, group: list[Step]) -> None:
        try:
            Plan(group).apply()
        except (VesselError, OSError):
            for step in group:
                self.converge(partial(Plan, [step]))
        else:
            self.done += Plan(group).describe()


def _needs(paths: Paths) -> _Needs:
    """What the containers of all stacks wait for."""
    found: _Needs = {}
    for stack in store.names(paths, stacks.KIND):
        found.update((store.read_spec(paths, stacks.KIND, stack) or {}).get("depends_on") or {})
    return found


def _to_run(paths: Paths) -> list[str]:
    return [name for name in store.names(paths, prepare.KIND) if not prepare.is_stopped(paths, name)]


def _levels(names: list[str], needs: _Needs) -> list[list[str]]:
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
