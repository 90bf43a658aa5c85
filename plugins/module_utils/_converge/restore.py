# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Around a reboot: all ends in order, and what was declared and not stopped comes back, from what was stored.

What can't be brought back keeps nothing else from coming, but what waits for it.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from functools import partial
from typing import Optional, TypeVar

from .._errors import VesselError
from .._monitor import status as s
from .._paths import Paths, container_of
from . import firewall, jobs, networks, stacks, store, users, volumes
from .container import containers, lifecycle, prepare, together
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
    run = Run(Host(paths))
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


def _restore(run: Run, paths: Paths, *, boot: bool) -> None:
    present = [prepare.look(paths, name) for name in _to_run(paths)]
    wanted = [each.name for each in present if not each.pid and not (boot and each.status)]
    if wanted:
        run.attempt(run.host.client)  # it starts while the rest is made ready
    for name in store.names(paths, volumes.KIND):
        run.converge(partial(volumes.plan, paths, {"name": name}))
    for name in store.names(paths, networks.KIND):
        run.converge(partial(_network, run.host, name))
    run.host.read_anew("snapshot")  # it was taken before they were there
    run.converge(partial(firewall.plan, paths))
    run.containers(wanted)


def shut_down(paths: Paths) -> tuple[list[str], list[Exception]]:
    """(what was stopped, what failed): who is waited for ends after who waits. What is declared stays as it is."""
    host = Host(paths)
    known = host.client().call("list")["containers"]
    live = sorted(instance for instance, status in known.items() if status["status"] != s.EXITED)
    running = sorted({container_of(instance) for instance in live})
    stops = []
    for name, waiting in to_stop(paths, running):
        calls = [Call("stop", instance=instance) for instance in live if container_of(instance) == name]
        stops.append(Job(name, calls, waiting))
    failed: jobs.Errors = {}
    jobs.run(host, stops, lifecycle.WAIT, failed)
    return [name for name in running if name not in failed], list(failed.values())


def _network(host: Host, name: str) -> Plan:
    return networks.plan(host.paths, {"name": name}, seen=host.snapshot, others=host.networks)


class Run:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.done: list[str] = []
        self.errors: list[Exception] = []
        self.failed: jobs.Errors = {}  # the containers among what failed
        self.unready: dict[str, Exception] = {}  # by a step's target: what it can't be started for

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
        """All at once, as a stack's; but what fails for one is undone and told for that one alone. That one is to run
        is remembered when it does, so that who was to be started and is not is known."""
        whole = Plan()
        for name, needs in to_start(self.host.paths, names):  # so they get the addresses they had
            desired = {"name": name, "state": "started"}
            part = self.attempt(partial(containers.plan, self.host.paths, desired, host=self.host))
            if part is None:
                target = f"container {name}"
                self.unready[target] = self.errors[-1]
                part = Plan([lifecycle.job_step(self.host, target, "start", Job(name, []))])
            whole.extend(stacks.with_needs(part, needs))
        marks = [step for step in whole if step.action == lifecycle.MARK]
        others = Plan([step for step in whole if step.action != lifecycle.MARK])
        for group in stacks.arrange(self.host, others).groups():
            if isinstance(group[0].payload, Job):
                failed: jobs.Errors = {}
                jobs.run(self.host, [self._job(step) for step in group], lifecycle.WAIT, failed)
                self.failed.update(failed)
                self.done += [step.describe() for step in group if step.payload.name not in failed]
                self.errors += [error for error in failed.values() if error not in self.unready.values()]
            else:
                self._together(group)
        for step in marks:
            if step.subject not in self.failed:
                self.attempt(step.do)

    def _job(self, step: Step) -> Job:
        """One that could not be made ready fails when its turn comes, so that who waits for it is told."""
        if step.target not in self.unready:
            return step.payload  # type: ignore[no-any-return]

        def refuse() -> None:
            raise self.unready[step.target]

        return Job(step.payload.name, [Call(before=refuse)], step.payload.needs)

    def _together(self, group: list[Step]) -> None:
        try:
            Plan(group).apply()
        except (VesselError, OSError):
            for step in group:
                before = len(self.errors)
                self.converge(partial(Plan, [step]))
                if len(self.errors) > before:
                    self.unready[step.target] = self.errors[-1]
        else:
            self.done += Plan(group).describe()


def to_start(paths: Paths, names: list[str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each after those that it waits for, with what it waits for. Who is not among them stays as it is; who needs it
    comes up without."""
    needs = _needs(paths)
    for name in (name for level in _levels(names, needs) for name in level):
        yield name, [need for need in (needs.get(name) or {}).items() if need[0] in names]


def to_stop(paths: Paths, names: list[str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each with those that wait for it: they end before."""
    needs = _needs(paths)
    for name in names:
        yield name, [(other, "done") for other in names if name in (needs.get(other) or {})]


def _needs(paths: Paths) -> _Needs:
    """What the containers of all stacks wait for; and who joins a namespace of another, of a stack or not, waits for
    that one."""
    found: _Needs = {}
    for stack in store.names(paths, stacks.KIND):
        found.update((store.read_spec(paths, stacks.KIND, stack) or {}).get("depends_on") or {})
    for name, spec in users.specs(paths):
        for other in together.joined(spec):
            found[name] = {other: "started", **found.get(name, {})}
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
