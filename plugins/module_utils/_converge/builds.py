# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that are made on this host: what of one is to be made, and its making."""

from __future__ import annotations

import hashlib
import json
from typing import Optional

from .._image.build import layers as build_layers
from .._image.build import make as build
from .._image.build import plan as build_plan
from .._image.build.fetch import fetch as fetch_file
from .._image.build.steps import RunRequest, Stage
from .._image.progress import Progress
from .._image.store import NOTHING, Image, Store
from .._paths import Paths
from . import building, registries, steps
from .recipes import Recipe
from .sources import Containerfile

# What a build does: (description, is it in the cache).
Told = list[tuple[str, bool]]


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
    built = build_plan.fingerprint(stages(made, files, NOTHING))
    what = [type(made.source).__name__, made.source.key(files.store), built, made.config]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def changes(store: Store, made: Recipe, planned: set[str], *, force: bool, damaged: bool) -> Optional[Told]:
    """The layers of the build; None when the image is as declared."""
    if any(name in planned for name, dummy in made.images()):
        return [(build_layers.describe(layer), False) for layer in made.layers]  # the rest is known when they are there
    present = store.whole(made.name)
    with building.Source(store, made.name) as files:
        if present is not None and not force and not damaged and present.key == key(made, files):
            return None
        base = None if force else made.source.cached(store)
        found = stages(made, files, base or NOTHING)
        if base is None:
            return [(step.shown, False) for stage in found for step in stage.steps if build_plan.makes_layer(step)]
        return [(item.step.shown, bool(item.layer)) for item in build_plan.plan(store, found)]


def lacks(store: Store, made: Recipe, *, force: bool) -> str:
    """The file of the controller's that must be sent: none where the store has what would be made of it."""
    found = made.source.lacks()
    if not found or force:
        return found
    with building.Source(store, made.name) as files:
        return "" if made.source.cached(store) or _twin(store, key(made, files)) else found


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
    with store.work(), building.Source(store, made.name) as files:
        wanted = key(made, files)
        twin = _twin(store, wanted) if made.source.lacks() and not force else None
        if twin is not None:
            return store.tag(twin, made.name, wanted)
        if made.plain:
            return made.source.make(store, made.name, wanted, force=force, progress=progress)
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
            fresh=force,
            progress=progress,
        )
        files.remember()
        return image
