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
from .._image.progress import QUIET, Progress
from .._image.store import Image, Store
from .._paths import Paths
from . import users
from .plan import Plan, Step
from .recipes import Recipe, recipe
from .registries import Remote
from .sources import Registry

KIND = "images"


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
    # Who only fetches does without the builder, which takes as long to import as the rest.
    from . import builds

    builds.sweep(paths)
    result.extend(_bases(store, made, desired, planned, progress))
    told = builds.changes(store, made, planned, force=force, damaged=damaged)
    if told is not None:
        planned.add(name)
        result.extend(_making(paths, store, made, told, force=force, progress=progress))
    if desired.get("push"):
        result.extend(_pushing(store, desired, new=told is not None, progress=progress))
    return result


def _damages(paths: Paths, store: Store, name: str) -> Plan:
    """Throw away what is not what it was, so that it is made again; not below a container, which needs it."""
    from .._image.verify import verify

    image = store.whole(name)
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
    present = store.whole(made.name)
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


def _making(
    paths: Paths, store: Store, made: Recipe, told: list[tuple[str, bool]], *, force: bool, progress: Progress
) -> Plan:
    from . import builds

    def do() -> None:
        builds.make(paths, store, made, force=force, progress=progress)

    layers = [f"{'cached' if cached else 'build'}: {what}" for what, cached in told]
    step = _step(store, made, store.whole(made.name), do, {"layers": layers, **made.config})
    result = Plan([replace(step, needs=builds.lacks(store, made, force=force))])
    for what, cached in told:
        if not cached:
            result.add(Step(f"image {made.name}", f"build layer: {what}", lambda: None, after=what))
    return result


def _step(store: Store, made: Recipe, before: Optional[Image], do: Callable[[], None], after: dict[str, Any]) -> Step:
    """Make the image; undone, the name is what it was."""

    def undo() -> None:
        if before is None:
            store.untag(made.name)
        else:
            store.tag(before, made.name, before.key)

    shown = {"id": before.id, "layers": len(before.layers)} if before else None
    return Step(f"image {made.name}", made.describe(), do, undo, before=shown, after=after)


def _absence(paths: Paths, store: Store, name: str, *, force: bool) -> Plan:
    if name not in store.names():
        return Plan()
    image = store.whole(name)
    used_by = users.of_image(paths, name)
    if used_by and not force:
        raise InUseError("image", name, used_by, hint="remove them first, or set force: true; they keep their layers")

    def do() -> None:
        store.untag(name)
        store.collect(keep=users.layers(paths))

    return Plan([Step(f"image {name}", "remove", do, before={"id": image.id} if image else None)])
