# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: each layer once, unpacked in overlayfs's own form; images as OCI configurations; names.

layers/HEX/             a layer, named by its diff_id
layers/HEX.json         {"size": bytes}
keys/KEY                the layer that a build step or template with this key made
images/HEX/config.json  an image configuration (image-spec, config.md), named by its digest
names/QUOTED            {"id": …, "key": …}: which image has the name, and what it was made from
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Optional

from .._errors import NotFoundError, StoreError
from .._kernel.file import fsync_directory, locked, remove_tree, write_atomic
from .._paths import Paths


@dataclass(frozen=True)
class Image:
    """``layers`` are diff_ids, the base first; ``config`` is the configuration's ``config`` object."""

    name: str
    id: str
    layers: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    key: str = ""


class Store:
    """Reading needs no lock: everything appears by a rename. Writing is under one."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.layers = paths.layers
        self.images_dir = paths.images
        self.names_dir = f"{paths.state}/names"
        self.keys_dir = f"{paths.state}/keys"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Where the store lies is made with it. Only root may pass its top: layers hold set-uid files."""
        os.makedirs(self.paths.state, mode=0o700, exist_ok=True)
        for path in (self.layers, self.images_dir, self.names_dir, self.keys_dir):
            os.makedirs(path, mode=0o711 if path == self.layers else 0o700, exist_ok=True)
        with locked(self.paths.lock("store", "store")):
            yield

    # layers
    def layer_path(self, diff_id: str) -> str:
        return f"{self.layers}/{_hex(diff_id)}"

    def has_layer(self, diff_id: str) -> bool:
        return os.path.exists(f"{self.layer_path(diff_id)}.json")

    def layer_size(self, diff_id: str) -> int:
        data = _load(f"{self.layer_path(diff_id)}.json")
        return int(data["size"]) if data else 0

    def temporary(self) -> str:
        """A new directory beside the layers, from which a rename makes a layer."""
        os.makedirs(self.paths.state, mode=0o700, exist_ok=True)
        os.makedirs(self.layers, mode=0o711, exist_ok=True)
        path = f"{self.layers}/.new-{os.getpid()}-{os.urandom(4).hex()}"
        os.mkdir(path, 0o755)
        return path

    def adopt_layer(self, directory: str, diff_id: str, size: int) -> None:
        """Make the directory the layer; one that is there already is the same, for its digest is."""
        with self.locked():
            target = self.layer_path(diff_id)
            if self.has_layer(diff_id):
                remove_tree(directory)
                return
            remove_tree(target)  # a killed process renamed, and did not get as far as the size
            os.rename(directory, target)
            fsync_directory(self.layers)
            write_atomic(f"{target}.json", json.dumps({"size": size}).encode())

    # keys
    def layer_for(self, key: str) -> str:
        """The layer that was made from what the key stands for, empty when there is none."""
        data = _load(f"{self.keys_dir}/{key}")
        return data["layer"] if data and self.has_layer(data["layer"]) else ""

    def set_key(self, key: str, diff_id: str) -> None:
        with self.locked():
            write_atomic(f"{self.keys_dir}/{key}", json.dumps({"layer": diff_id}).encode())

    # images
    def put(self, name: str, config: dict[str, Any], key: str = "") -> Image:
        """Store a configuration and give it a name; a name that another image had moves."""
        data = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
        identity = f"sha256:{hashlib.sha256(data).hexdigest()}"
        for diff_id in config["rootfs"]["diff_ids"]:
            if not self.has_layer(diff_id):
                raise StoreError(f"image {name}: its layer {diff_id} is not in the store")
        with self.locked():
            directory = f"{self.images_dir}/{_hex(identity)}"
            os.makedirs(directory, exist_ok=True)
            write_atomic(f"{directory}/config.json", data)
            write_atomic(self._name_path(name), json.dumps({"id": identity, "key": key}).encode())
        return self._image(name, identity, key)

    def get(self, name: str) -> Optional[Image]:
        """By name, or by id."""
        if name.startswith("sha256:"):
            return self._image("", name, "") if os.path.isdir(f"{self.images_dir}/{_hex(name)}") else None
        data = _load(self._name_path(name))
        return self._image(name, data["id"], data.get("key", "")) if data else None

    def need(self, name: str) -> Image:
        image = self.get(name)
        if image is None:
            raise NotFoundError("image", name, hint="declare it with vessel.host.image first")
        return image

    def names(self) -> list[str]:
        files = os.listdir(self.names_dir) if os.path.isdir(self.names_dir) else []
        return sorted(urllib.parse.unquote(file) for file in files if not file.endswith(".new"))

    def images(self) -> list[Image]:
        """Every name's image."""
        return [image for image in map(self.get, self.names()) if image is not None]

    def raw(self, image: Image) -> dict[str, Any]:
        """The whole configuration."""
        data = _load(f"{self.images_dir}/{_hex(image.id)}/config.json")
        if data is None:
            raise StoreError(f"image {image.name}: its configuration {image.id} is missing")
        return data

    def size(self, image: Image) -> int:
        return sum(self.layer_size(layer) for layer in image.layers)

    def directories(self, image: Image) -> list[str]:
        """The layers' directories, the base first."""
        for layer in image.layers:
            if not self.has_layer(layer):
                raise StoreError(
                    f"image {image.name}: its layer {layer} is not in the store", hint="build it again with force"
                )
        return [self.layer_path(layer) for layer in image.layers]

    def untag(self, name: str) -> None:
        """Take the name away; the image goes with its last name, its layers with collect()."""
        with self.locked():
            try:
                os.unlink(self._name_path(name))
            except FileNotFoundError:
                pass

    def unused(self, *, keep_cache: bool, keep: Collection[str] = ()) -> tuple[list[str], list[str], list[str]]:
        """(images, layers, keys) that no name leads to; with ``keep_cache`` a key keeps its layer.

        ``keep`` are layers that are below containers, whatever became of the names of their images.
        """
        named = {image.id: image for image in self.images()}
        wanted = {*keep, *(layer for image in named.values() for layer in image.layers)}
        keys = [key for key in _listdir(self.keys_dir) if not key.endswith(".new")]
        cached = {key: (_load(f"{self.keys_dir}/{key}") or {}).get("layer", "") for key in keys}
        if keep_cache:
            wanted |= set(cached.values())
        images = [name for name in _listdir(self.images_dir) if f"sha256:{name}" not in named]
        layers = [name for name in _listdir(self.layers) if "." not in name and f"sha256:{name}" not in wanted]
        dead = [key for key, layer in cached.items() if layer not in wanted]
        return images, layers, dead

    def collect(self, *, keep_cache: bool = True, keep: Collection[str] = ()) -> int:
        """Remove what unused() names, and what killed processes left; the bytes that it freed."""
        freed = 0
        with self.locked():
            images, layers, keys = self.unused(keep_cache=keep_cache, keep=keep)
            for name in images:
                remove_tree(f"{self.images_dir}/{name}")
            for key in keys:
                os.unlink(f"{self.keys_dir}/{key}")
            for name in layers:
                freed += self.layer_size(f"sha256:{name}")
                # The size goes first: a layer without one is not a layer.
                _unlink(f"{self.layers}/{name}.json")
                remove_tree(f"{self.layers}/{name}")
            self._sweep()
        return freed

    def _sweep(self) -> None:
        """Temporary directories of processes that are gone."""
        for name in _listdir(self.layers):
            if name.startswith(".new-") and not os.path.exists(f"/proc/{name.split('-')[1]}"):
                remove_tree(f"{self.layers}/{name}")

    def _name_path(self, name: str) -> str:
        return f"{self.names_dir}/{urllib.parse.quote(name, safe='')}"

    def _image(self, name: str, identity: str, key: str) -> Image:
        config = _load(f"{self.images_dir}/{_hex(identity)}/config.json")
        if config is None:
            raise StoreError(f"image {name}: its configuration {identity} is missing", hint="make it again with force")
        layers = tuple(config["rootfs"]["diff_ids"])
        return Image(name, identity, layers, config.get("config") or {}, config.get("created", ""), key)


def _hex(digest: str) -> str:
    algorithm, _, hexes = digest.partition(":")
    if algorithm != "sha256" or len(hexes) != 64 or set(hexes) - set("0123456789abcdef"):
        raise StoreError(f"{digest!r} is not a sha256 digest")
    return hexes


def _load(path: str) -> Optional[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            return dict(json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise StoreError(f"{path} is damaged; it is not JSON", hint="remove it, and make the image again") from None


def _listdir(path: str) -> list[str]:
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
