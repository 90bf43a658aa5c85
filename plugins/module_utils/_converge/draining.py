# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is to have no work is marked, and what runs there is stopped, to be started again by and by.

The mark is written before anything is stopped, and removed after all is started again, so that a run that was killed is
gone on with by the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Callable

from .._errors import VesselError
from .._options.parse import choice, parse_bool
from .._options.record import Option
from .._paths import Paths
from . import jobs, restore, stacks, store
from .container import containers, lifecycle, prepare
from .drain_mark import PLACE, UNDRAINED, Mark, read, write
from .host import Host
from .jobs import Job
from .plan import Plan, Staged, Step

STATES = ("drained", "cordoned", "undrained")
OPTIONS = (
    Option("state", choice(*STATES), choices=STATES, default="drained", shown_default="drained"),
    Option("stop", parse_bool, "bool", default=True, shown_default=True),
)


def locks(paths: Paths, desired: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [PLACE, *((prepare.KIND, name) for name in store.names(paths, prepare.KIND))]


def plan(paths: Paths, desired: Mapping[str, Any]) -> Plan:
    before = read(paths)
    if desired["state"] == "undrained":
        return _undrain(paths, before)
    wanted = {**before, "state": desired["state"]}
    if desired["state"] == "cordoned" or not desired["stop"]:
        return _marking(paths, before, wanted)
    host = Host(paths)
    running, idle = _to_stop(paths)
    wanted["stopped"] = sorted({*before["stopped"], *running})
    wanted["held"] = sorted({*before["held"], *idle})
    stages = [_marking(paths, before, wanted), _stops(host, running), _holds(paths, idle)]
    return Plan([step for stage in stages for step in stage])


def _marking(paths: Paths, before: Mark, after: Mark) -> Plan:
    if before == after:
        return Plan()
    # Not undone when stopping one fails: it is what knows of the others that were stopped by then.
    step = Step("host", f"be {after['state']}", partial(write, paths, after))
    step.option, step.before, step.after = "state", before["state"], after["state"]
    step.hidden = before["state"] == after["state"]
    return Plan([step])


def _to_stop(paths: Paths) -> tuple[list[str], list[str]]:
    """(those that run, those that do not and that a boot would start). One that is to be stopped may run yet: a run was
    killed before it was."""
    names = store.names(paths, prepare.KIND)
    seen = [prepare.look(paths, name) for name in names]
    running = [each.name for each in seen if each.pid or each.coming]
    return running, [name for name in names if name not in running and not prepare.is_stopped(paths, name)]


def _stops(host: Host, names: list[str]) -> Plan:
    """Whoever is waited for stops after those who wait, each by its own signal and time."""
    result = Plan()
    for name, before in restore.to_stop(host.paths, names):
        part = containers.plan(host.paths, {"name": name, "state": "stopped"}, host=host)
        result.extend(stacks.with_needs(part, before))

    def stop(steps: list[Step]) -> jobs.Errors:
        failed: jobs.Errors = {}
        for group in whole.groups():
            if isinstance(group[0].payload, Job):
                jobs.run(host, [step.payload for step in group], lifecycle.WAIT, failed)
            else:
                Plan(group).apply()
        return failed

    whole = stacks.arrange(host, result)
    return _as_far_as_it_goes(whole, stop)


def _as_far_as_it_goes(plan: Plan, act: Callable[[list[Step]], jobs.Errors]) -> Plan:
    """``act`` does the steps, and gives what failed by container. What did not is done and stays so."""
    failed: jobs.Errors = {}

    def do(steps: list[Step]) -> None:
        failed.update(act(steps))
        steps[:] = [step for step in steps if step.subject not in failed]

    def tell() -> None:
        errors = list(failed.values())
        if errors:
            raise errors[0] if len(errors) == 1 else VesselError("; ".join(map(str, errors)))

    told = [replace(step, batch=do, undo=None) for step in plan]
    return Plan([*told, Step("host", "tell what failed", tell, hidden=True)] if told else [])


def _holds(paths: Paths, names: list[str]) -> Plan:
    def step(name: str) -> Step:
        hold, release = (partial(prepare.remember_stopped, paths, name, stopped) for stopped in (True, False))
        return Step(f"container {name}", "hold", hold, release, hidden=True)

    return Plan([step(name) for name in names])


def _undrain(paths: Paths, before: Mark) -> Plan:
    if before == UNDRAINED:
        return Plan()
    there = store.names(paths, prepare.KIND)
    held = [name for name in before["held"] if name in there]
    stopped = [name for name in before["stopped"] if name in there and prepare.is_stopped(paths, name)]

    def release() -> None:
        for name in held:
            prepare.remember_stopped(paths, name, False)
        write(paths, UNDRAINED)

    done = Step("host", "be undrained", release, option="state", before=before["state"], after="undrained")
    return Staged([lambda preview: _starts(Host(paths), stopped), lambda preview: Plan([done])])


def _starts(host: Host, names: list[str]) -> Plan:
    """As at boot: one that can't be started keeps nobody else from it but who waits for it."""

    def start(steps: list[Step]) -> jobs.Errors:
        run = restore.Run(Host(host.paths))
        run.containers(names)
        return run.failed

    return _as_far_as_it_goes(Plan([step for name in names for step in _start(host, name)]), start)


def _start(host: Host, name: str) -> list[Step]:
    """What is told of it."""
    try:
        return list(containers.plan(host.paths, {"name": name, "state": "started"}, host=host))
    except VesselError:  # it is told when its turn comes
        return [Step(f"container {name}", "start", lifecycle.nothing)]
