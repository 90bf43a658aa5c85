# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: what one is made from has a key, and an image with that key is as declared."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional, cast

from .._errors import InUseError, OptionError, StoreError
from .._image import build
from .._image.progress import QUIET, Progress
from .._image.store import Image, Store
from .._paths import Paths
from . import steps, users
from .image_options import CONFIG, REGISTRY
from .plan import Plan, Step
from .sources import SOURCES, From, Registry, Source

KIND = "images"
_CONFIG = tuple(option.name for option in CONFIG)


@dataclass(frozen=True)
class Recipe:
    """What an image is made from: its source, steps over it, and what its configuration says."""

    name: str
    source: Source
    layers: tuple[dict[str, Any], ...] = ()
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        return not self.layers and not self.config

    def describe(self) -> str:
        if self.plain and isinstance(self.source, From):
            return f"tag {self.source.origin}"
        return self.source.describe()


def recipe(paths: Paths, desired: dict[str, Any]) -> Recipe:
    """Raises OptionError where options contradict."""
    kind = desired.get("source") or ("from" if "from" in desired else "registry")
    _check_combination(desired, kind)
    config = {name: desired[name] for name in _CONFIG if name in desired}
    return Recipe(desired["name"], SOURCES[kind].of(paths, desired), tuple(desired.get("layers") or ()), config)


# Options that only some sources take.
_ONLY = {
    "path": ("archive", "rootfs"),
    "archive_name": ("archive",),
    "template": ("template",),
    "template_options": ("template",),
    "from": ("from",),
    "container": ("container",),
    "max_size": ("archive", "rootfs", "registry"),
    "device_nodes": ("archive", "registry"),
    **{option.name: ("registry", "from") for option in REGISTRY},
}


def _check_combination(desired: dict[str, Any], kind: str) -> None:
    needed = SOURCES[kind].option
    if needed not in desired:
        raise OptionError(needed, None, f"is missing; source: {kind} needs it")
    told = "source" in desired or kind == "from"
    for option, kinds in _ONLY.items():
        if option in desired and kind not in kinds:
            problem = f"can't be with source: {kind}" if told else f"needs source: {' or '.join(kinds)}"
            raise OptionError(option, desired[option], problem)
    if kind == "registry":
        for option in ("layers", *_CONFIG):
            if option in desired:
                problem = "can't be with source: registry; build on the image, with from"
                raise OptionError(option, desired[option], problem if told else "has no base; give from or source")


def key(store: Store, made: Recipe) -> str:
    """The digest of all that the image is made from."""
    digests = [planned.key for planned in build.plan(store, _nothing(), made.layers)]
    what = [type(made.source).__name__, made.source.key(store), digests, made.config]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _nothing() -> Image:
    return Image("", "", ())


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
    if isinstance(made.source, Registry):
        return _pulling(store, made, planned, force=force, progress=progress)
    steps.sweep(paths)
    result = _bases(store, made, desired, planned, progress)
    if isinstance(made.source, From) and made.source.origin in planned:
        layers = [(build.describe(step), False) for step in made.layers]
    else:
        present = _present(store, name)
        if present is not None and not force and present.key == key(store, made):
            return result
        layers = _layers(store, made, force=force)
    planned.add(name)
    result.extend(_making(paths, store, made, layers, force=force, progress=progress))
    return result


def fetch(paths: Paths, name: str, pull: Optional[str], planned: set[str], progress: Progress) -> Plan:
    """The image that a container names, as its own pull policy says; from a registry, or from nowhere."""
    desired = {"name": name, "pull": pull or "missing"}
    return _pulling(Store(paths), recipe(paths, desired), planned, force=False, progress=progress)


def _bases(store: Store, made: Recipe, desired: dict[str, Any], planned: set[str], progress: Progress) -> Plan:
    """Fetch the image that it is built on, as the pull policy says."""
    if not isinstance(made.source, From) or made.source.origin in planned:
        return Plan()
    base = Recipe(made.source.origin, Registry.of(store.paths, {**desired, "name": made.source.origin}))
    return _pulling(store, base, planned, force=False, progress=progress)


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


def _present(store: Store, name: str) -> Optional[Image]:
    """The image if all of it is there; one that is damaged is made again."""
    try:
        image = store.get(name)
    except StoreError:
        return None
    return image if image is not None and all(map(store.has_layer, image.layers)) else None


def _layers(store: Store, made: Recipe, *, force: bool) -> list[tuple[str, bool]]:
    """(description, is it in the cache) of each step that makes a layer."""
    base = None if force else made.source.cached(store)
    if base is None:
        return [(build.describe(step), False) for step in made.layers if step.get("env") is None]
    planned = build.plan(store, base, made.layers)
    return [(item.describes, bool(item.layer)) for item in planned if item.step.get("env") is None]


def _making(
    paths: Paths, store: Store, made: Recipe, layers: list[tuple[str, bool]], *, force: bool, progress: Progress
) -> Plan:
    def do() -> None:
        make(paths, store, made, force=force, progress=progress)

    told = [f"{'cached' if cached else 'build'}: {what}" for what, cached in layers]
    result = Plan([_step(store, made, _present(store, made.name), do, {"layers": told, **made.config})])
    for what, cached in layers:
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


def make(paths: Paths, store: Store, made: Recipe, *, force: bool = False, progress: Progress = QUIET) -> Image:
    """Make it, from the cache as far as that goes."""

    def run(request: build.RunRequest) -> None:
        steps.run(paths, made.name, request)

    # One work for all of it: what one part has made stays until the last has used it.
    with store.work():
        wanted = key(store, made)
        if made.plain and made.source.whole:
            return made.source.make(store, made.name, wanted, force=force, progress=progress)
        # Until it is built, it has the key of nothing: whoever is killed between makes it again.
        base = made.source.make(store, made.name, "", force=force, progress=progress)
        if force:
            _forget(store, base, made)
        return build.build(store, made.name, base, made.layers, made.config, run, wanted)


def _forget(store: Store, base: Image, made: Recipe) -> None:
    """Take the steps out of the cache, so that they run again."""
    for planned in build.plan(store, base, made.layers):
        if planned.layer:
            os.unlink(f"{store.keys_dir}/{planned.key}")


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
