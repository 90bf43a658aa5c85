# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers: what is declared against what runs, and the steps between, each with what it costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Optional

from .._errors import OptionError
from .._kernel.file import remove_tree
from .._network import names, sandbox
from .._paths import Paths
from . import attach, checks, drift, jobs, live, networks, prepare, secrets, store, users, volumes
from .container_options import OPTIONS, defaults
from .host import Host
from .jobs import Call, Job
from .plan import Cost, Plan, Step
from .prepare import KIND, Present

Spec = dict[str, Any]
WAIT = 300.0


def plan(paths: Paths, desired: Mapping[str, Any], *, whole: bool = False, host: Optional[Host] = None) -> Plan:
    """What makes the container as desired.

    With ``whole`` an option that is left out has its default; without, it stays as it is.
    """
    host = host or Host(paths)
    name = desired["name"]
    present = prepare.look(paths, name)
    if desired.get("state") == "absent":
        return _absence(host, present)
    spec = merge(present, desired, whole=whole)
    result = _default_network(host, spec)
    if spec.get("image") not in host.coming_images:
        checks.check(host, name, spec, desired.get("state") or "started")
    if _wanted(desired) or present.pid:
        result.extend(_lost_volumes(host, spec))
    if present.spec is None:
        result.extend(_creation(host, name, spec, desired))
    else:
        result.extend(_change(host, present, spec, desired))
        _refuse_disruption(result, desired.get("max_disruption") or Cost.recreate.name)
    return result


def merge(present: Present, desired: Mapping[str, Any], *, whole: bool) -> Spec:
    """The whole spec: what is desired, over what is there or over the defaults."""
    base = defaults()
    if present.spec is not None and not whole:
        base.update({key: value for key, value in present.spec.items() if key in base})
    spec = {**base, **{option.name: desired[option.name] for option in OPTIONS if option.name in desired}}
    if "networks" in desired and "network_mode" not in desired:
        spec["network_mode"] = None
    if desired.get("network_mode") and "networks" not in desired:
        spec["networks"] = None
    return spec


def _default_network(host: Host, spec: Spec) -> Plan:
    missing = [entry for entry in attach.network_names(spec) if entry["name"] == attach.DEFAULT_NETWORK]
    if not missing or attach.DEFAULT_NETWORK in host.networks:
        return Plan()
    return networks.plan(host.paths, {"name": attach.DEFAULT_NETWORK}, seen=host.snapshot, others=host.networks)


def _lost_volumes(host: Host, spec: Spec) -> Plan:
    """Volumes that have to be mounted again; not those that a step before this one sees to."""
    result = Plan()
    for name in sorted(users.volumes_of(spec) - host.coming_volumes):
        lost = volumes.lost(host.paths, name)
        if lost:
            result.extend(lost)
            host.coming_volumes.add(name)
    return result


def shown(spec: Mapping[str, Any]) -> Spec:
    """The options that say something, for a diff; of secrets their names."""
    base = defaults()
    visible = {key: value for key, value in spec.items() if key in base and value != base[key]}
    return {**visible, **_shown_secrets(visible)}


def _shown_secrets(spec: Mapping[str, Any]) -> Spec:
    return {"secrets": [secret["name"] for secret in spec["secrets"]]} if spec.get("secrets") else {}


def _secret_words(wanted: list[Spec], present: list[Spec], rotated: set[str]) -> tuple[list[str], list[str]]:
    """Of each secret its owner and mode, and whether its content is another one: never what it is."""

    def words(secret: Spec) -> str:
        return f"{secret['name']} {secret['uid']}:{secret['gid']} {secret['mode']:04o}"

    after = [f"{words(secret)} (new content)" if secret["name"] in rotated else words(secret) for secret in wanted]
    return [words(secret) for secret in present], after


# making one


def _creation(host: Host, name: str, spec: Spec, desired: Mapping[str, Any]) -> Plan:
    target = f"container {name}"
    wanted = bool(_wanted(desired))
    result = Plan()
    result.add(
        Step(
            target,
            "create",
            lambda: None,
            lambda: remove_now(host, name),
            after=shown(spec),
            batch=host_batch(host, _create_all),
            payload=(name, spec, wanted),
        )
    )
    result.add(_commit(host))
    if not wanted:
        result.add(_mark(host, name, stopped=True))
    else:
        # While the supervisor starts one, the links of the next are made.
        result.add(_job(host, target, "start", Job(name, [Call("start", before=lambda: _equip(host, name, spec))])))
        result.extend(_settle(host, name, desired, running=True, paused=False))
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
    for name, spec, started in made:
        _furnish(host, name, spec)
        if not started:
            _equip(host, name, spec)


