# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is of images, in words of our own, and their configurations in OCI's."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cached_property
from typing import Any

from ..._image import config as configs
from ..._image.store import Image, Store
from ..._paths import Paths
from .. import users


class Facts:
    """The facts of some images; what concerns all of them is looked at once."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.store = Store(paths)

    def names(self) -> list[str]:
        return self.store.names()

    def of(self, name: str) -> dict[str, Any]:
        """Empty when there is no such image. Sizes are bytes on the disk."""
        image = self.store.get(name)
        if image is None:
            return {}
        document, layers = self.store.raw(image), [self._layer(layer) for layer in image.layers]
        sizes = {layer["digest"]: layer["size"] for layer in layers}
        shared = sum(size for digest, size in sizes.items() if self._holders[digest] > 1)
        return {
            "name": image.name or name,
            "id": image.id,
            "repo_digests": repo_digests(self.store, image),
            "created": image.created,
            "architecture": document.get("architecture", configs.architecture()),
            "size": sum(sizes.values()),
            "shared_size": shared,
            "own_size": sum(sizes.values()) - shared,
            "layers": layers,
            "history": [entry.get("created_by", "") for entry in document.get("history") or []],
            "config": image.config,
            "containers": sorted(self._containers[name]),
        }

    def _layer(self, digest: str) -> dict[str, Any]:
        return {"digest": digest, "size": self.store.layer_size(digest)}

    @cached_property
    def _holders(self) -> Counter[str]:
        """How many images have a layer; one with several names counts once."""
        images: dict[str, Image] = {image.id: image for image in self.store.images()}
        return Counter(layer for image in images.values() for layer in set(image.layers))

    @cached_property
    def _containers(self) -> defaultdict[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for container, spec in users.specs(self.paths):
            for image in users.images_of(spec):
                found[image].append(container)
        return found


def repo_digests(store: Store, image: Image) -> list[str]:
    """Where it came from, and where it was pushed to."""
    return [f"{origin['repository']}@{origin['digest']}" for origin in store.origins(image)]
