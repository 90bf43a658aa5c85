# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: what one is made from has a key, and an image with that key is as declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Optional, cast

from .._errors import InUseError, StoreError
from .._image.build import layers as build_layers
from .._image.build import make as build
from .._image.build import plan as build_plan
from .._image.build.fetch import fetch as fetch_file
from .._image.build.steps import NOTHING, RunRequest
from .._image.progress import QUIET, Progress
from .._image.store import Image, Store
from .._image.verify import verify
from .._paths import Paths
from . import building, registries, steps, users
from .plan import Plan, Step
from .recipes import Recipe, recipe
from .registries import Remote
from .sources import Registry

KIND = "images"
# What a build does: (description, is it in the cache).
Told = list[tuple[str, bool]]


def plan(
    paths: Paths,
    desired: dict[str, Any],
    *,
    whole: bool = False,
    planned: Optional[set[str]] = None,
    progress: Progress = QUIET,
) -> Plan:
    """What makes the image as desired.

    ``planned`` are the names of images that steps before these will make; the one planned here joins them.
    An image is always declared whole, so ``whole`` makes no difference.
    """
    store, name = Store(paths), desired["name"]
    planned = set() if planned is None else planned
    force = bool(desired.get("force"))
    if desired.get("state") == "absent":
        planned.discard(name)
        return _absence(paths, store, name, force=force)
    made = recipe(paths, desired)
    result = _damages(paths, store, name) if desired.get("verify") else Plan()
    damaged = bool(result)
    if isinstance(made.source, Registry):
        result.extend(_pulling(store, made, planned, force=force or damaged, progress=progress))
        return result
    steps.sweep(paths)
    result.extend(_bases(store, made, desired, planned, progress))
    told = _changes(store, made, planned, force=force, damaged=damaged)
    if told is not None:
        planned.add(name)
        result.extend(_making(paths, store, made, told, force=force, progress=progress))
    if desired.get("push"):
        result.extend(_pushing(store, desired, new=told is not None, progress=progress))
    return result


def _damages(paths: Paths, store: Store, name: str) -> Plan:
    """Throw away what is not what it was, so that it is made again; not below a container, which needs it."""
    image = _present(store, name)
    found = verify(store, image) if image else []
    below = {damage.digest for damage in found} & users.layers(paths)
    if below:
        problems = "; ".join(f"{damage.digest}: {damage.problem}" for damage in found)
        hint = "containers are over it; remove them, and run the task again"
        raise StoreError(f"image {name} is damaged: {problems}", hint=hint)
    result = Plan()
    for damage in found:
        layers = [damage.digest] if image and damage.digest in image.layers else []
        what = f"throw away {damage.digest}: {damage.problem}"
        result.add(Step(f"image {name}", what, partial(store.drop_layers, layers), after=damage.problem))
    return result


def fetch(paths: Paths, name: str, pull: Optional[str], planned: set[str], progress: Progress) -> Plan:
    """The image that a container names, as its own pull policy says; from a registry, or from nowhere."""
    desired = {"name": name, "pull": pull or "missing"}
    return _pulling(Store(paths), recipe(paths, desired), planned, force=False, progress=progress)


def _bases(store: Store, made: Recipe, desired: dict[str, Any], planned: set[str], progress: Progress) -> Plan:
    """Fetch the images that it is built from, as the pull policy says."""
    result = Plan()
    for name, platform in made.images():
        about = {**desired, "name": name, **({"platform": platform} if platform else {})}
        base = Recipe(name, Registry.of(store.paths, about))
        result.extend(_pulling(store, base, planned, force=False, progress=progress))
    return result


def _pulling(store: Store, made: Recipe, planned: set[str], *, force: bool, progress: Progress) -> Plan:
    source = cast(Registry, made.source)
    present = _present(store, made.name)
    if made.name in planned or not source.wanted(store, present, force=force):
        return Plan()
    planned.add(made.name)

    def do() -> None:
        source.make(store, made.name, "", force=force, progress=progress)

    after = {"reference": source.origin}
    return Plan([_step(store, made, present, do, after)])


def _pushing(store: Store, desired: dict[str, Any], *, new: bool, progress: Progress) -> Plan:
    """See to it that the registry which the name says has the image; ``new`` when it is made before that."""
    name, there = desired["name"], Remote(desired["name"], desired)
    if not new and there.has(store, store.need(name)):
        return Plan()

    def do() -> None:
        there.push(store, store.need(name), progress)

    return Plan([Step(f"image {name}", f"push to {there}", do)])


