# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: each layer once, unpacked in overlayfs's own form; images as OCI configurations; names.

layers/HEX/               a layer, named by its diff_id
layers/HEX.json           {"size": bytes, "packed": digest, "skipped": name}; a layer without it is none
layers/HEX.headers        what a layer from elsewhere has in its tar besides its files' content, see headers.py
layers/keys/KEY           which layer a build step or template of this key made
layers/.tmp-PID-RANDOM/   a writer at work; it holds a lock on it for as long as it lives
images/HEX/config.json    an image configuration (image-spec, config.md), named by its digest
images/HEX/manifest.json  the manifest that it came with, where it came with one
images/HEX/pushed.json    the manifest that it was last pushed with, where that is another
images/HEX/origins.json   {"origins": [{"repository": …, "digest": …, "manifest": …}]}: who has it, and as what
images/names/NAME.json    {"name": …, "id": …, "key": …, "created": …, "bases": {name: id}}: which image has it, and
                          what it was made from

Reading takes no lock: everything appears by a rename. Writing is under one, which is that of the directory ``layers``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Optional

from .._errors import NotFoundError, StoreError
from .._kernel.file import fsync_directory, has_name, make_directories, remove_tree, write_atomic
from .._kernel.selinux import container_label, set_file_label
from .._kernel.syncfs import syncfs
from .._paths import Paths
from . import housekeeping
from .housekeeping import HEADERS, LOCK, TEMPORARY
from .record import bases_of, canonical, damaged, diff_ids, digest_of, hexes, listdir, load, parse
from .tree import OVERLAY

_FILE_NAME_MAX = 120
_NO_BASES: Mapping[str, str] = MappingProxyType({})
_ORIGINS_MAX = 32


@dataclass(frozen=True)
class Image:
    """``layers`` are diff_ids, the base first; ``config`` is the configuration's ``config`` object.

    ``key`` says what it was made from, as whoever made it told; ``bases`` are the images that went into that: the ids
    that their names had.
    """

    name: str
    id: str
    layers: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    key: str = ""
    bases: Mapping[str, str] = field(default_factory=dict)


NOTHING = Image("scratch", "", ())


class Work:
    """A writer's place in the store. What it pins stays until it ends, also before an image names it."""

    def __init__(self, store: Store, path: str) -> None:
        self.store = store
        self.path = path
        os.mkdir(f"{path}/pins")

    def directory(self) -> str:
        """A new directory, from which adopt() can make a layer."""
        path = f"{self.path}/{os.urandom(4).hex()}"
        os.mkdir(path)
        os.chmod(path, 0o755)  # whatever the umask: it becomes a root directory
        return path

    def pin(self, diff_id: str) -> bool:
        """Keep the layer; False when it is not there."""
        with self.store.locked():
            self._pin(diff_id)
            return self.store.has_layer(diff_id)

    def _pin(self, diff_id: str) -> None:
        with open(f"{self.path}/pins/{hexes(diff_id)}", "wb"):
            pass

    def adopt(
        self, directory: str, diff_id: str, size: int, *, headers: str = "", packed: str = "", skipped: str = ""
    ) -> None:
        """Make the directory the layer; one that is there already is the same, for its digest is, unless it lacks the
        device nodes of which ``skipped`` is the first, and the new one has them.

        Of a layer that we have not packed, ``headers`` is the file of its tar's; without that, ``packed`` is the digest
        that it has when we pack it.
        """
        store = self.store
        if not store.has_layer(diff_id) or store.skipped(diff_id):
            syncfs(directory)
        with store.locked():
            self._pin(diff_id)
            target = store.layer_path(diff_id)
            if store.has_layer(diff_id) and (skipped or not store.skipped(diff_id)):
                return  # the directory goes with the work
            for left in (f"{target}.json", target, f"{target}{HEADERS}"):
                remove_tree(left)  # damaged, or a killed process renamed, and did not get as far as the size
            os.rename(directory, target)
            more = {"packed": packed, "skipped": skipped}
            record: dict[str, Any] = {"size": size, **{key: value for key, value in more.items() if value}}
            if headers:
                record["size"] += os.stat(headers).st_blocks * 512
                os.rename(headers, f"{target}{HEADERS}")
            fsync_directory(store.layers)
            write_atomic(f"{target}.json", json.dumps(record).encode())


