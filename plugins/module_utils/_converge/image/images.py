# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: what one is made from has a key, and an image with that key is as declared."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Optional, cast

from ..._errors import InUseError, NetworkError, RegistryError, StoreError
from ..._image import housekeeping
from ..._image.progress import QUIET, Progress
from ..._image.store import Image, Store
from ..._paths import Paths
from .. import users
from ..plan import Plan, Step
from .facts import repo_digests
from .recipes import Recipe, recipe
from .registries import Remote
from .sources import Registry

if TYPE_CHECKING:
    from .builds import Change

KIND = "images"
# Images that steps will make, by name: the id that each will have, where that is known and in the store.
Planned = dict[str, Optional[str]]


def locks(paths: Paths, desired: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is the task's own meanwhile: the image, and a container whose writable layer is copied."""
    container = desired.get("container")
    return [(KIND, desired["name"]), *([("containers", container)] if container else [])]


def plan(
    paths: Paths,
    desired: dict[str, Any],
    *,
    whole: bool = False,
    planned: Optional[Planned] = None,
    pull: Optional[str] = None,
    progress: Progress = QUIET,
) -> Plan:
    """What makes the image as desired.

    ``planned`` are the images that steps before these will make; the one planned here joins them.
    ``pull`` is when a registry's is fetched that does not say so itself.
    An image is always declared whole, so ``whole`` makes no difference.
    """
    store, name = Store(paths), desired["name"]
    planned = {} if planned is None else planned
    if housekeeping.is_littered(store):
        store.sweep()
    force = bool(desired.get("force"))
    if desired.get("state") == "absent":
        planned.pop(name, None)
        return _absence(paths, store, name, force=force)
    made = recipe(paths, desired)
    result = _damages(paths, store, name) if desired.get("verify") else Plan()
    damaged = bool(result)
    if isinstance(made.source, Registry):
        if pull and not desired.get("pull"):
            made = replace(made, source=replace(made.source, policy=pull))
        result.extend(_pulling(store, made, planned, force=force or damaged, progress=progress))
        return result
    # Who only fetches does without the builder, which takes as long to import as the rest.
    from . import builds

    builds.sweep(paths)
    result.warnings.extend(builds.warnings(store, made))
    change = None
    again = force or damaged or desired.get("pull") == "always"
    if again or not builds.is_current(store, made, planned):
        result.extend(_bases(store, made, desired, planned, progress))
        change = builds.changes(store, made, planned, force=force, damaged=damaged)
    if change is not None:
        planned[name] = change.id if change.id and store.get(change.id) else None
        result.extend(_making(paths, store, made, change, force=force, progress=progress))
    if desired.get("push"):
        new = change is not None and not change.same
        result.extend(_pushing(store, desired, new=new, progress=progress))
    return result


def _damages(paths: Paths, store: Store, name: str) -> Plan:
    """Throw away what is not what it was, so that it is made again; not below a container, which needs it."""
    from ..._image.verify import verify

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


def fetch(paths: Paths, name: str, pull: Optional[str], planned: Planned, progress: Progress) -> Plan:
    """The image that a container names, as its own pull policy says; from a registry, or from nowhere."""
    desired = {"name": name, "pull": pull or "missing"}
    return _pulling(Store(paths), recipe(paths, desired), planned, force=False, progress=progress)


def _bases(store: Store, made: Recipe, desired: dict[str, Any], planned: Planned, progress: Progress) -> Plan:
    """Fetch the images that it is built from, as the pull policy says."""
    result = Plan()
    for name, platform in made.images():
        about = {**desired, "name": name, **({"platform": platform} if platform else {})}
        base = Recipe(name, Registry.of(store.paths, about))
        why = f"{made.name} is built from it"
        result.extend(_pulling(store, base, planned, force=False, progress=progress, why=why))
    return result


def _pulling(store: Store, made: Recipe, planned: Planned, *, force: bool, progress: Progress, why: str = "") -> Plan:
    source = cast(Registry, made.source)
    present = store.whole(made.name)
    if made.name in planned or not source.wanted(store, present, force=force):
        return Plan()
    planned[made.name] = None

    def do() -> None:
        try:
            source.make(store, made.name, "", force=force, progress=progress)
        except (NetworkError, RegistryError) as error:
            error.hint = "; ".join(filter(None, [error.hint, why]))
            raise

    after = {"reference": source.origin, **source.remote.known()}
    return Plan([_step(store, made, present, do, after)])


def _pushing(store: Store, desired: dict[str, Any], *, new: bool, progress: Progress) -> Plan:
    """See to it that the registry which the name says has the image; ``new`` when it is made before that."""
    name, there = desired["name"], Remote(desired["name"], desired)
    if not new and there.has(store, store.need(name)):
        return Plan()
    # What is to be made first has its id, and what is there its digest, when it is pushed.
    before, after = (None, {"reference": str(there)}) if new else (there.known(), {"id": store.need(name).id})

    def do() -> None:
        there.push(store, store.need(name), progress)

    return Plan([Step(f"image {name}", f"push to {there}", do, before=before, after=after)])


def _making(paths: Paths, store: Store, made: Recipe, change: Change, *, force: bool, progress: Progress) -> Plan:
    from . import builds

    def do() -> None:
        builds.make(paths, store, made, force=force, progress=progress)

    layers = [f"{'cached' if cached else 'build'}: {what}" for what, cached in change.told]
    known = made.config if change.config is None else {"config": change.config}
    after = {**({"id": change.id} if change.id else {}), **known, "layers": layers}
    step = _step(store, made, store.whole(made.name), do, after)
    result = Plan([replace(step, needs=builds.lacks(store, made, force=force), hidden=change.same)])
    for what, cached in change.told:
        if not cached:
            result.add(Step(f"image {made.name}", f"build layer: {what}", lambda: None, after=what))
    return result


def _step(store: Store, made: Recipe, before: Optional[Image], do: Callable[[], None], after: dict[str, Any]) -> Step:
    """Make the image; undone, the name is what it was."""

    def undo() -> None:
        if before is None:
            store.untag(made.name)
        else:
            store.tag(before, made.name, before.key, before.bases)

    return Step(f"image {made.name}", made.describe(), do, undo, before=_shown(store, made.name), after=after)


def _shown(store: Store, name: str) -> Optional[dict[str, Any]]:
    """What diff mode says of the image that has the name now."""
    with contextlib.suppress(StoreError):  # damaged: it is made anew
        image = store.get(name)
        if image is not None:
            digests = repo_digests(store, image)
            return {"id": image.id, **({"repo_digests": digests} if digests else {}), "config": image.config}
    return None


def _absence(paths: Paths, store: Store, name: str, *, force: bool) -> Plan:
    if name not in store.names():
        return Plan()
    used_by = users.of_image(paths, name)
    if used_by and not force:
        raise InUseError("image", name, used_by, hint="remove them first, or set force: true; they keep their layers")

    def do() -> None:
        store.untag(name)
        store.collect(keep=users.kept(paths))

    return Plan([Step(f"image {name}", "remove", do, before=_shown(store, name))])
