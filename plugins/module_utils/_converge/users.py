# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers use an image, a volume or a network: those whose declaration names it, running or not."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .._paths import Paths, container_of
from . import history, store


def specs(paths: Paths) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each declared container with its spec."""
    for name in store.names(paths, "containers"):
        spec = store.read_spec(paths, "containers", name)
        if spec is not None:
            yield name, spec


def attached(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is declared of each network that it is on."""
    if spec.get("network_mode"):
        return []
    networks = spec.get("networks")
    # Without a word about networks, a container is on the one that everybody is on.
    return [{"name": "default"}] if networks is None else list(networks)


def networks_of(spec: Mapping[str, Any]) -> set[str]:
    return {entry["name"] for entry in attached(spec)}


def volumes_of(spec: Mapping[str, Any]) -> set[str]:
    """Named volumes; an absolute path is the host's own directory."""
    sources = {volume.split(":")[0] for volume in spec.get("volumes") or []}
    return {source for source in sources if not source.startswith("/")}


def images_of(spec: dict[str, Any]) -> set[str]:
    """The image by the name that was declared."""
    return {str(spec["image"])} if spec.get("image") else set()


def images_of_stacks(paths: Paths) -> set[str]:
    """Those that stacks declare, also where no container is made from them: others are built on them."""
    specs = (store.read_spec(paths, history.KIND, name) or {} for name in store.names(paths, history.KIND))
    return {image for spec in specs for image in spec.get("images", [])}


def of_network(paths: Paths, network: str) -> list[str]:
    return [name for name, spec in specs(paths) if network in networks_of(spec)]


def of_volume(paths: Paths, volume: str) -> list[str]:
    return [name for name, spec in specs(paths) if volume in volumes_of(spec)]


def of_image(paths: Paths, *references: str) -> list[str]:
    """``references`` are the image's name and its id."""
    return [name for name, spec in specs(paths) if images_of(spec) & set(references)]


def kept(paths: Paths, *, without: Collection[str] = ()) -> set[str]:
    """Digests of images that containers were made from or stacks may go back to, and of layers below containers: they
    stay, whatever becomes of the names. ``without`` are containers that count as gone."""
    images = {str(spec.get("image_id") or "") for name, spec in specs(paths) if name not in without}
    return images | history.images(paths) | layers(paths, without=without)


def layers(paths: Paths, *, without: Collection[str] = ()) -> set[str]:
    """Those below containers."""
    found: set[str] = set()
    base = f"{paths.state}/containers"
    for instance in os.listdir(base) if os.path.isdir(base) else []:
        if container_of(instance) in without:
            continue
        try:
            with open(f"{base}/{instance}/base.json", encoding="utf-8") as file:
                found.update(json.load(file)["layers"])
        except (FileNotFoundError, ValueError):
            continue  # a writable layer that is half made is over nothing
    return found
