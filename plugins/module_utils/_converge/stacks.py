# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stacks: a host's images, networks, volumes and containers as one declaration, converged as one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Optional

from .._errors import OptionError, below
from .._image.progress import QUIET, Progress
from .._network.model import Network
from .._paths import Paths
from . import firewall, history, networks, store, volumes
from .container import containers, lifecycle, prepare, together
from .host import Host
from .image import images
from .jobs import Job
from .plan import Plan, Staged, Step

KIND = history.KIND
Desired = Mapping[str, Any]


def plan(paths: Paths, desired: Desired, progress: Progress = QUIET) -> Plan:
    """What makes the stack as desired; each option left out has its default."""
    if desired["state"] == "rolled_back":
        desired = history.earlier(paths, desired)
    elif desired.get("revision") is not None:
        raise OptionError("revision", desired["revision"], "is for state rolled_back alone; leave it out")
    desired = {**desired, "containers": together.with_implied(desired.get("containers") or {})}
    check(desired)
    stored = store.read_spec(paths, KIND, desired["name"])
    if desired["state"] == "absent":
        return _absence(paths, desired, stored)
    stages = [
        lambda preview: _surroundings(paths, desired, stored, progress),
        lambda preview: _containers(paths, desired, stored, preview=preview),
        lambda preview: _leftovers(paths, desired, stored),
        lambda preview: history.step(paths, desired),
    ]
    return Staged(stages)


def locks(paths: Paths, desired: Desired) -> list[tuple[str, str]]:
    """Everything that the task declares is its own meanwhile, and what the stack has."""
    if "name" not in desired:
        raise OptionError("name", None, "is missing; only compose files can name a stack", hint="give name, or compose")
    kinds = ("images", "networks", "volumes", "containers")
    present: Desired = store.read_spec(paths, KIND, desired["name"]) or {}
    named = ((kind, name) for whole in (present, desired) for kind in kinds for name in whole.get(kind) or ())
    committed = (body.get("container") for body in (desired.get("images") or {}).values())
    return [(KIND, desired["name"]), *named, *(("containers", name) for name in committed if name)]


def infos(paths: Paths, only: Optional[str] = None) -> list[dict[str, Any]]:
    """For stack_info: the stacks, sorted by name."""
    found = {name: store.read_spec(paths, KIND, name) for name in store.names(paths, KIND) if only in (None, name)}
    kinds = ("containers", "networks", "volumes")
    return [
        {"name": name, **{kind: spec.get(kind, []) for kind in kinds}, **history.info(paths, name)}
        for name, spec in found.items()
        if spec is not None
    ]


# before anything is done


def check(desired: Desired) -> None:
    """What the parts can't see by themselves: they name one another."""
    declared = desired.get("containers") or {}
    for name, body in declared.items():
        for other in body.get("depends_on") or {}:
            if other not in declared:
                problem = f"names {other}, which is no container of the stack"
                raise OptionError(f"containers.{name}.depends_on", list(body["depends_on"]), problem)
    order(declared)
    together.check(declared)


def order(declared: Mapping[str, Desired]) -> list[str]:
    """Names, what others depend on first; OptionError for a cycle."""
    done: list[str] = []
    seen: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            cycle = " -> ".join([*path[path.index(name) :], name])
            option, value = together.link(declared[path[-1]], name)
            raise OptionError(f"containers.{path[-1]}.{option}", value, f"is a cycle: {cycle}")
        if name in seen:
            return
        for other in sorted(declared[name].get("depends_on") or {}):
            visit(other, (*path, name))
        seen.add(name)
        done.append(name)

    for name in declared:
        visit(name, ())
    return done


# images, volumes, networks


def _surroundings(paths: Paths, desired: Desired, stored: Optional[dict[str, Any]], progress: Progress) -> Plan:
    # What belongs to the stack is known before any of it is there: absent needs no more than the stack's name.
    result = _remember(paths, desired, stored)
    result.extend(_images(paths, desired, {}, progress))
    for name, body in sorted((desired.get("volumes") or {}).items()):
        result.extend(volumes.plan(paths, {**body, "name": name}, whole=True))
    declared = sorted((desired.get("networks") or {}).items())
    if declared:
        seen, others = networks.snapshot(), firewall.networks(paths)
        for name, body in declared:
            result.extend(networks.plan(paths, {**body, "name": name}, whole=True, seen=seen, others=others))
    return result


