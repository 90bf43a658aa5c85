# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's life, in steps: made ready, started, stopped, replaced by another process, removed.

Each step is of one container. Those of many that are alike are done together (``BATCHES``), and what they changed for
others, names and rules, comes once at the end (``commit_step``). What a container is to become is worked out in
containers.py; how it is changed under its process stands there too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..._kernel.file import remove_tree
from ..._network import sandbox
from ..._options.container import revived
from ..._options.record import Cost
from ..._paths import Paths
from .. import jobs, secrets, store
from ..host import Host
from ..jobs import Call, Job
from ..plan import Plan, Step
from . import attach, labels, prepare
from .prepare import KIND, Present

Spec = dict[str, Any]
WAIT = 300.0
MARK = "remember whether it runs"  # the action of the step that does


def is_to_run(desired: Mapping[str, Any]) -> bool | None:
    """Shall it run? None for as it is."""
    state = desired.get("state", "started")
    return None if state == "present" else state in ("started", "healthy")


def nothing() -> None:
    """A step that is told here and done with its neighbours."""


# made


def creation(host: Host, name: str, spec: Spec, desired: Mapping[str, Any], *, after: Spec) -> Plan:
    """``after`` is what a diff shows of it."""
    target = f"container {name}"
    wanted = bool(is_to_run(desired))
    result = Plan()
    result.add(
        Step(
            target,
            "create",
            nothing,
            lambda: remove_now(host, name),
            after=after,
            batch=host_batch(host, _create_all),
            payload=(name, spec, wanted),
        )
    )
    result.add(commit_step(host))
    if not wanted:
        result.add(mark_step(host, name, stopped=True))
    else:
        # While the supervisor starts one, the links of the next are made.
        result.add(job_step(host, target, "start", Job(name, [Call("start", before=lambda: equip(host, name, spec))])))
        result.extend(settle(host, name, desired, running=True, paused=False))
    return result


def host_batch(host: Host, function: Callable[[Host, list[Step]], None]) -> Callable[[list[Step]], None]:
    """The same object for the same function, so that neighbouring steps are known to belong together."""
    cache: dict[Any, Callable[[list[Step]], None]] = host.__dict__.setdefault("_batches", {})
    if function not in cache:
        cache[function] = lambda steps: function(host, steps)
    return cache[function]


def _create_all(host: Host, steps: list[Step]) -> None:
    """Addresses for all under one lock, so that no other task takes them; then each container's own things.

    Names and rules can be made from that. What is to start gets its links when its turn comes.
    """
    made = [step.payload for step in steps]
    store.write_specs(host.paths, KIND, {name: declared(host, name, spec) for name, spec, dummy in made})
    reserve(host, [(name, spec) for name, spec, dummy in made])
    _furnish(host, [(name, spec) for name, spec, dummy in made])
    for name, spec, started in made:
        if not started:
            equip(host, name, spec)


def declared(host: Host, name: str, spec: Spec) -> Spec:
    image = prepare.find_image(host, spec)
    return prepare.stored(host.paths, name, {**spec, "image_id": image.id if image else ""})


def reserve(host: Host, made: Sequence[tuple[str, Mapping[str, Any]]], *, starting: bool = True) -> None:
    """What is each one's alone: addresses, ports, SELinux's categories.

    What containers that are ``starting`` publish comes into force with the next commit.

    OptionError when another task took meanwhile what is declared.
    """
    labels.assign_levels(host.paths, [name for name, dummy in made])
    with store.lock(host.paths, "endpoints", "all"):
        host.read_anew("attachments", "taken")
        # Who declares an address before those who get any: after a boot all of them come anew.
        for name, spec in sorted(made, key=lambda pair: not _declares_address(pair[1])):
            attach.check_taken(host, name, spec)
            attachment = attach.allocate(host, name, spec)
            attachment.running = attachment.running or starting
            host.save_attachment(name)


def _declares_address(spec: Mapping[str, Any]) -> bool:
    return any(entry.get("ipv4_address") or entry.get("ipv6_address") for entry in attach.network_names(spec))


def make_ready(host: Host, name: str, spec: Spec) -> None:
    """All that outlives the process, once its addresses are reserved. What is there already is left."""
    _furnish(host, [(name, spec)])
    equip(host, name, spec)


