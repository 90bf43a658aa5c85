# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that are made on this host: what of one is to be made, and its making."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Optional

from ..._errors import VesselError
from ..._image.build import layers as build_layers
from ..._image.build import make as build
from ..._image.build import plan as build_plan
from ..._image.build.fetch import fetch as fetch_file
from ..._image.build.steps import RunRequest, Stage
from ..._image.progress import Progress
from ..._image.store import NOTHING, Image, Store
from ..._image.view import View
from ..._paths import Paths
from . import building, registries, steps
from .recipes import Recipe
from .sources import Containerfile

# What a build does: (description, is it in the cache).
Told = list[tuple[str, bool]]


class Change(NamedTuple):
    """What is to be made; the id of the image that will be, empty where that is known when it is made; its
    configuration, where that is known before.

    It may be the ``same`` as is there, told in other words: then only what it was made from is written down anew.
    """

    told: Told
    id: str = ""
    config: Optional[dict[str, Any]] = None
    same: bool = False


def sweep(paths: Paths) -> None:
    """Remove what killed builds left."""
    steps.sweep(paths)


def stages(made: Recipe, files: building.Source, base: Image) -> list[Stage]:
    """What is built on the base, or what the Containerfile says. Its images must be there."""
    if isinstance(made.source, Containerfile):
        found = files.stages(made.source.found)
    else:
        found = [Stage(base, files.steps(made.layers))]
    build_plan.check_secrets(found, [secret["id"] for secret in made.secrets])
    return found


def key(made: Recipe, files: building.Source) -> str:
    """The digest of all that the image is made from."""
    # Of a context on the controller the source's own key says all: it need not be here.
    built = "" if _is_away(made) else build_plan.fingerprint(stages(made, files, NOTHING))
    what = [type(made.source).__name__, made.source.key(files.store), built, made.config]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _is_away(made: Recipe) -> bool:
    return isinstance(made.source, Containerfile) and made.source.found.sent is not None


def changes(
    store: Store, made: Recipe, planned: Mapping[str, Optional[str]], *, force: bool, damaged: bool
) -> Optional[Change]:
    """The layers of the build; None when the image is as declared."""
    coming = {name: planned[name] for name, dummy in made.images() if name in planned}
    if not all(coming.values()):
        # The rest is known when they are there.
        return Change([(build_layers.describe(layer), False) for layer in made.layers])
    present = store.whole(made.name)
    store = View(store.paths, {name: found for name, found in coming.items() if found})
    with building.Source(store, made.name) as files:
        if present is not None and not force and not damaged and present.key == key(made, files):
            return None
        if _is_away(made):
            return Change([])  # what of it is in the cache is known when the context is there
        base = made.source.cached(store)
        found = stages(made, files, base or NOTHING)
        # A source that is whole brings a configuration of its own.
        known = base is not None or not made.source.whole
        config = build_plan.configured(found, made.config) if known else None
        if base is None or force:
            steps = (step for stage in found for step in stage.steps)
            return Change([(step.shown, False) for step in steps if build_plan.makes_layer(step)], config=config)
        told = [(item.step.shown, bool(item.layer)) for item in build_plan.plan(store, found)]
        coming_id = base.id if made.plain else build.foreseen(store, found, made.config)
        same = present is not None and not damaged and present.id == coming_id
        return Change(told, coming_id, config, same)


def is_current(store: Store, made: Recipe, planned: Collection[str]) -> bool:
    """Is the image as declared, though bases of it are gone? It was made from what had their names then, and a name
    that is no longer there has not gone to another."""
    present = store.whole(made.name)
    lost = [name for name, dummy in made.images() if name not in planned and store.get(name) is None]
    known = present.bases if present is not None else {}
    if present is None or not lost or not all(name in known and store.get(known[name]) for name in lost):
        return False
    view = View(store.paths, {name: known[name] for name in lost})
    with contextlib.suppress(VesselError), building.Source(view, made.name) as files:
        return present.key == key(made, files)
    return False  # what is wrong shows when it is made


def warnings(store: Store, made: Recipe) -> list[str]:
    """What a build takes no notice of. A trigger of a base may declare arguments, too."""
    unused = made.source.found.unused() if isinstance(made.source, Containerfile) else []
    if not unused:
        return []
    bases = [image for name, dummy in made.images() if (image := store.get(name)) is not None]
    triggers = [text.split() for image in bases for text in image.config.get("OnBuild") or ()]
    declared = {word.partition("=")[0] for words in triggers if words[:1] == ["ARG"] for word in words[1:]}
    names = ", ".join(name for name in unused if name not in declared)
    return [f"image {made.name}: build_args: no ARG of {made.source.origin} declares {names}"] if names else []


def lacks(store: Store, made: Recipe, *, force: bool) -> str:
    """The file of the controller's that must be sent: none where the store has what would be made of it."""
    found = made.source.lacks()
    if not found or force:
        return found
    with building.Source(store, made.name) as files:
        cached = not _is_away(made) and made.source.cached(store)
        return "" if cached or _twin(store, key(made, files)) else found


def _twin(store: Store, wanted: str) -> Optional[Image]:
    """An image, of any name, that was made from the same."""
    names = (record["name"] for record in store.records() if record["key"] == wanted)
    return next((image for image in (store.whole(name) for name in names) if image is not None), None)


def make(paths: Paths, store: Store, made: Recipe, *, force: bool, progress: Progress) -> Image:
    """Make it, from the cache as far as that goes."""

    def run(request: RunRequest) -> None:
        steps.run(paths, made.name, request, progress)

    def get(url: str, digest: str, path: str) -> None:
        fetch_file(registries.transport(), url, digest, path, progress)

    # One work for all of it: what one part has made stays until the last has used it.
    with store.work() as work, building.Source(store, made.name) as files:
        wanted = key(made, files)
        bases = {name: image.id for name, dummy in made.images() if (image := store.get(name)) is not None}
        twin = _twin(store, wanted) if made.source.lacks() and not force else None
        if twin is not None:
            return store.tag(twin, made.name, wanted, bases)
        if made.plain:
            image = made.source.make(store, made.name, wanted, force=force, progress=progress)
            return store.tag(image, made.name, wanted, bases) if bases else image
        away = _is_away(made)
        if isinstance(made.source, Containerfile) and away:
            made = replace(made, source=made.source.unpacked(work.directory()))
        found = stages(made, files, made.source.make(store, made.name, "", force=force, progress=progress))
        secrets = building.contents(made.secrets)
        image = build.build(
            store,
            made.name,
            found,
            made.config,
            run,
            wanted,
            secrets=secrets,
            fetch=get,
            bases=bases,
            fresh=force,
            progress=progress,
        )
        if not away:
            files.remember()
        return image
