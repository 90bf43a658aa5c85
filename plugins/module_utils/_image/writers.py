# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What images are written into, form by form. Nothing in it depends on when, or where to, it was written."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable
from typing import Any, Optional, Protocol

from .._errors import OptionError
from .._kernel.file import write_atomic
from . import diff, pack, reference
from .compress import Gzip
from .layout import REF_NAMES, Blob, Layout, ref_names
from .manifest import CONFIG, LAYER, LAYER_GZIP, MANIFEST, descriptors, json_of
from .pack import Digesting, Writable
from .record import canonical
from .store import Store

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
Fill = Callable[[Writable], None]


class Place(Protocol):
    """Where files are put."""

    def file(self, name: str, data: bytes) -> None: ...

    def stream(self, name: Callable[[str], str], fill: Fill) -> Digesting:
        """A file of what ``fill`` writes, whose name is made of its digest's hexadecimal digits."""


class Tar:
    """A tar; no entry in it has a time or an owner."""

    def __init__(self, out: io.BufferedWriter) -> None:
        self._out = out
        self._written: set[str] = set()

    def file(self, name: str, data: bytes) -> None:
        self._out.write(pack.header(name.encode(), None, b"0", size=len(data)) + data + bytes(-len(data) % 512))

    def stream(self, name: Callable[[str], str], fill: Fill) -> Digesting:
        """Name and size are known when it is written, and so is its header, for which room is left."""
        start = self._out.tell()
        self._out.write(bytes(len(_header(name("0" * 64), 0))))
        stream = Digesting(self._out)
        fill(stream)
        self._out.write(bytes(-stream.length % 512))
        end, path = self._out.tell(), name(stream.digest().partition(":")[2])
        self._out.seek(start)
        if path in self._written:
            self._out.truncate()  # the same content twice is one file
        else:
            self._written.add(path)
            self._out.write(_header(path, stream.length))
            self._out.seek(end)
        return stream

    def end(self) -> None:
        self._out.write(bytes(1024))


def _header(name: str, size: int) -> bytes:
    """As long for any size: in PAX's words always, for 8 GiB are too much for ustar's."""
    return pack.header(name.encode(), None, b"0", size=size, records={b"size": b"%d" % size})


class Folder:
    """A directory; ``added`` are the files that were not there before."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.added: list[str] = []
        os.makedirs(f"{path}/blobs/sha256", exist_ok=True)

    def file(self, name: str, data: bytes) -> None:
        path = f"{self._path}/{name}"
        if not os.path.exists(path):
            self.added.append(path)
        write_atomic(path, data, durable=False)

    def stream(self, name: Callable[[str], str], fill: Fill) -> Digesting:
        new = f"{self._path}/blobs/{os.getpid()}.new"
        try:
            with open(new, "wb") as out:
                stream = Digesting(out)
                fill(stream)
            path = f"{self._path}/{name(stream.digest().partition(':')[2])}"
            if not os.path.exists(path):
                self.added.append(path)
            os.rename(new, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
        return stream


class Oci:
    """The OCI image layout (image-spec, image-layout.md); ``into`` is one that is there, to which the image comes."""

    def __init__(self, place: Place, *, gzip: bool = False, into: Optional[Layout] = None) -> None:
        self._place = place
        self._gzip = gzip
        self._into = into
        self._layers: dict[str, dict[str, Any]] = {}
        if into is None:
            place.file("oci-layout", LAYOUT)

    def image(self, store: Store, layers: list[str], config: bytes, name: str) -> None:
        found = [self._layer(store, diff_id) for diff_id in layers]
        manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST}
        manifest.update(config=self._blob(config, CONFIG), layers=found)
        descriptor = self._blob(canonical(manifest), MANIFEST)
        if name:
            descriptor["annotations"] = {REF_NAMES[0]: name}
        self._place.file("index.json", canonical(self._index(descriptor, name)))

    def _layer(self, store: Store, diff_id: str) -> dict[str, Any]:
        if diff_id not in self._layers:
            kind = LAYER_GZIP if self._gzip else LAYER
            stream = self._place.stream(_blob_path, lambda out: self._fill(store, diff_id, out))
            self._layers[diff_id] = {"mediaType": kind, "digest": stream.digest(), "size": stream.length}
        return self._layers[diff_id]

    def _fill(self, store: Store, diff_id: str, out: Writable) -> None:
        if not self._gzip:
            diff.write(store, diff_id, out)
            return
        packed = Gzip(out)
        diff.write(store, diff_id, packed)
        packed.finish()

    def _blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        self._place.file(_blob_path(digest), data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def _index(self, descriptor: dict[str, Any], name: str) -> dict[str, Any]:
        """What has the name goes, and an image without one does not come twice."""
        if self._into is None:
            return {"schemaVersion": 2, "manifests": [descriptor]}
        where = f"{self._into.path}: index.json"
        index = json_of(self._into.read(Blob("index.json")), where)
        entries = descriptors(index, "manifests", where)
        kept = [entry for entry in entries if name not in ref_names(entry)] if name else entries
        kept = [entry for entry in kept if entry != descriptor]
        return {**index, "manifests": [*kept, descriptor]}


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{digest}"


class Docker:
    """docker save's form, as docker load, podman load and skopeo read it. Layers are not compressed in it."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def image(self, store: Store, layers: list[str], config: bytes, name: str) -> None:
        paths = {diff_id: self._layer(store, diff_id) for diff_id in dict.fromkeys(layers)}
        file = f"{hashlib.sha256(config).hexdigest()}.json"
        self._place.file(file, config)
        entry = {"Config": file, "RepoTags": _tags(name), "Layers": [paths[diff_id] for diff_id in layers]}
        self._place.file("manifest.json", canonical([entry]))

    def _layer(self, store: Store, diff_id: str) -> str:
        def fill(out: Writable) -> None:
            diff.write(store, diff_id, out)

        return _layer_path(self._place.stream(_layer_path, fill).digest().partition(":")[2])


def _layer_path(digest: str) -> str:
    return f"{digest}/layer.tar"


def _tags(name: str) -> list[str]:
    """docker takes tags there, and no digests."""
    with contextlib.suppress(OptionError):
        found = reference.parse(name, "")
        return [f"{found.name}:{found.tag}"] if found.tag else []
    return []