def _furnish(host: Host, made: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Writable layers, and the place of their names."""
    store.at_once(partial(prepare.home, host, name, prepare.image_of(host, spec)) for name, spec in made)
    for name, dummy in made:
        prepare.place(host.paths, name)
        attach.touch(host, name, [endpoint.network for endpoint in host.attachments[name].endpoints])


def equip(host: Host, name: str, spec: Spec) -> None:
    """Links, and the bundle last: whoever finds it finds the rest."""
    attachment = host.attachments[name]
    if attachment.endpoints:
        attach.connect(host, name, attachment, attach.rtnl(host))
    elif attach.uses_sandbox(spec):
        attach.pin(host, name)
    prepare.bundle(host, name, spec)


def mark_step(host: Host, name: str, *, stopped: bool) -> Step:
    return Step(
        f"container {name}",
        MARK,
        lambda: prepare.remember_stopped(host.paths, name, stopped),
        hidden=True,
    )


def commit_step(host: Host) -> Step:
    return Step("host", "update names and rules", nothing, batch=host_batch(host, _commit_all), hidden=True)


def _commit_all(host: Host, steps: list[Step]) -> None:
    attach.commit(host)


def job_step(host: Host, target: str, action: str, job: Job, **fields: Any) -> Step:
    return Step(target, action, nothing, batch=host_batch(host, _run_jobs), payload=job, **fields)


def _run_jobs(host: Host, steps: list[Step]) -> None:
    jobs.run(host, [step.payload for step in steps], host.wait_timeout)


def settle(host: Host, name: str, desired: Mapping[str, Any], *, running: bool, paused: bool) -> Plan:
    """Pausing, and waiting until it is healthy, once it runs."""
    result = Plan()
    target = f"container {name}"
    if desired.get("state") == "healthy" and running and not paused:
        timeout = float(desired.get("healthy_wait_timeout") or WAIT)
        call = Call("wait", {"until": "healthy", "timeout": timeout})
        result.add(job_step(host, target, "wait until healthy", Job(name, [call]), hidden=True))
    wanted = desired.get("paused")
    if wanted is not None and running and wanted != paused:
        call = Call("pause" if wanted else "resume")
        result.add(job_step(host, target, call.op, Job(name, [call]), option="paused", before=paused, after=wanted))
    return result


# the process anew


def replace(
    host: Host, present: Present, spec: Spec, result: Plan, cost: Cost, *, run: bool, stopped: bool | None
) -> None:
    """Stop, make ready as declared, start. The old container comes back when the new one does not start."""
    name, old = present.name, revived(present.spec or {})
    was_running, was_stopped = bool(present.pid), prepare.is_stopped(host.paths, name)

    def change() -> None:
        old["secrets"] = secrets.held(host.paths, name, old["secrets"])
        store.write_spec(host.paths, KIND, name, declared(host, name, spec))
        if cost is Cost.recreate:
            set_aside(host, name)
        gone = _networks_left(host, name, spec)
        reserve(host, [(name, spec)])
        attach.disconnect(host, gone)
        if not attach.uses_sandbox(spec):
            sandbox.delete(host.paths.netns(name))
        make_ready(host, name, spec)
        if stopped is not None:
            prepare.remember_stopped(host.paths, name, stopped)
        attach.commit(host)

    def undo() -> None:
        host.client().call("remove", name=host.paths.instance(name), timeout=0)
        bring_back(host, name)
        store.write_spec(host.paths, KIND, name, declared_again(present))
        gone = _networks_left(host, name, old)
        reserve(host, [(name, old)])
        attach.disconnect(host, gone)
        make_ready(host, name, old)
        prepare.remember_stopped(host.paths, name, was_stopped)
        attach.commit(host)
        if was_running:
            host.client().call("start", name=host.paths.instance(name))

    calls = [Call("remove"), Call(before=change)]
    if run:
        calls.append(Call("start"))
    calls.append(Call(before=lambda: drop_aside(host, name)))
    result.add(job_step(host, f"container {name}", cost.name, Job(name, calls), undo=undo, hidden=True))


def declared_again(present: Present) -> Spec:
    return dict(present.declared or present.spec or {})


def _networks_left(host: Host, name: str, spec: Spec) -> list[Any]:
    kept = {entry["name"] for entry in attach.network_names(spec)}
    return [endpoint for endpoint in attach.endpoints(host, name) if endpoint.network not in kept]


_ASIDE = ("upper", "work", "base.json")


def set_aside(host: Host, name: str) -> None:
    """The writable layer of the old container, until the new one runs."""
    base = host.paths.home(name)
    drop_aside(host, name)
    os.makedirs(f"{base}/previous", mode=0o700)
    for entry in _ASIDE:
        if os.path.lexists(f"{base}/{entry}"):
            os.rename(f"{base}/{entry}", f"{base}/previous/{entry}")


def bring_back(host: Host, name: str) -> None:
    base = host.paths.home(name)
    if not os.path.isdir(f"{base}/previous"):
        return
    for entry in _ASIDE:
        remove_tree(f"{base}/{entry}")
        if os.path.lexists(f"{base}/previous/{entry}"):
            os.rename(f"{base}/previous/{entry}", f"{base}/{entry}")
    os.rmdir(f"{base}/previous")


def drop_aside(host: Host, name: str) -> None:
    remove_tree(f"{host.paths.home(name)}/previous")


# its state


def change_state(host: Host, present: Present, spec: Spec, desired: Mapping[str, Any], result: Plan) -> Plan:
    """Start, stop or pause what is otherwise as declared."""
    name, target = present.name, f"container {present.name}"
    wanted, running = is_to_run(desired), bool(present.pid)
    restarting = present.status.get("status") == "restarting"
    if wanted is prepare.is_stopped(host.paths, name):
        result.add(mark_step(host, name, stopped=not wanted))
    if wanted is True and not running and not restarting:
        before = present.status.get("status", "stopped")
        # What a start needs may be gone: after a reboot nothing of /run is left.
        batch = host_batch(host, _ready_all)
        result.add(Step(target, "make ready", nothing, batch=batch, payload=(name, spec), hidden=True))
        result.add(commit_step(host))
        start = Job(name, [Call("start", before=lambda: equip(host, name, spec))])
        result.add(job_step(host, target, "start", start, before=before, after="running"))
    elif wanted is False and (running or present.coming):
        stop = Job(name, [Call("stop"), Call(before=lambda: _stopped(host, name))])
        result.add(
            job_step(host, target, "stop", stop, before="running", after="stopped", cost=Cost.restart, option="state")
        )
        result.add(commit_step(host))
    now_running = wanted if wanted is not None else running
    paused = running and present.status.get("status") == "paused"
    result.extend(settle(host, name, desired, running=now_running, paused=paused))
    return result


def _ready_all(host: Host, steps: list[Step]) -> None:
    """As _create_all, for those that are declared already."""
    made = [step.payload for step in steps]
    reserve(host, made)
    _furnish(host, made)


def _stopped(host: Host, name: str) -> None:
    attachment = host.attachments.get(name)
    if attachment is not None:
        attachment.running = False
        host.save_attachment(name)
        attach.touch(host, name, [])


# removing one


def removal(host: Host, present: Present, *, before: Spec) -> Plan:
    """``before`` is what a diff shows of it."""
    name = present.name
    paths = host.paths
    traces = (paths.bundle(name), paths.resource(KIND, name), paths.netns(name), paths.runtime_state(name))
    left = prepare.has_other(host, name)
    if not (present.spec or left or name in host.attachments or any(map(os.path.lexists, traces))):
        return Plan()
    result = Plan()
    cost = Cost.restart if present.pid else Cost.live
    calls = [Call("remove")] if _supervised(host, name) else []
    calls += [Call("remove", instance=paths.other_instance(name))] if left else []
    target = f"container {name}"
    result.add(job_step(host, target, "remove", Job(name, calls), before=before, cost=cost))
    batch = host_batch(host, _remove_all)
    result.add(Step(target, "remove what outlives its process", nothing, batch=batch, payload=name, hidden=True))
    result.add(commit_step(host))
    return result


def _supervised(host: Host, name: str) -> bool:
    """May a supervisor have something of it? Where none runs and nothing is left of it, none need be started."""
    status = prepare.look(host.paths, name).status
    waits = status.get("status") in ("restarting", "running", "paused", "stopping")
    return waits or os.path.isdir(host.paths.runtime_state(name)) or host.has_supervisor()


def _remove_all(host: Host, steps: list[Step]) -> None:
    _remove_rest(host, [step.payload for step in steps])


def _remove_rest(host: Host, names: list[str]) -> None:
    """The declaration goes last: while it is there, a kill in between is mended by the next run."""
    for name in names:
        attach.touch(host, name, [endpoint.network for endpoint in attach.endpoints(host, name)])
    attach.remove(host, names)
    for name in names:
        prepare.discard(host.paths, name)


# In the order in which the steps of many containers are done (stacks.arrange).
BATCHES = {"create": _create_all, "ready": _ready_all, "commit": _commit_all, "jobs": _run_jobs, "remove": _remove_all}


def remove_now(host: Host, name: str) -> None:
    """Undo of a creation that failed."""
    if _supervised(host, name):
        host.client().call("remove", name=host.paths.instance(name), timeout=0)
    _remove_rest(host, [name])
    attach.commit(host)


def rename(paths: Paths, network: str) -> None:
    """Tell the containers of a network what is called how now."""
    host = Host(paths)
    for name, attachment in host.attachments.items():
        if any(endpoint.network == network for endpoint in attachment.endpoints):
            attach.touch(host, name, [])
    attach.commit(host)


def readdress(paths: Paths, network: str) -> None:
    """Bring the containers of a network that changed along; their processes do not notice."""
    host = Host(paths)
    for name, attachment in sorted(host.attachments.items()):
        spec = store.read_spec(paths, KIND, name)
        if spec is None or all(endpoint.network != network for endpoint in attachment.endpoints):
            continue
        reserve(host, [(name, revived(spec))], starting=False)
        attach.connect(host, name, host.attachments[name], attach.rtnl(host))
        attach.touch(host, name, [network])
    attach.commit(host)