def declared(host: Host, name: str, spec: Spec) -> Spec:
    image = host.image(spec["image"])
    return prepare.stored(host.paths, name, {**spec, "image_id": image.id if image else ""})


def reserve(host: Host, made: Iterable[tuple[str, Spec]], *, starting: bool = True) -> None:
    """Addresses and ports; those of containers that are ``starting`` come into force with the next commit."""
    with store.lock(host.paths, "endpoints", "all"):
        host.__dict__.pop("attachments", None)
        host.__dict__.pop("_taken", None)
        for name, spec in made:
            attachment = attach.allocate(host, name, spec)
            attachment.running = attachment.running or starting
            host.save_attachment(name)


def make_ready(host: Host, name: str, spec: Spec) -> None:
    """All that outlives the process, once its addresses are reserved. What is there already is left."""
    _furnish(host, name, spec)
    _equip(host, name, spec)


def _furnish(host: Host, name: str, spec: Spec) -> None:
    """Writable layer, and the place of its names."""
    prepare.home(host, name, prepare.image_of(host, spec))
    prepare.place(host.paths, name)
    attach.touch(host, name, [endpoint.network for endpoint in host.attachments[name].endpoints])


def _equip(host: Host, name: str, spec: Spec) -> None:
    """Links, and the bundle last: whoever finds it finds the rest."""
    attachment = host.attachments[name]
    if attachment.endpoints:
        attach.connect(host, name, attachment, attach.rtnl(host))
    elif attach.uses_sandbox(spec):
        attach.pin(host, name)
    prepare.bundle(host, name, spec)


def _mark(host: Host, name: str, *, stopped: bool) -> Step:
    return Step(
        f"container {name}",
        "remember whether it runs",
        lambda: prepare.remember_stopped(host.paths, name, stopped),
        hidden=True,
    )


def _commit(host: Host) -> Step:
    return Step("host", "update names and rules", lambda: None, batch=host_batch(host, _commit_all), hidden=True)


def _commit_all(host: Host, steps: list[Step]) -> None:
    attach.commit(host)


def _job(host: Host, target: str, action: str, job: Job, **fields: Any) -> Step:
    return Step(target, action, lambda: None, batch=host_batch(host, _run_jobs), payload=job, **fields)


def _run_jobs(host: Host, steps: list[Step]) -> None:
    jobs.run(host, [step.payload for step in steps], host.wait_timeout)


def _start_job(host: Host, name: str) -> Job:
    return Job(name, [Call("start")])


def _settle(host: Host, name: str, desired: Mapping[str, Any], *, running: bool, paused: bool) -> Plan:
    """Pausing, and waiting until it is healthy, once it runs."""
    result = Plan()
    target = f"container {name}"
    if desired.get("state") == "healthy" and running and not paused:
        timeout = float(desired.get("healthy_wait_timeout") or WAIT)
        call = Call("wait", {"until": "healthy", "timeout": timeout})
        result.add(_job(host, target, "wait until healthy", Job(name, [call]), hidden=True))
    wanted = desired.get("paused")
    if wanted is not None and running and wanted != paused:
        call = Call("pause" if wanted else "resume")
        result.add(_job(host, target, call.op, Job(name, [call]), option="paused", before=paused, after=wanted))
    return result


# changing one


def _change(host: Host, present: Present, spec: Spec, desired: Mapping[str, Any]) -> Plan:
    name, target = present.name, f"container {present.name}"
    pid = present.pid
    changed = _changed_options(host, present, spec)
    costs = [option.cost for option in OPTIONS if option.name in changed and option.cost is not None]
    worst = max([*costs, Cost.recreate if desired.get("recreate") else Cost.live])
    active = bool(pid) or present.status.get("status") == "restarting"
    if worst is Cost.restart and not active:
        worst = Cost.live  # nobody is there to be disturbed
    result = Plan()
    for option in OPTIONS:
        if option.name in changed:
            cost = option.cost if active or option.cost is Cost.recreate else Cost.live
            before, after = changed[option.name]
            result.add(
                Step(
                    target,
                    f"set {option.name}",
                    _nothing,
                    option=option.name,
                    before=before,
                    after=after,
                    cost=cost or Cost.live,
                )
            )
    if desired.get("recreate"):
        result.add(Step(target, "recreate", _nothing, option="recreate", before=False, after=True, cost=Cost.recreate))
    if desired.get("restart") and active and worst < Cost.restart:
        result.add(Step(target, "restart", _nothing, option="restart", before=False, after=True, cost=Cost.restart))
        worst = Cost.restart
    wanted = _wanted(desired)
    if worst >= Cost.restart:
        running = wanted if wanted is not None else active
        stopped = None if wanted is None else not wanted
        _replace(host, present, spec, result, worst, run=running, stopped=stopped)
        result.extend(_settle(host, name, desired, running=running, paused=False))
        return result
    _live(host, present, spec, result, set(changed))
    return _state(host, present, spec, desired, result)


