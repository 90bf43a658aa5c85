# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is made from, as a task's options say it, and the digest of all of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..._errors import OptionError
from ..._options.image import ACCESS, BUILD, CONFIG, REGISTRY
from ..._paths import Paths
from .sources import SOURCES, From, Source

_CONFIG = tuple(option.name for option in CONFIG)


@dataclass(frozen=True)
class Recipe:
    """A source, steps over it, and what the image's configuration says."""

    name: str
    source: Source
    layers: tuple[dict[str, Any], ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    secrets: tuple[dict[str, Any], ...] = ()

    @property
    def plain(self) -> bool:
        return self.source.whole and not self.layers and not self.config

    def describe(self) -> str:
        if self.plain and isinstance(self.source, From):
            return f"tag {self.source.origin}"
        return self.source.describe()

    def images(self) -> Iterator[tuple[str, str]]:
        """(name, platform or nothing) of each image that has to be there before."""
        yield from self.source.images()
        for layer in self.layers:
            used = [layer.get("copy") or {}, *(layer.get("mounts") or [])]
            yield from ((part["from"], "") for part in used if "from" in part)


def recipe(paths: Paths, desired: dict[str, Any]) -> Recipe:
    """Raises OptionError where options contradict one another."""
    kind = _kind(desired)
    _check_combination(desired, kind)
    config = {name: desired[name] for name in _CONFIG if name in desired}
    layers, secrets = (tuple(desired.get(option) or ()) for option in ("layers", "secrets"))
    return Recipe(desired["name"], SOURCES[kind].of(paths, desired), layers, config, secrets)


def _kind(desired: dict[str, Any]) -> str:
    if "source" in desired:
        return str(desired["source"])
    if "from" in desired:
        return "from"
    return "containerfile" if "containerfile" in desired or "context" in desired else "registry"


# Options that only some sources take.
_BASES = ("archive", "layout", "rootfs", "template", "from", "container")
_ONLY = {
    "path": ("archive", "layout", "rootfs"),
    "src": ("archive", "rootfs", "containerfile"),
    "archive_name": ("archive", "layout"),
    "template": ("template",),
    "template_options": ("template",),
    "from": ("from",),
    "container": ("container",),
    "max_size": ("archive", "layout", "rootfs", "registry"),
    "device_nodes": ("archive", "layout", "registry"),
    "layers": _BASES,
    **{option.name: ("registry", "from", "containerfile") for option in REGISTRY},
    **{option.name: ("containerfile",) for option in BUILD},
}
_SCRATCH = "scratch:latest"
_ON_A_BASE = ("layers", "secrets", *_CONFIG)


def _check_combination(desired: dict[str, Any], kind: str) -> None:
    needed = SOURCES[kind].option
    by_src = kind in _ONLY["src"]
    if needed and needed not in desired and not (by_src and "src" in desired):
        raise OptionError(needed, None, f"is missing; source: {kind} needs it{', or src' if by_src else ''}")
    told = kind != "registry" or "source" in desired
    if kind == "registry":
        for option in _ON_A_BASE:
            if option in desired:
                problem = "can't be with source: registry; build on the image, with from"
                raise OptionError(option, desired[option], problem if told else "has no base; give from or source")
    if kind != "registry" and "@" in desired["name"]:
        raise OptionError("name", desired["name"], "has a digest, which only an image of a registry's can have")
    for option, other in (("username", "password"), ("password", "username"), ("client_key", "client_cert")):
        if option in desired and other not in desired:
            raise OptionError(other, None, f"is missing; {option} needs it")
    if desired["name"] == _SCRATCH:
        raise OptionError("name", "scratch", "stands for no image in a Containerfile; choose another one")
    if desired.get("from") == desired["name"] and set(desired) & set(_ON_A_BASE):
        raise OptionError("from", desired["from"], "is the image itself, which would grow with every run")
    if desired.get("push") and kind == "registry":
        hint = "name the registry in name, and the image that is here in from"
        raise OptionError("push", True, "has nothing to push; the image is the registry's own", hint=hint)
    access = {option.name for option in ACCESS} if desired.get("push") else set()
    for option, kinds in _ONLY.items():
        if option in desired and kind not in kinds and option not in access:
            needs = _given(" or ".join(kinds), desired)
            problem = f"can't be with {_given(kind, desired)}" if told else f"needs {needs}"
            hint = "a Containerfile's steps are its own; layers are built on from" if option == "layers" else ""
            raise OptionError(option, getattr(desired[option], "name", desired[option]), problem, hint=hint)


def _given(kind: str, desired: Mapping[str, Any]) -> str:
    """The option by which a task says it."""
    if kind == "containerfile" and kind not in desired and "context" in desired:
        return "context"
    return kind if kind in ("from", "containerfile") else f"source: {kind}"
