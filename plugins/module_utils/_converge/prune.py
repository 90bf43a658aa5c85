# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody uses, and its removal. Each kind is looked at as it will be once the kinds before it have gone."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from .._errors import VesselError
from .._image import housekeeping
from .._image.store import Store
from .._options.parse import parse_bool
from .._options.record import Option
from .._paths import Paths
from . import firewall, networks, store, users, volumes
from .plan import Plan, Step

KINDS = ("containers", "images", "volumes", "networks", "build_cache")
OPTIONS = tuple(Option(kind, parse_bool, "bool", default=False, shown_default=False) for kind in KINDS)


def asked(given: Mapping[str, Any], desired: Mapping[str, Any]) -> list[str]:
    """The kinds that a task asks for, by what it gave and what that means. A task that says nothing of any kind lacks
    something."""
    if all(given.get(kind) is None for kind in KINDS):
        hint = f"set {', '.join(KINDS[:-1])} or {KINDS[-1]} to true"
        raise VesselError("prune: nothing is asked for, so that nothing would ever go", hint=hint)
    return [kind for kind in KINDS if desired[kind]]


def plan(paths: Paths, kinds: Iterable[str]) -> tuple[Plan, dict[str, Any]]:
    """The steps, and what goes by kind with the bytes that this frees."""
    kinds, result = set(kinds), Plan()
    going: dict[str, Any] = {kind: [] for kind in ("containers", "images", "volumes", "networks", "layers")}
    going["space_reclaimed"] = 0
    if "containers" in kinds:
        going["containers"] = stopped(paths)
        _containers(paths, going["containers"], result)
    used = [spec for name, spec in users.specs(paths) if name not in going["containers"]]
    if "images" in kinds or "build_cache" in kinds:
        _images(paths, kinds, used, result, going)
    if "volumes" in kinds:
        _volumes(paths, used, result, going)
    if "networks" in kinds:
        _networks(paths, used, result, going)
    return result, going


def stopped(paths: Paths) -> list[str]:
    """Containers that ended, or never began, and that nobody is to start again."""
    from .container import prepare

    found = []
    for name in dict(users.specs(paths)):
        present = prepare.look(paths, name)
        if not present.pid and not present.coming:
            found.append(name)
    return found


def _containers(paths: Paths, names: list[str], result: Plan) -> None:
    from .container import containers

    for name in names:
        result.extend(containers.plan(paths, {"name": name, "state": "absent"}))


def _images(paths: Paths, kinds: set[str], used: list[dict[str, Any]], result: Plan, going: dict[str, Any]) -> None:
    image_store = Store(paths)
    named = {name for spec in used for name in users.images_of(spec)} | users.images_of_stacks(paths)
    if "images" in kinds:
        going["images"] = [name for name in image_store.names() if name not in named]
    keep, keep_cache = users.kept(paths, without=going["containers"]), "build_cache" not in kinds
    found = image_store.unused(keep_cache=keep_cache, keep=keep, without=going["images"])
    going["layers"] = [f"sha256:{layer}" for layer in found.layers]
    going["space_reclaimed"] += sum(housekeeping.layer_size(image_store, layer) for layer in going["layers"])
    going["space_reclaimed"] += sum(housekeeping.cache_size(image_store, cache) for cache in found.caches)

    for name in going["images"]:
        image = image_store.get(name)
        before = {"id": image.id} if image else None
        result.add(Step(f"image {name}", "remove", functools.partial(image_store.untag, name), before=before))
    if going["images"] or found.layers or found.caches:
        step = Step(
            "layers",
            f"remove {len(found.layers)}{' and the caches of build steps' if found.caches else ''}",
            lambda: image_store.collect(keep_cache=keep_cache, keep=users.kept(paths)),
            before=going["layers"],
            hidden=not (found.layers or found.caches),
        )
        result.add(step)


def _volumes(paths: Paths, used: list[dict[str, Any]], result: Plan, going: dict[str, Any]) -> None:
    named = {name for spec in used for name in users.volumes_of(spec)}
    for name in store.names(paths, volumes.KIND):
        if name not in named:
            going["volumes"].append(name)
            going["space_reclaimed"] += volumes.freed(paths, name)
            result.extend(volumes.removal(paths, name))


def _networks(paths: Paths, used: list[dict[str, Any]], result: Plan, going: dict[str, Any]) -> None:
    named = {name for spec in used for name in users.networks_of(spec)}
    going["networks"] = [name for name in store.names(paths, networks.KIND) if name not in named]
    planned = firewall.networks(paths)
    for name in going["networks"]:
        planned.pop(name, None)
        result.extend(networks.removal(paths, name))
    result.extend(firewall.plan(paths, planned=planned))