def _nothing() -> None:
    """A step that is told here and done with its neighbours."""


def _wanted(desired: Mapping[str, Any]) -> bool | None:
    """Should it run? None for as it is."""
    state = desired.get("state", "started")
    return None if state == "present" else state in ("started", "healthy")


def _changed_options(host: Host, present: Present, spec: Spec) -> dict[str, tuple[Any, Any]]:
    """Option: (before, after)."""
    old = present.spec or {}
    found: dict[str, tuple[Any, Any]] = {}
    for option in OPTIONS:
        before, after = old.get(option.name, option.default), spec[option.name]
        if option.name == "secrets":
            where, running = (host.paths, present.name), bool(present.pid)
            if not secrets.same(*where, after, before, running=running):
                rotated = secrets.rotated(*where, after, before, running=running)
                found["secrets"] = _secret_words(after, before, rotated)
        elif not option.same(after, before):
            found[option.name] = (before, after)
    if "image" not in found:
        image = host.image(spec["image"])
        if spec["image"] in host.coming_images:
            found["image"] = (old.get("image_id"), "built anew")
        elif image is not None and old.get("image_id") not in (None, image.id):
            found["image"] = (old["image_id"], image.id)
    return found


def _refuse_disruption(result: Plan, allowed: str) -> None:
    for step in result.shown():
        if step.cost > Cost[allowed]:
            hint = f"max_disruption: {step.cost.name} allows it"
            problem = f"needs a {step.cost.name} of {step.target}, and max_disruption allows {allowed} at the most"
            raise OptionError(step.option or step.action, step.after, problem, hint=hint)


def _live(host: Host, present: Present, spec: Spec, result: Plan, changed: set[str]) -> None:
    """One step does all that is changed under the process, the others tell of it; then what has drifted."""
    drifts = _drifts(host, present, spec, changed)
    for item in drifts:
        result.add(
            Step(
                f"container {present.name}",
                f"mend {item.option}",
                _nothing,
                option=item.option,
                before=item.present,
                after=item.wanted,
            )
        )
    if not result.steps:
        return
    old = _revived(present.spec or {})

    def do() -> None:
        old["secrets"] = secrets.held(host.paths, present.name, old["secrets"])
        store.write_spec(host.paths, KIND, present.name, declared(host, present.name, spec))
        _apply_live(host, present, spec, old, changed, drifts)

    def undo() -> None:
        store.write_spec(host.paths, KIND, present.name, declared_again(present))
        _apply_live(host, prepare.look(host.paths, present.name), old, spec, changed, [])

    if present.pid and "volumes" in changed:
        live.check_volumes(spec, old)
    result.steps[0].do, result.steps[0].undo = do, undo
    result.add(_commit(host))


def _revived(old: Spec) -> Spec:
    return {**defaults(), **{key: value for key, value in old.items() if key in defaults()}}


def _drifts(host: Host, present: Present, spec: Spec, changed: set[str]) -> list[drift.Drift]:
    if not present.pid:
        return []
    found = drift.find(
        host, present.name, {**spec, **_unchanged(present, changed)}, present.pid, lines(host, present.name)
    )
    return [item for item in found if item.option.partition(":")[0] not in changed]


def _unchanged(present: Present, changed: set[str]) -> Spec:
    """Drift is against what the container was given; what changes now is told as a change."""
    return {key: value for key, value in (present.spec or {}).items() if key in changed}


def lines(host: Host, name: str) -> dict[str, str]:
    """names.network_lines of the container's networks, made once for all."""
    cache: dict[str, str] = host.__dict__.setdefault("_lines", {})
    if not cache:
        index: dict[str, list[Any]] = {}
        for dummy, attachment in sorted(host.attachments.items()):
            for endpoint in attachment.endpoints:
                index.setdefault(endpoint.network, []).append(endpoint)
        cache.update({network: names.network_lines(endpoints) for network, endpoints in index.items()})
    return cache


