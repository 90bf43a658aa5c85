# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers use an image, a volume or a network: those whose declaration names it, running or not."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .._paths import Paths
from . import store


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


def of_network(paths: Paths, network: str) -> list[str]:
    return [name for name, spec in specs(paths) if network in networks_of(spec)]


def of_volume(paths: Paths, volume: str) -> list[str]:
    return [name for name, spec in specs(paths) if volume in volumes_of(spec)]


def of_image(paths: Paths, *references: str) -> list[str]:
    """``references`` are the image's name and its id."""
    return [name for name, spec in specs(paths) if images_of(spec) & set(references)]


def layers(paths: Paths, *, without: Collection[str] = ()) -> set[str]:
    """Layers below containers: they stay, whatever becomes of the names of their images."""
    found: set[str] = set()
    base = f"{paths.state}/containers"
    for name in set(os.listdir(base) if os.path.isdir(base) else []) - {*without}:
        try:
            with open(f"{base}/{name}/base.json", encoding="utf-8") as file:
                found.update(json.load(file)["layers"])
        except (FileNotFoundError, ValueError):
            continue  # a writable layer that is half made is over nothing
    return found