def _present(store: Store, name: str) -> Optional[Image]:
    """The image if all of it is there; one that is damaged is made again."""
    try:
        image = store.get(name)
    except StoreError:
        return None
    return image if image is not None and all(map(store.has_layer, image.layers)) else None


def _changes(store: Store, made: Recipe, planned: set[str], *, force: bool, damaged: bool) -> Optional[Told]:
    """The layers of the build; None when the image is as declared."""
    if any(name in planned for name, dummy in made.images()):
        return [(build_layers.describe(layer), False) for layer in made.layers]  # the rest is known when they are there
    present = _present(store, made.name)
    with building.Source(store, made.name) as files:
        if present is not None and not force and not damaged and present.key == made.key(files):
            return None
        base = None if force else made.source.cached(store)
        stages = made.stages(files, base or NOTHING)
        if base is None:
            return [(step.shown, False) for stage in stages for step in stage.steps if build_plan.makes_layer(step)]
        return [(item.step.shown, bool(item.layer)) for item in build_plan.plan(store, stages)]


def _making(paths: Paths, store: Store, made: Recipe, told: Told, *, force: bool, progress: Progress) -> Plan:
    def do() -> None:
        make(paths, store, made, force=force, progress=progress)

    layers = [f"{'cached' if cached else 'build'}: {what}" for what, cached in told]
    step = _step(store, made, _present(store, made.name), do, {"layers": layers, **made.config})
    result = Plan([replace(step, needs=_lacks(store, made, force=force))])
    for what, cached in told:
        if not cached:
            result.add(Step(f"image {made.name}", f"build layer: {what}", lambda: None, after=what))
    return result


def _lacks(store: Store, made: Recipe, *, force: bool) -> str:
    """The file of the controller's that must be sent: none where the store has what would be made of it."""
    lacks = made.source.lacks()
    if not lacks or force:
        return lacks
    with building.Source(store, made.name) as files:
        return "" if made.source.cached(store) or _twin(store, made.key(files)) else lacks


def _twin(store: Store, wanted: str) -> Optional[Image]:
    """An image, of any name, that was made from the same."""
    names = (record["name"] for record in store.records() if record["key"] == wanted)
    return next((image for image in (_present(store, name) for name in names) if image is not None), None)


def _step(store: Store, made: Recipe, before: Optional[Image], do: Callable[[], None], after: dict[str, Any]) -> Step:
    """Make the image; undone, the name is what it was."""

    def undo() -> None:
        if before is None:
            store.untag(made.name)
        else:
            store.tag(before, made.name, before.key)

    shown = {"id": before.id, "layers": len(before.layers)} if before else None
    return Step(f"image {made.name}", made.describe(), do, undo, before=shown, after=after)


def make(paths: Paths, store: Store, made: Recipe, *, force: bool = False, progress: Progress = QUIET) -> Image:
    """Make it, from the cache as far as that goes."""

    def run(request: RunRequest) -> None:
        steps.run(paths, made.name, request, progress)

    def get(url: str, digest: str, path: str) -> None:
        fetch_file(registries.transport(), url, digest, path, progress)

    # One work for all of it: what one part has made stays until the last has used it.
    with store.work(), building.Source(store, made.name) as files:
        key = made.key(files)
        twin = _twin(store, key) if made.source.lacks() and not force else None
        if twin is not None:
            return store.tag(twin, made.name, key)
        if made.plain:
            return made.source.make(store, made.name, key, force=force, progress=progress)
        stages = made.stages(files, made.source.make(store, made.name, "", force=force, progress=progress))
        secrets = building.contents(made.secrets)
        image = build.build(
            store, made.name, stages, made.config, run, key, secrets=secrets, fetch=get, fresh=force, progress=progress
        )
        files.remember()
        return image


def _absence(paths: Paths, store: Store, name: str, *, force: bool) -> Plan:
    if name not in store.names():
        return Plan()
    image = _present(store, name)
    used_by = users.of_image(paths, name)
    if used_by and not force:
        raise InUseError("image", name, used_by, hint="remove them first, or set force: true; they keep their layers")

    def do() -> None:
        store.untag(name)
        store.collect(keep=users.layers(paths))

    return Plan([Step(f"image {name}", "remove", do, before={"id": image.id} if image else None)])