def _apply_live(
    host: Host, present: Present, spec: Spec, old: Spec, changed: set[str], drifts: list[drift.Drift]
) -> None:
    name, pid = present.name, present.pid
    drifted = {item.option for item in drifts}
    if pid:
        _apply_to_process(host, name, pid, spec, old, changed | drifted)
    if changed & live.NAMED or any(
        item.partition(":")[0] in live.NAMED or item.startswith("/etc/") for item in drifted
    ):
        _mend_links(host, name, drifts)
        # A stopped container keeps its namespace, and what it is attached to there.
        if pid or sandbox.exists(host.paths.netns(name)):
            live.apply_networks(host, name, spec)
            host.attachments[name].running = bool(pid)
            host.save_attachment(name)
        attach.touch(
            host, name, [endpoint.network for endpoint in attach.endpoints(host, name)] if changed & live.NAMED else []
        )
    if not os.path.isdir(host.paths.bundle(name)):
        return
    prepare.bundle(host, name, spec)
    if changed & live.MONITORED:
        host.client().call("reload", name=name)


def _mend_links(host: Host, name: str, drifts: list[drift.Drift]) -> None:
    """A pair of which one end is not where it belongs is made anew."""
    lost = {item.option.rpartition(" ")[2] for item in drifts if item.option.startswith("networks: link")}
    attach.disconnect(host, [endpoint for endpoint in attach.endpoints(host, name) if endpoint.ifname in lost])


def _apply_to_process(host: Host, name: str, pid: int, spec: Spec, old: Spec, options: set[str]) -> None:
    limits = options & live.RESOURCES
    if limits:
        live.apply_resources(host, name, spec, limits)
    if "ulimits" in options:
        live.apply_ulimits(host, name, spec, old)
    if "oom_score_adj" in options:
        live.apply_oom_score(host, name, spec)
    if options & {"hostname", "domainname"} and spec["uts"] == "private":
        live.apply_hostname(pid, name, spec)
    if "sysctls" in options:
        live.apply_sysctls(pid, spec, old)
    if "shm_size" in options and spec["ipc_mode"] != "host":
        live.apply_shm(pid, spec)
    if "volumes" in options:
        live.apply_volumes(host, name, pid, spec, old)
    if "secrets" in options and spec["secrets"] and old.get("secrets"):
        secrets.write(host.paths, name, spec["secrets"])
    elif "secrets" in options:
        live.swap_secrets(host, name, pid, spec)


# the process anew


def _replace(
    host: Host, present: Present, spec: Spec, result: Plan, cost: Cost, *, run: bool, stopped: bool | None
) -> None:
    """Stop, make ready as declared, start. The old container comes back when the new one does not start."""
    name, old = present.name, _revived(present.spec or {})
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
        host.client().call("remove", name=name)
        bring_back(host, name)
        store.write_spec(host.paths, KIND, name, declared_again(present))
        gone = _networks_left(host, name, old)
        reserve(host, [(name, old)])
        attach.disconnect(host, gone)
        make_ready(host, name, old)
        prepare.applied(host.paths, name, {**old, "image_id": (present.spec or {}).get("image_id")})
        prepare.remember_stopped(host.paths, name, was_stopped)
        attach.commit(host)
        if was_running:
            host.client().call("start", name=name)

    calls = [Call("remove"), Call(before=change)]
    if run:
        calls.append(Call("start"))
    calls.append(Call(before=lambda: drop_aside(host, name)))
    result.add(_job(host, f"container {name}", cost.name, Job(name, calls), undo=undo, hidden=True))


def declared_again(present: Present) -> Spec:
    return dict(present.declared or present.spec or {})


def _networks_left(host: Host, name: str, spec: Spec) -> list[Any]:
    kept = {entry["name"] for entry in attach.network_names(spec)}
    return [endpoint for endpoint in attach.endpoints(host, name) if endpoint.network not in kept]


_ASIDE = ("upper", "work", "base.json")


def set_aside(host: Host, name: str) -> None:
    """The writable layer of the old container, until the new one runs."""
    base = host.paths.resource(KIND, name)
    drop_aside(host, name)
    os.makedirs(f"{base}/previous", mode=0o700)
    for entry in _ASIDE:
        if os.path.lexists(f"{base}/{entry}"):
            os.rename(f"{base}/{entry}", f"{base}/previous/{entry}")