def _images(paths: Paths, desired: Desired, planned: images.Planned, progress: Progress = QUIET) -> Plan:
    """Those that are declared, and those that containers name and the host lacks."""
    result, declared = Plan(), desired.get("images") or {}
    pulls = _pulls(desired.get("containers") or {})
    for name in _image_order(declared):
        body, pull = {**declared[name], "name": name}, pulls.get(name)
        where = f"images.{name.removesuffix(':latest')}"
        with below(where):
            part = images.plan(paths, body, whole=True, planned=planned, pull=pull, progress=progress)
        result.extend(_told_below(where, part))
    host = Host(paths)
    for name, body in (desired.get("containers") or {}).items():
        image = body.get("image")
        if not image or image in declared or body.get("image_id"):
            continue
        if body.get("pull") == "always" or not prepare.nameless_image(host, name, image):
            result.extend(images.fetch(paths, image, body.get("pull"), planned, progress))
    return result


def _told_below(where: str, part: Plan) -> Plan:
    """Options that only doing finds wrong, such as a secret's file, are told by their whole path as well."""

    def told(do: Callable[[], Any]) -> Any:
        with below(where):
            return do()

    for step in part:
        step.do = partial(told, step.do)
    return part


def _pulls(containers: Mapping[str, Desired]) -> dict[str, str]:
    """What containers say of their images: when they are fetched. The most eager is heard."""
    said = [(body.get("image", ""), body["pull"]) for body in containers.values() if body.get("pull")]
    return dict(sorted(said, key=lambda pair: ("never", "missing", "always").index(pair[1])))


def _image_order(declared: Mapping[str, Desired]) -> list[str]:
    """A base of the stack before those that are built from it."""
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise OptionError(
                f"images.{name.removesuffix(':latest')}.from",
                declared[name]["from"],
                f"is a cycle: {' -> '.join([*path, name])}",
            )
        base = str(declared[name].get("from") or "")
        if base in declared:
            visit(base, (*path, name))
        if name not in done:
            done.append(name)

    for name in declared:
        visit(name, ())
    return done


# containers


def _containers(paths: Paths, desired: Desired, stored: Optional[dict[str, Any]], *, preview: bool) -> Plan:
    host = Host(paths)
    if preview:
        _announce(host, desired)
    declared = desired.get("containers") or {}
    result = Plan()
    names = order(declared)
    awaited = {
        name for body in declared.values() for name, how in (body.get("depends_on") or {}).items() if how == "completed"
    }
    host.coming_containers.update(names)
    together.check_conditions(host, declared, desired["state"])
    for name in names:
        wanted = {**declared[name], "name": name, "max_disruption": desired.get("max_disruption")}
        wanted.pop("depends_on", None)
        wanted.setdefault("state", "stopped" if desired["state"] == "stopped" else "started")
        wanted["recreate"] = desired.get("recreate")
        if wanted["state"] == "started" and name in awaited and _has_done(host, wanted):
            continue
        with below(f"containers.{name}"):
            part = containers.plan(paths, wanted, whole=True, host=host)
        result.extend(with_needs(part, together.needs(name, declared, desired["state"])))
    for name in _dropped(paths, desired, stored, "containers"):
        result.extend(containers.plan(paths, {"name": name, "state": "absent"}, host=host))
    return arrange(host, result, float(desired.get("wait_timeout") or lifecycle.WAIT))


def _has_done(host: Host, wanted: Desired) -> bool:
    """Others wait for its end, and it has ended well: it is not run again while it is as declared."""
    status = prepare.look(host.paths, wanted["name"]).status
    if status.get("status") != "exited" or status.get("exit_code") != 0:
        return False
    return not containers.plan(host.paths, {**wanted, "state": "present"}, whole=True, host=host)


def _announce(host: Host, desired: Desired) -> None:
    """For a preview: what the first stage will have made."""
    _images(host.paths, desired, host.coming_images)
    host.coming_volumes.update(desired.get("volumes") or {})
    for name, body in sorted((desired.get("networks") or {}).items()):
        networks.plan(host.paths, {**body, "name": name}, whole=True, seen=host.snapshot, others=host.networks)


def with_needs(part: Plan, needs: list[tuple[str, str]]) -> Plan:
    for step in part:
        if isinstance(step.payload, Job):
            step.payload.needs = list(needs)
    return part


def _remember(paths: Paths, desired: Desired, stored: Optional[dict[str, Any]]) -> Plan:
    """What the stack consists of, so that the next declaration knows what it left out."""
    spec = {kind: sorted(desired.get(kind) or {}) for kind in ("images", "networks", "volumes", "containers")}
    spec["depends_on"] = {  # type: ignore[assignment]
        name: body.get("depends_on") or {} for name, body in (desired.get("containers") or {}).items()
    }
    if stored and desired.get("revision") is not None:
        spec["images"] = stored.get("images", [])  # going back says nothing of them
    if not desired.get("prune") and stored:
        # What is not pruned stays the stack's, and goes with it.
        for kind in ("networks", "volumes", "containers"):
            spec[kind] = sorted({*spec[kind], *stored.get(kind, [])})
    if spec == stored:
        return Plan()

    def undo() -> None:
        if stored is None:
            store.remove_spec(paths, KIND, desired["name"])
        else:
            store.write_spec(paths, KIND, desired["name"], stored)

    def do() -> None:
        store.write_spec(paths, KIND, desired["name"], spec)

    return Plan([Step(f"stack {desired['name']}", "remember", do, undo, hidden=True)])


