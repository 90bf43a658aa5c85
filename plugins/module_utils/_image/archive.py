# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images out of tars into the store, and back: docker-save's form is read, the OCI image layout read and written."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from functools import partial
from typing import Any

from .._errors import KernelError, StoreError
from .._kernel.file import fsync_directory
from . import layer, pack
from .apply import apply
from .layout import Archive
from .manifest import checked_config
from .record import canonical
from .store import Image, Store

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def load(
    store: Store, path: str, name: str, wanted: str = "", *, limit: int = 0, devices: str = layer.REFUSE, key: str = ""
) -> Image:
    """Store the archive's image under ``name``; ``wanted`` chooses among several by the name that they have there.

    ``limit`` is the most bytes that a layer may unpack to, 0 for any number.
    """
    with store.work() as work:
        archive = Archive(path, work.path)
        try:
            found = archive.find(wanted, name)
            wanted_layers = checked_config(found.config, len(found.layers), path)
            for blob, diff_id in zip(found.layers, wanted_layers):
                where = f"{path}: {blob.member}"
                apply(work, diff_id, partial(archive.layer, blob), where, limit=limit, devices=devices)
            return store.put(name, found.config, key, manifest=found.manifest)
        finally:
            archive.close()


def save(store: Store, image: Image, path: str) -> None:
    """Write the image as an OCI layout in a tar; the same image gives the same bytes.

    Layers are packed anew. Those that came from elsewhere were packed by others, and get other digests by it: then
    the configuration says the new ones, and the saved image has another id.
    """
    new = f"{path}.{os.getpid()}.new"
    try:
        with store.work() as work, open(new, "wb") as out:
            for diff_id in image.layers:
                if not work.pin(diff_id):
                    raise StoreError(f"image {image.name}: its layer {diff_id} is not in the store")
            _write(_Layout(out), store, image)
            out.flush()
            os.fsync(out.fileno())
        os.rename(new, path)
        fsync_directory(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise KernelError("save", path, error.errno or 0) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)


def _write(layout: _Layout, store: Store, image: Image) -> None:
    layout.file("oci-layout", _LAYOUT)
    layers = [layout.layer(store.layer_path(diff_id)) for diff_id in image.layers]
    config, packed = store.configuration(image), [item["digest"] for item in layers]
    if packed != list(image.layers):
        value = store.raw(image)
        config = canonical({**value, "rootfs": {**value["rootfs"], "diff_ids": packed}})
    manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": _MANIFEST}
    manifest.update(config=layout.blob(config, _CONFIG), layers=layers)
    descriptor = layout.blob(canonical(manifest), _MANIFEST)
    if image.name:
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": image.name}
    layout.file("index.json", canonical({"schemaVersion": 2, "manifests": [descriptor]}))
    layout.end()


class _Layout:
    """The tar that is written: no entry in it has a time or an owner."""

    def __init__(self, out: io.BufferedWriter) -> None:
        self.out = out
        self.written: set[str] = set()

    def file(self, name: str, data: bytes) -> None:
        self.out.write(pack.header(name.encode(), None, b"0", size=len(data)) + data + bytes(-len(data) % 512))

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        hexes = hashlib.sha256(data).hexdigest()
        self.file(f"blobs/sha256/{hexes}", data)
        return {"mediaType": media_type, "digest": f"sha256:{hexes}", "size": len(data)}

    def layer(self, directory: str) -> dict[str, Any]:
        """Its digest is known when it is written, and so is its header, for which room was left."""
        start = self.out.tell()
        self.out.write(bytes(len(_layer_header("0" * 64, 0))))
        stream = pack.Digesting(self.out)
        pack.pack(directory, stream)
        end = self.out.tell()
        hexes = stream.digest().partition(":")[2]
        self.out.seek(start)
        if hexes in self.written:
            self.out.truncate()  # the same layer twice is one blob
        else:
            self.written.add(hexes)
            self.out.write(_layer_header(hexes, stream.length))
            self.out.seek(end)
        return {"mediaType": _LAYER, "digest": stream.digest(), "size": stream.length}

    def end(self) -> None:
        self.out.write(bytes(1024))


def _layer_header(hexes: str, size: int) -> bytes:
    """As long for any size: in PAX's words always, for 8 GiB are too much for ustar's."""
    records = {b"size": b"%d" % size}
    return pack.header(f"blobs/sha256/{hexes}".encode(), None, b"0", size=size, records=records)
