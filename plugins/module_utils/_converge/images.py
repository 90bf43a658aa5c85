# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: what one is made from has a key, and an image with that key is as declared."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Optional

from .._errors import InUseError, NotFoundError, OptionError, StoreError
from .._image import archive, build, rootfs, template
from .._image import config as configs
from .._image.store import Image, Store
from .._paths import Paths
from . import steps, users
from .image_options import CONFIG, parse_template_options
from .plan import Plan, Step

KIND = "images"
_CONFIG = tuple(option.name for option in CONFIG)


@dataclass(frozen=True)
class Recipe:
    """What an image is made from: a base of one kind, steps over it, and what its configuration says."""

    name: str
    kind: str  # archive, rootfs, template or from
    origin: str  # a path, a template's name, or an image's name
    template_options: dict[str, Any] = field(default_factory=dict)
    archive_name: str = ""
    layers: tuple[dict[str, Any], ...] = ()
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        return not self.layers and not self.config

    def describe(self) -> str:
        verbs = {"archive": "load archive", "rootfs": "import", "template": "make template", "from": "build from"}
        return f"{verbs[self.kind]} {self.origin}"


def recipe(desired: dict[str, Any]) -> Optional[Recipe]:
    """None when the task names nothing to make an image from. Raises OptionError where options contradict."""
    kind = desired.get("source") or ("from" if "from" in desired else "")
    _check_combination(desired, kind)
    if not kind:
        return None
    config = {name: desired[name] for name in _CONFIG if name in desired}
    layers = tuple(desired.get("layers") or ())
    origin = desired[{"archive": "path", "rootfs": "path", "template": "template", "from": "from"}[kind]]
    options: dict[str, Any] = {}
    if kind == "template":
        template.check(origin, "template")
        options = parse_template_options(origin, desired.get("template_options") or {})
    return Recipe(desired["name"], kind, origin, options, desired.get("archive_name", ""), layers, config)


_NEEDS = {"archive": "path", "rootfs": "path", "template": "template"}
_ONLY = {"path": ("archive", "rootfs"), "archive_name": ("archive",), "template": ("template",),
         "template_options": ("template",), "from": ("from",)}  # fmt: skip


def _check_combination(desired: dict[str, Any], kind: str) -> None:
    needed = _NEEDS.get(kind)
    if needed and needed not in desired:
        raise OptionError(needed, None, f"is missing; source: {kind} needs it")
    for option, kinds in _ONLY.items():
        if option in desired and kind not in kinds:
            problem = f"can't be with source: {kind}" if kind else f"needs source: {' or '.join(kinds)}"
            raise OptionError(option, desired[option], problem)
    if not kind:
        for option in ("layers", *_CONFIG):
            if option in desired:
                raise OptionError(option, desired[option], "has no base; give from or source")


def base_key(store: Store, made: Recipe) -> str:
    """The digest of all that the base is made from."""
    if made.kind == "template":
        return template.key(made.origin, made.template_options)
    if made.kind == "from":
        # Not its name, which may move on, and not its id, which changes with words that no layer sees.
        return _need_base(store, made).id
    if not os.path.exists(made.origin):
        raise OptionError("path", made.origin, "is not on the target; copy it there first")
    found = rootfs.key(made.origin, store)
    return found if made.kind == "rootfs" else hashlib.sha256(f"{found} {made.archive_name}".encode()).hexdigest()


def _need_base(store: Store, made: Recipe) -> Image:
    base = store.get(made.origin)
    if base is None:
        raise OptionError(
            "from", made.origin, "is no such image on this host", hint="declare it with vessel.host.image first"
        )
    return base


def key(store: Store, made: Recipe) -> str:
    """The digest of all that the image is made from."""
    digests = [planned.key for planned in build.plan(store, _nothing(), made.layers)]
    what = [made.kind, base_key(store, made), digests, made.config]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _nothing(layers: tuple[str, ...] = ()) -> Image:
    return Image("", "", layers)