def bring_back(host: Host, name: str) -> None:
    base = host.paths.resource(KIND, name)
    if not os.path.isdir(f"{base}/previous"):
        return
    for entry in _ASIDE:
        remove_tree(f"{base}/{entry}")
        if os.path.lexists(f"{base}/previous/{entry}"):
            os.rename(f"{base}/previous/{entry}", f"{base}/{entry}")
    os.rmdir(f"{base}/previous")


def drop_aside(host: Host, name: str) -> None:
    remove_tree(f"{host.paths.resource(KIND, name)}/previous")


# its state


def _state(host: Host, present: Present, spec: Spec, desired: Mapping[str, Any], result: Plan) -> Plan:
    """Start, stop or pause what is otherwise as declared."""
    name, target = present.name, f"container {present.name}"
    wanted, running = _wanted(desired), bool(present.pid)
    restarting = present.status.get("status") == "restarting"
    if wanted is prepare.is_stopped(host.paths, name):
        result.add(_mark(host, name, stopped=not wanted))
    if wanted is True and not running and not restarting:
        before = present.status.get("status", "stopped")
        result.add(_ready_again(host, name, spec))
        result.add(_commit(host))
        result.add(_job(host, target, "start", _start_job(host, name), before=before, after="running"))
    elif wanted is False and (running or restarting):
        stop = Job(name, [Call("stop"), Call(before=lambda: _stopped(host, name))])
        result.add(
            _job(host, target, "stop", stop, before="running", after="stopped", cost=Cost.restart, option="state")
        )
        result.add(_commit(host))
    now_running = wanted if wanted is not None else running
    paused = running and present.status.get("status") == "paused"
    result.extend(_settle(host, name, desired, running=now_running, paused=paused))
    return result


def _ready_again(host: Host, name: str, spec: Spec) -> Step:
    """What a start needs may be gone: after a reboot nothing of /run is left."""

    def do() -> None:
        reserve(host, [(name, spec)])
        make_ready(host, name, spec)

    return Step(f"container {name}", "make ready", do, hidden=True)


def _stopped(host: Host, name: str) -> None:
    attachment = host.attachments.get(name)
    if attachment is not None:
        attachment.running = False
        host.save_attachment(name)
        attach.touch(host, name, [])


# removing one


def _absence(host: Host, present: Present) -> Plan:
    name = present.name
    paths = host.paths
    traces = (paths.bundle(name), paths.resource(KIND, name), paths.netns(name), f"{paths.runtime}/{name}")
    if present.spec is None and not any(os.path.lexists(path) for path in traces) and name not in host.attachments:
        return Plan()
    result = Plan()
    cost = Cost.restart if present.pid else Cost.live
    calls = [Call("remove")] if _supervised(host, name) else []
    target = f"container {name}"
    result.add(_job(host, target, "remove", Job(name, calls), before=shown(present.spec or {}), cost=cost))
    batch = host_batch(host, _remove_all)
    result.add(Step(target, "remove what outlives its process", _nothing, batch=batch, payload=name, hidden=True))
    result.add(_commit(host))
    return result


def _supervised(host: Host, name: str) -> bool:
    """May a supervisor have something of it? Where none runs and nothing is left of it, none need be started."""
    status = prepare.look(host.paths, name).status
    waits = status.get("status") in ("restarting", "running", "paused", "stopping")
    return waits or os.path.isdir(f"{host.paths.runtime}/{name}") or host.has_supervisor()


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
BATCHES = {"create": _create_all, "commit": _commit_all, "jobs": _run_jobs, "remove": _remove_all}


def remove_now(host: Host, name: str) -> None:
    """Undo of a creation that failed."""
    if _supervised(host, name):
        host.client().call("remove", name=name, timeout=0)
    _remove_rest(host, [name])
    attach.commit(host)


def readdress(paths: Paths, network: str) -> None:
    """Bring the containers of a network that changed along; their processes do not notice."""
    host = Host(paths)
    for name, attachment in sorted(host.attachments.items()):
        spec = store.read_spec(paths, KIND, name)
        if spec is None or all(endpoint.network != network for endpoint in attachment.endpoints):
            continue
        reserve(host, [(name, _revived(spec))], starting=False)
        attach.connect(host, name, host.attachments[name], attach.rtnl(host))
        attach.touch(host, name, [network])
    attach.commit(host)