class Store:
    """``paths`` say where it lies; it is made with the first that is written to it, and goes with the last."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.layers = paths.layers
        self.keys_dir = f"{paths.layers}/keys"
        self.images_dir = paths.images
        self.names_dir = f"{paths.images}/names"
        self._work: Optional[Work] = None

    # layers
    def layer_path(self, diff_id: str) -> str:
        return f"{self.layers}/{hexes(diff_id)}"

    def has_layer(self, diff_id: str) -> bool:
        path = self.layer_path(diff_id)
        return os.path.exists(f"{path}.json") and os.path.isdir(path)

    def layer_size(self, diff_id: str) -> int:
        """Bytes of its files on the disk."""
        path = f"{self.layer_path(diff_id)}.json"
        data = load(path)
        if data is not None and not isinstance(data.get("size"), int):
            raise damaged(path)
        return int(data["size"]) if data else 0

    def headers(self, diff_id: str) -> str:
        """The file with which the layer's tar comes back; empty for a layer that is packed."""
        path = f"{self.layer_path(diff_id)}{HEADERS}"
        return path if os.path.exists(path) else ""

    def packed(self, diff_id: str) -> str:
        """The digest of the tar that the layer is given out as."""
        data = load(f"{self.layer_path(diff_id)}.json") or {}
        return str(data.get("packed") or diff_id)

    def skipped(self, diff_id: str) -> str:
        """The first of the device nodes that the layer has in its tar and not here; empty where it has all."""
        data = load(f"{self.layer_path(diff_id)}.json") or {}
        return str(data.get("skipped") or "")

    def layer_for(self, key: str) -> str:
        """The layer that was made from what the key stands for, empty when there is none, or nobody can tell."""
        with contextlib.suppress(StoreError):
            layer = str((load(f"{self.keys_dir}/{key}") or {}).get("layer", ""))
            return layer if self.has_layer(layer) else ""
        return ""

    # images
    def get(self, name: str) -> Optional[Image]:
        """By name, or by id."""
        if name.startswith("sha256:"):
            return self.image({"name": "", "id": name}) if os.path.isdir(self._image_path(name)) else None
        record = _named(self._name_path(name))
        if record is None:
            return None
        try:
            return self.image(record)
        except StoreError:
            # The name may have gone to another image between the two reads, and the first been collected.
            again = _named(self._name_path(name))
            if again == record:
                raise
            return self.image(again) if again else None

    def whole(self, name: str) -> Optional[Image]:
        """By name, if all of it is there; one that is damaged is as good as none."""
        try:
            image = self.get(name)
        except StoreError:
            return None
        return image if image is not None and all(map(self.has_layer, image.layers)) else None

    def need(self, name: str) -> Image:
        image = self.get(name)
        if image is None:
            raise NotFoundError("image", name, hint="declare it with vessel.host.image first")
        return image

    def names(self) -> list[str]:
        return sorted(record["name"] for record in self.records())

    def names_of(self, identity: str) -> list[str]:
        """The names that an image has."""
        return sorted(record["name"] for record in self.records() if record["id"] == identity)

    def images(self) -> list[Image]:
        """Every name's image; one with several names comes several times."""
        return [image for image in map(self.get, self.names()) if image is not None]

    def raw(self, image: Image) -> dict[str, Any]:
        """The whole configuration."""
        return parse(self.configuration(image), f"{self._image_path(image.id)}/config.json")

    def configuration(self, image: Image) -> bytes:
        """The same, byte by byte as the image's id says."""
        return self._read_config(image.id, image.name)

    def manifest(self, image: Image) -> Optional[dict[str, Any]]:
        """The manifest that it came with."""
        return load(f"{self._image_path(image.id)}/manifest.json")

    def manifests(self, image: Image) -> list[bytes]:
        """Those under which registries know it, byte by byte: the one that it came with, and the one last pushed."""
        found = []
        for name in ("manifest", "pushed"):
            with (
                contextlib.suppress(FileNotFoundError),
                open(f"{self._image_path(image.id)}/{name}.json", "rb") as file,
            ):
                found.append(file.read())
        return found

    def origins(self, image: Image) -> list[dict[str, str]]:
        """Where it was pulled from, or pushed to, the latest last: the repository, the digest that the name led to
        there, and that of the image's own manifest."""
        data = load(f"{self._image_path(image.id)}/origins.json")
        return list(data["origins"]) if data else []

    def directories(self, image: Image) -> list[str]:
        """The directories to be mounted, the base first."""
        found: list[str] = []
        for layer in image.layers:
            if not self.has_layer(layer):
                hint = "make it again with force"
                raise StoreError(f"image {image.name}: its layer {layer} is not in the store", hint=hint)
            path = self.layer_path(layer)
            # overlayfs does not ask a layer's top whether it is opaque.
            found = [path] if is_opaque(path) else [*found, path]
        return found

    # writing
    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The store is ours alone for a short while."""
        while True:
            _make(self.paths.state, self.layers)
            try:
                fd = os.open(self.layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # another process removed the last layer, and the store with it
            fcntl.flock(fd, fcntl.LOCK_EX)
            if has_name(fd, self.layers):
                break
            os.close(fd)
        try:
            self._label(fd)
            _make(self.keys_dir, self.images_dir, self.names_dir)
            yield
        finally:
            os.close(fd)

    def _label(self, fd: int) -> None:
        """What is made below a directory has its type: one that containers may read, as container engines have it."""
        label = container_label("ro_file")
        if label:
            set_file_label(fd, label)

    @contextlib.contextmanager
    def work(self) -> Iterator[Work]:
        """A place to work in; within another work of this store it is that one."""
        if self._work is not None:
            yield self._work
            return
        with self.locked():
            housekeeping.sweep(self)
            path = f"{self.layers}/{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}"
            os.mkdir(path, 0o700)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            self._work = Work(self, path)
            yield self._work
        finally:
            self._work = None
            remove_tree(path)
            os.close(fd)
            with self.locked():
                self._remove_directories()  # a first work that failed leaves no store

    @contextlib.contextmanager
    def once(self, what: str) -> Iterator[None]:
        """Of several processes that would make the same, one does; the others wait, and find it made. In a work."""
        path = f"{self.layers}/{LOCK}{what}"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if has_name(fd, path):
                break
            os.close(fd)
        try:
            yield
        finally:
            os.unlink(path)
            os.close(fd)

    def set_key(self, key: str, diff_id: str) -> None:
        with self.locked():
            write_atomic(f"{self.keys_dir}/{key}", json.dumps({"layer": diff_id}).encode())

    def drop_keys(self, keys: Collection[str]) -> None:
        """Forget what set_key() said; what layers are kept by nothing else go with collect()."""
        with self.locked():
            for key in keys:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self.keys_dir}/{key}")

    def put(
        self,
        name: str,
        config: dict[str, Any] | bytes,
        key: str = "",
        *,
        bases: Mapping[str, str] = _NO_BASES,
        manifest: Optional[bytes] = None,
        origin: Optional[dict[str, str]] = None,
    ) -> Image:
        """Store a configuration and give it a name; a name that another image had moves.

        A configuration that came from elsewhere is given as its bytes: they are what its id is the digest of.
        ``origin`` is one of origins().
        """
        data = config if isinstance(config, bytes) else canonical(config)
        made = digest_of(data)
        layers = diff_ids(json.loads(data), name)
        with self.locked():
            for diff_id in layers:
                if not self.has_layer(diff_id):
                    raise StoreError(f"image {name}: its layer {diff_id} is not in the store")
            directory = self._image_path(made)
            os.makedirs(directory, mode=0o700, exist_ok=True)
            if manifest is not None:
                write_atomic(f"{directory}/manifest.json", manifest)
            if origin is not None:
                self._add_origin(directory, origin)
            write_atomic(f"{directory}/config.json", data)
            fsync_directory(self.images_dir)
            record = self._name(name, made, key, bases)
        return self.image(record)

    @staticmethod
    def _add_origin(directory: str, origin: dict[str, str]) -> None:
        path = f"{directory}/origins.json"
        before = (load(path) or {}).get("origins", [])
        if not before or before[-1] != origin:
            after = [*(one for one in before if one != origin), origin][-_ORIGINS_MAX:]
            write_atomic(path, json.dumps({"origins": after}).encode())

    def add_origin(self, image: Image, origin: dict[str, str], manifest: bytes) -> None:
        """Another registry has it now, under that manifest."""
        with self.locked():
            self._read_config(image.id, image.name)
            directory = self._image_path(image.id)
            if manifest not in self.manifests(image):
                write_atomic(f"{directory}/pushed.json", manifest)
            self._add_origin(directory, origin)

    def tag(self, image: Image, name: str, key: str = "", bases: Mapping[str, str] = _NO_BASES) -> Image:
        """Give an image that is there another name."""
        with self.locked():
            self._read_config(image.id, image.name)
            record = self._name(name, image.id, key, bases)
        return self.image(record)

    def untag(self, name: str) -> None:
        """Take the name away; the image goes with its last name, its layers with collect()."""
        with self.locked():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name_path(name))
            fsync_directory(self.names_dir)

    def _name(self, name: str, identity: str, key: str, bases: Mapping[str, str]) -> dict[str, Any]:
        if not name or name.startswith("sha256:"):
            raise StoreError(f"{name!r} can't be an image's name; it would be taken for an id")
        path, created = self._name_path(name), ""
        with contextlib.suppress(StoreError):
            before = _named(path)
            if before and before["id"] == identity:
                if (before["key"], before.get("bases", {})) == (key, bases):
                    return before
                created = before["created"]
        record: dict[str, Any] = {"name": name, "id": identity, "key": key, "created": created or _now()}
        if bases:
            record["bases"] = dict(bases)
        write_atomic(path, json.dumps(record).encode())
        return record

    # housekeeping
    def drop_layers(self, diff_ids: Collection[str]) -> None:
        """Whatever names them: images that have one are not whole until it is there again."""
        with self.locked():
            housekeeping.remove(self, housekeeping.Unused([], list(map(hexes, diff_ids)), [], []))

    def unused(
        self, *, keep_cache: bool = True, keep: Collection[str] = (), without: Collection[str] = ()
    ) -> housekeeping.Unused:
        """What no name leads to; with ``keep_cache`` a build step's layer is kept for the next build.

        ``keep`` are digests of images that containers were made from, and of layers that are below them, whatever
        became of the names; ``without`` are names that count as gone.
        """
        return housekeeping.unused(self, keep_cache=keep_cache, keep=keep, without=without)

    def collect(self, *, keep_cache: bool = True, keep: Collection[str] = ()) -> int:
        """Remove what unused() names, and what killed processes left; the bytes that it freed."""
        if not os.path.isdir(self.layers):
            return 0
        with self.locked():
            housekeeping.sweep(self)
            freed = housekeeping.remove(self, self.unused(keep_cache=keep_cache, keep=keep))
            self._remove_directories()
        return freed

    def sweep(self) -> None:
        """Remove what killed processes left."""
        if os.path.isdir(self.layers):
            with self.locked():
                housekeeping.sweep(self)
                self._remove_directories()

    def _remove_directories(self) -> None:
        """Those that nothing is in any more; who waits for the lock makes them anew."""
        caches = f"{self.layers}/{housekeeping.CACHES}"
        for path in (self.names_dir, self.images_dir, self.keys_dir, caches, self.layers, self.paths.state):
            with contextlib.suppress(OSError):
                os.rmdir(path)

    # reading
    def records(self) -> Iterator[dict[str, Any]]:
        for name in listdir(self.names_dir):
            if name.endswith(".json"):
                record = _named(f"{self.names_dir}/{name}")
                if record is not None:
                    yield record

    def _name_path(self, name: str) -> str:
        quoted = urllib.parse.quote(name, safe="@")
        if len(quoted) > _FILE_NAME_MAX:
            quoted = f"{quoted[:40]}.{hashlib.sha256(name.encode()).hexdigest()}"
        return f"{self.names_dir}/{quoted}.json"

    def _image_path(self, identity: str) -> str:
        return f"{self.images_dir}/{hexes(identity)}"

    def _read_config(self, identity: str, name: str) -> bytes:
        try:
            with open(f"{self._image_path(identity)}/config.json", "rb") as file:
                return file.read()
        except FileNotFoundError:
            hint = "make it again with force"
            raise StoreError(f"image {name}: its configuration {identity} is missing", hint=hint) from None

    def image(self, record: dict[str, Any]) -> Image:
        name, identity = record["name"], record["id"]
        config = parse(self._read_config(identity, name), f"{self._image_path(identity)}/config.json")
        layers = diff_ids(config, name)
        created = str(config.get("created") or record.get("created", ""))
        more = (created, record.get("key", ""), bases_of(record))
        return Image(name, identity, layers, config.get("config") or {}, *more)


def is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, f"{OVERLAY}opaque") == b"y"
    except OSError:
        return False


def _named(path: str) -> Optional[dict[str, Any]]:
    """A name's record."""
    record = load(path)
    if record is not None and not all(isinstance(record.get(key), str) for key in ("name", "id", "key", "created")):
        raise damaged(path)
    return record


def _now() -> str:
    """As RFC 3339 has it."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _make(*paths: str) -> None:
    """Only root may pass the top: a layer may hold set-uid programs."""
    for path in paths:
        make_directories(path, 0o700)
