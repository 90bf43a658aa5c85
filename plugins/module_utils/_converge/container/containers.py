# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers: what is declared against what runs, and what of it is to change, each with what it costs.

The steps that a container goes through as a whole are in lifecycle.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional

from ..._errors import OptionError
from ..._image.progress import Progress
from ..._network import sandbox
from ..._options.container import OPTIONS, defaults, revived, shown
from ..._options.record import Cost
from ..._paths import Paths
from .. import networks, secrets, store, users, volumes
from ..host import Host
from ..image import images
from ..plan import Plan, Staged, Step
from . import attach, checks, drift, labels, lifecycle, live, prepare, succession
from .lifecycle import nothing
from .prepare import KIND, Present

Spec = dict[str, Any]


def fetch_and_plan(paths: Paths, desired: Mapping[str, Any], host: Host, progress: Progress) -> Plan:
    """plan(), and before it what fetches the image where the host lacks it."""
    if desired.get("state") == "absent" or not desired.get("image"):
        return plan(paths, desired, host=host)
    if desired.get("pull") != "always" and prepare.nameless_image(host, desired["name"], desired["image"]):
        return plan(paths, desired, host=host)
    return Staged(
        [
            lambda preview: images.fetch(paths, desired["image"], desired.get("pull"), host.coming_images, progress),
            lambda preview: plan(paths, desired, host=host if preview else Host(paths)),
        ]
    )


def plan(paths: Paths, desired: Mapping[str, Any], *, whole: bool = False, host: Optional[Host] = None) -> Plan:
    """What makes the container as desired.

    With ``whole`` an option that is left out has its default; without, it stays as it is.
    """
    host = host or Host(paths)
    name = desired["name"]
    present = prepare.look(paths, name)
    if desired.get("state") == "absent":
        return lifecycle.removal(host, present, before=shown(present.spec or {}))
    spec = merge(present, desired, whole=whole)
    if spec.get("image") and not spec.get("image_id") and not prepare.is_coming(host, spec):
        spec["image_id"] = prepare.nameless_image(host, name, spec["image"])
    result = _default_network(host, spec)
    if not prepare.is_coming(host, spec):
        checks.check(host, name, spec, desired.get("state") or "started")
    if lifecycle.is_to_run(desired) or present.pid:
        result.extend(_lost_volumes(host, spec))
    if present.spec is None:
        result.extend(lifecycle.creation(host, name, spec, desired, after=shown(spec)))
    else:
        result.extend(succession.leftover(host, present, spec))
        result.extend(_change(host, present, spec, desired))
        _refuse_disruption(result, desired.get("max_disruption") or Cost.recreate.name)
    return result


def merge(present: Present, desired: Mapping[str, Any], *, whole: bool) -> Spec:
    """The whole spec: what is desired, over what is there or over the defaults."""
    base = defaults()
    if present.spec is not None and not whole:
        base = revived(present.spec)
    spec = {**base, **{option.name: desired[option.name] for option in OPTIONS if option.name in desired}}
    if "image" in desired:
        spec["image_id"] = desired.get("image_id", "")  # the name is told anew: whatever has it now
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
    for name in sorted(users.volumes_of(spec) - host.coming_volumes.keys()):
        lost = volumes.lost(host.paths, name)
        if lost:
            result.extend(lost)
            host.coming_volumes[name] = {}
    return result


def _secret_words(wanted: list[Spec], present: list[Spec], rotated: set[str]) -> tuple[list[str], list[str]]:
    """Of each secret its owner and mode, and whether its content is another one: never what it is."""

    def words(secret: Spec) -> str:
        return f"{secret['name']} {secret['uid']}:{secret['gid']} {secret['mode']:04o}"

    after = [f"{words(secret)} (new content)" if secret["name"] in rotated else words(secret) for secret in wanted]
    return [words(secret) for secret in present], after


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
    wanted = lifecycle.is_to_run(desired)
    # A new instance has a new writable layer, whatever the change would cost in the place of the old one.
    beside = succession.starts_first(spec) and worst >= Cost.restart and bool(pid) and wanted is not False
    result = _told(target, changed, active=active, beside=beside)
    if desired.get("recreate"):
        told = Step(target, "recreate", nothing, option="recreate", before=False, after=True, cost=Cost.recreate)
        told.manner = succession.MANNER if beside else ""
        result.add(told)
    if desired.get("restart") and active and worst < Cost.restart:
        result.add(Step(target, "restart", nothing, option="restart", before=False, after=True, cost=Cost.restart))
        worst = Cost.restart
    if worst >= Cost.restart:
        running = wanted if wanted is not None else active
        stopped = None if wanted is None else not wanted
        if beside:
            succession.step(host, present, spec, result, desired.get("healthy_wait_timeout"), stopped)
            result.extend(lifecycle.settle(host, name, desired, running=True, paused=False))
            return result
        lifecycle.replace(host, present, spec, result, worst, run=running, stopped=stopped)
        result.extend(lifecycle.settle(host, name, desired, running=running, paused=False))
        return result
    _live(host, present, spec, result, set(changed))
    return lifecycle.change_state(host, present, spec, desired, result)


def _told(target: str, changed: Mapping[str, tuple[Any, Any]], *, active: bool, beside: bool) -> Plan:
    """A step an option, which says what changing it costs. What they come to is done by the steps after them."""
    result = Plan()
    for option in OPTIONS:
        if option.name in changed:
            cost = (option.cost if active or option.cost is Cost.recreate else None) or Cost.live
            anew = beside and cost >= Cost.restart
            before, after = changed[option.name]
            result.add(
                Step(
                    target,
                    f"set {option.name}",
                    nothing,
                    option=option.name,
                    before=before,
                    after=after,
                    cost=Cost.recreate if anew else cost,
                    manner=succession.MANNER if anew else "",
                )
            )
    return result


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
        image = prepare.find_image(host, spec)
        if prepare.is_coming(host, spec):
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
                nothing,
                option=item.option,
                before=item.present,
                after=item.wanted,
            )
        )
    if not result.steps:
        return
    old = revived(present.spec or {})

    def do() -> None:
        old["secrets"] = secrets.held(host.paths, present.name, old["secrets"])
        store.write_spec(host.paths, KIND, present.name, lifecycle.declared(host, present.name, spec))
        _apply_live(host, present, spec, old, changed, drifts)

    def undo() -> None:
        store.write_spec(host.paths, KIND, present.name, lifecycle.declared_again(present))
        _apply_live(host, prepare.look(host.paths, present.name), old, spec, changed, [])

    if present.pid and "volumes" in changed:
        live.check_volumes(host.paths, spec, old)
    result.steps[0].do, result.steps[0].undo = do, undo
    result.add(lifecycle.commit_step(host))


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
    return host.once("lines", lambda: attach.network_lines(host, attach.networks_of(host, host.attachments)))


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
    if changed & (live.MONITORED | {"volumes"}):  # which may have brought leases
        host.client().call("reload", name=host.paths.instance(name))


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
        secrets.write(host.paths, name, spec["secrets"], labels.of(host.paths, name, spec))
    elif "secrets" in options:
        live.swap_secrets(host, name, pid, spec)