def _dropped(paths: Paths, desired: Desired, stored: Optional[dict[str, Any]], kind: str) -> list[str]:
    if not stored or not desired.get("prune"):
        return []
    return sorted(set(stored.get(kind, [])) - set(desired.get(kind) or {}) - _of_others(paths, desired["name"], kind))


def _of_others(paths: Paths, name: str, kind: str) -> set[str]:
    """What other stacks than this one have: it does not go with this one."""
    specs = (store.read_spec(paths, KIND, other) or {} for other in store.names(paths, KIND) if other != name)
    return {found for spec in specs for found in spec.get(kind, [])}


def arrange(host: Host, plan: Plan, timeout: float = lifecycle.WAIT) -> Plan:
    """The steps of many containers, like with like, so that batches are as large as they can be."""
    batch_of = {id(lifecycle.host_batch(host, function)): name for name, function in lifecycle.BATCHES.items()}
    groups: dict[str, list[Step]] = {name: [] for name in ("around", "create", "ready", "", "commit", "jobs", "remove")}
    for step in plan:
        # What containers are on, the network that everybody is on or a volume that was lost, is there before them.
        around = step.target.startswith(("network ", "volume "))
        groups["around" if around else batch_of.get(id(step.batch), "")].append(step)
    host.wait_timeout = timeout
    commits = groups["commit"]
    # Once before anybody starts, for what was made; and once when all is done, for who is gone.
    before = [*groups["around"], *groups["create"], *groups["ready"], *groups[""], *commits[:1]]
    return Plan([*before, *groups["jobs"], *groups["remove"], *commits[-1:]])


# what the stack no longer has


def _leftovers(paths: Paths, desired: Desired, stored: Optional[dict[str, Any]]) -> Plan:
    result, planned = Plan(), firewall.networks(paths)
    going = set(_dropped(paths, desired, stored, "containers"))
    for name in _dropped(paths, desired, stored, "networks"):
        result.extend(_network_removal(paths, name, planned, going))
    result.extend(firewall.plan(paths, planned=planned))
    return result


def _network_removal(paths: Paths, name: str, planned: dict[str, Network], going: set[str]) -> Plan:
    """It stays when others are on it than the containers that are ``going``; planned before those are gone, it is only
    announced. It is taken from the ``planned`` networks."""
    from . import users

    present = set(users.of_network(paths, name))
    if present - going:
        return Plan()
    if present:
        planned.pop(name, None)
        return Plan([Step(f"network {name}", "remove", lambda: None)])
    return networks.plan(paths, {"name": name, "state": "absent"}, others=planned)


def _absence(paths: Paths, desired: Desired, stored: Optional[dict[str, Any]]) -> Plan:
    """Containers, then networks, but those that other stacks have too. Volumes and images stay: data goes only when its
    volume is removed by name."""
    known = stored or {}
    names, nets = (
        sorted({*known.get(kind, []), *(desired.get(kind) or {})} - _of_others(paths, desired["name"], kind))
        for kind in ("containers", "networks")
    )
    needs = known.get("depends_on") or {
        name: body.get("depends_on") or {} for name, body in (desired.get("containers") or {}).items()
    }

    def remove_containers(preview: bool) -> Plan:
        host, result = Host(paths), Plan()
        for name in names:
            # Who depends on it goes before it.
            before = [(other, "done") for other, on in needs.items() if name in on]
            result.extend(with_needs(containers.plan(paths, {"name": name, "state": "absent"}, host=host), before))
        return arrange(host, result)

    def remove_networks(preview: bool) -> Plan:
        result, planned = Plan(), firewall.networks(paths)
        for name in nets:
            result.extend(_network_removal(paths, name, planned, set(names)))
        result.extend(firewall.plan(paths, planned=planned))
        if stored is not None:
            result.add(Step(f"stack {desired['name']}", "forget", lambda: _forget(paths, desired["name"])))
        return result

    return Staged([remove_containers, remove_networks])


def _forget(paths: Paths, name: str) -> None:
    history.forget(paths, name)
    store.remove_spec(paths, KIND, name)