def plan(
    paths: Paths,
    desired: dict[str, Any],
    *,
    whole: bool = False,
    planned: Optional[set[str]] = None,
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
    made = recipe(desired)
    if made is None:
        _require(store, name, planned)
        return Plan()
    steps.sweep(paths)
    if made.kind == "from" and made.origin in planned:
        planned.add(name)
        return _making(paths, store, made, [(build.describe(step), False) for step in made.layers], force=force)
    present = _present(store, name)
    if present is not None and not force and present.key == key(store, made):
        return Plan()
    planned.add(name)
    return _making(paths, store, made, _layers(store, made, force=force), force=force)


def _require(store: Store, name: str, planned: Collection[str]) -> None:
    if name not in planned and store.get(name) is None:
        hint = "give source: archive, rootfs or template, or from with layers"
        raise NotFoundError("image", name, hint=hint)


def _present(store: Store, name: str) -> Optional[Image]:
    """The image if all of it is there; one that is damaged is made again."""
    try:
        image = store.get(name)
    except StoreError:
        return None
    return image if image is not None and all(map(store.has_layer, image.layers)) else None


def _base(store: Store, made: Recipe) -> Optional[Image]:
    """The base if the store has it already."""
    if made.kind == "from":
        return _need_base(store, made)
    if made.kind == "archive":
        return None
    diff_id = store.layer_for(base_key(store, made))
    return _nothing((diff_id,)) if diff_id else None


def _layers(store: Store, made: Recipe, *, force: bool) -> list[tuple[str, bool]]:
    """(description, is it in the cache) of each step that makes a layer."""
    base = None if force else _base(store, made)
    if base is None:
        return [(build.describe(step), False) for step in made.layers if step.get("env") is None]
    planned = build.plan(store, base, made.layers)
    return [(item.describes, bool(item.layer)) for item in planned if item.step.get("env") is None]


def _making(paths: Paths, store: Store, made: Recipe, layers: list[tuple[str, bool]], *, force: bool) -> Plan:
    before = _present(store, made.name)

    def do() -> None:
        make(paths, store, made, force=force)

    def undo() -> None:
        if before is None:
            store.untag(made.name)
        else:
            store.tag(before, made.name, before.key)

    target = f"image {made.name}"
    told = [f"{'cached' if cached else 'build'}: {what}" for what, cached in layers]
    shown = {"id": before.id, "layers": len(before.layers)} if before else None
    result = Plan([Step(target, made.describe(), do, undo, before=shown, after={"layers": told, **made.config})])
    for what, cached in layers:
        if not cached:
            result.add(Step(target, f"build layer: {what}", lambda: None, after=what))
    return result


def make(paths: Paths, store: Store, made: Recipe, *, force: bool = False) -> Image:
    """Make it, from the cache as far as that goes."""
    wanted = key(store, made)

    def run(request: build.RunRequest) -> None:
        steps.run(paths, made.name, request)

    # One work for all of it: what one part has made stays until the last has used it.
    with store.work():
        if made.kind == "archive" and made.plain:
            image = archive.load(store, made.origin, made.name, made.archive_name, key=wanted)
        else:
            base = _make_base(store, made, force=force)
            if force:
                _forget(store, base, made)
            image = build.build(store, made.name, base, made.layers, made.config, run, wanted)
        if made.kind in ("archive", "rootfs"):
            rootfs.remember(store, made.origin)
    return image


def _make_base(store: Store, made: Recipe, *, force: bool) -> Image:
    if made.kind == "from":
        return _need_base(store, made)
    if made.kind == "archive":
        # Under the name that it will have in the end: no other name may be taken for it.
        return archive.load(store, made.origin, made.name, made.archive_name)
    cached = base_key(store, made)
    diff_id = "" if force else store.layer_for(cached)
    if not diff_id:
        if made.kind == "template":
            diff_id = template.build(store, made.origin, made.template_options, made.name)
        else:
            diff_id = rootfs.load(store, made.origin)
            store.set_key(cached, diff_id)
    return Image(made.describe(), "", (diff_id,))


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


def info(paths: Paths, name: str) -> dict[str, Any]:
    """The image in words of our own, and its configuration in OCI's."""
    store = Store(paths)
    image = store.need(name)
    return {
        "name": image.name or name,
        "id": image.id,
        "created": image.created,
        "architecture": store.raw(image).get("architecture", configs.architecture()),
        "size": store.size(image),
        "layers": [{"digest": layer, "size": store.layer_size(layer)} for layer in image.layers],
        "history": [entry.get("created_by", "") for entry in store.raw(image).get("history") or []],
        "config": image.config,
        "containers": users.of_image(paths, name),
    }


def exists(paths: Paths, name: str) -> bool:
    return Store(paths).get(name) is not None


def names(paths: Paths) -> list[str]:
    return Store(paths).names()
