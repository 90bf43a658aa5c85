# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in a tar: docker-save's form and the OCI image layout (image-spec, image-layout.md)."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from .._errors import KernelError, StoreError
from . import layer
from .config import architecture
from .store import Image, Store

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_JSON_MAX = 4 << 20


class Archive:
    """The tar, opened for reading its members in any order."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.tar = tarfile.open(path, mode="r:*")  # noqa: SIM115 - closed by close()
        except FileNotFoundError as error:
            raise KernelError("open", path, error.errno or 0) from None
        except (tarfile.TarError, EOFError, OSError) as error:
            raise StoreError(f"{path} is not a tar archive: {error}") from None
        self.members = {
            member.name.removeprefix("./"): member
            for member in self.tar
            if member.isreg() or member.islnk() or member.issym()
        }

    def close(self) -> None:
        self.tar.close()

    def open(self, name: str) -> IO[bytes]:
        member = self.members.get(name)
        # docker links layers that are the same
        stream = self.tar.extractfile(member) if member is not None else None
        if stream is None:
            raise StoreError(f"{self.path} lacks {name}, which its manifest names")
        return stream

    def json(self, name: str) -> Any:
        data = self.open(name).read(_JSON_MAX)
        try:
            return json.loads(data)
        except ValueError as error:
            raise StoreError(f"{self.path}: {name} is not JSON: {error}") from None

    def blob(self, descriptor: dict[str, Any]) -> Any:
        """A JSON blob of an OCI layout, verified."""
        algorithm, _, hexes = str(descriptor.get("digest")).partition(":")
        name = f"blobs/{algorithm}/{hexes}"
        data = self.open(name).read(_JSON_MAX)
        if algorithm != "sha256" or hashlib.sha256(data).hexdigest() != hexes:
            raise StoreError(f"{self.path}: {name} does not have the digest that it is named by")
        return json.loads(data)


def load(store: Store, path: str, name: str, wanted: str = "", *, limit: int = 0, key: str = "") -> Image:
    """Store the archive's image under ``name``; ``wanted`` chooses among several by the name that they have there."""
    archive = Archive(path)
    try:
        if "manifest.json" in archive.members:
            config, layers = _docker(archive, wanted)
        elif "index.json" in archive.members:
            config, layers = _oci(archive, wanted)
        else:
            raise StoreError(
                f"{path} is no image", hint="it has neither docker-save's manifest.json nor OCI's index.json"
            )
        return _store(store, archive, name, config, layers, limit, key)
    finally:
        archive.close()


def _docker(archive: Archive, wanted: str) -> tuple[dict[str, Any], list[str]]:
    entries = archive.json("manifest.json")
    names = {tag: entry for entry in entries for tag in entry.get("RepoTags") or []}
    entry = names.get(wanted) if wanted else entries[0] if len(entries) == 1 else None
    if entry is None:
        raise _ambiguous(archive, sorted(names), wanted)
    return archive.json(entry["Config"]), list(entry["Layers"])


def _oci(archive: Archive, wanted: str) -> tuple[dict[str, Any], list[str]]:
    entries = archive.json("index.json").get("manifests") or []
    label = "org.opencontainers.image.ref.name"
    names = {(entry.get("annotations") or {}).get(label, ""): entry for entry in entries}
    entry = names.get(wanted) if wanted else entries[0] if len(entries) == 1 else None
    if entry is None:
        raise _ambiguous(archive, sorted(filter(None, names)), wanted)
    manifest = archive.blob(entry)
    if "manifests" in manifest:
        manifest = archive.blob(_platform(archive, manifest["manifests"]))
    layers = [f"blobs/{item['digest'].replace(':', '/')}" for item in manifest["layers"]]
    return archive.blob(manifest["config"]), layers


def _platform(archive: Archive, entries: list[dict[str, Any]]) -> dict[str, Any]:
    have = [entry.get("platform") or {} for entry in entries]
    for entry, platform in zip(entries, have):
        if platform.get("os") == "linux" and platform.get("architecture") == architecture():
            return entry
    offered = ", ".join(sorted(f"{p.get('os')}/{p.get('architecture')}" for p in have))
    raise StoreError(f"{archive.path} has no image for linux/{architecture()}", hint=f"it has {offered}")


def _ambiguous(archive: Archive, names: list[str], wanted: str) -> StoreError:
    problem = f"has no image {wanted}" if wanted else "has several images"
    return StoreError(
        f"{archive.path} {problem}", hint=f"choose with archive_name: {', '.join(names) or 'it names none'}"
    )


def _store(
    store: Store, archive: Archive, name: str, config: dict[str, Any], layers: list[str], limit: int, key: str
) -> Image:
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(diff_ids) != len(layers):
        raise StoreError(f"{archive.path}: the manifest has {len(layers)} layers and the configuration {len(diff_ids)}")
    if config.get("architecture") not in (architecture(), None):
        raise StoreError(f"{archive.path} is for {config['architecture']}, and this host is {architecture()}")
    for member, diff_id in zip(layers, diff_ids):
        if not store.has_layer(diff_id):
            _unpack(store, archive, member, diff_id, limit)
    return store.put(name, config, key)


def _unpack(store: Store, archive: Archive, member: str, diff_id: str, limit: int) -> None:
    from .._kernel.file import remove_tree

    directory = store.temporary()
    try:
        with decompressed(archive.open(member), f"{archive.path}: {member}") as stream:
            found, size = layer.unpack(stream, directory, limit=limit)
        if found != diff_id:
            raise StoreError(f"{archive.path}: {member} has the digest {found}, and its configuration says {diff_id}")
        store.adopt_layer(directory, diff_id, size)
    except BaseException:
        remove_tree(directory)
        raise


@contextmanager
def decompressed(stream: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    """gzip or nothing, told by the first bytes: media types are often wrong."""
    magic = stream.read(4)
    stream.seek(0)
    if magic.startswith(_ZSTD):
        raise StoreError(f"{name} is compressed with zstd, which is not supported yet", hint="save it with gzip")
    if not magic.startswith(_GZIP):
        yield stream
        return
    try:
        with gzip.GzipFile(fileobj=stream) as plain:
            yield plain  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise StoreError(f"{name} is damaged: {error}") from None


def save(store: Store, image: Image, path: str) -> None:
    """Write the image as an OCI layout; the same image gives the same bytes."""
    with tarfile.open(f"{path}.new", "w") as out:
        config = json.dumps(store.raw(image), sort_keys=True, separators=(",", ":")).encode()
        layers = [_add_layer(out, store.layer_path(diff_id), diff_id) for diff_id in image.layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _add_blob(out, config, "application/vnd.oci.image.config.v1+json"),
            "layers": layers,
        }
        descriptor = _add_blob(out, json.dumps(manifest).encode(), manifest["mediaType"])
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": image.name}
        _add(out, "index.json", json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode())
        _add(out, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    os.rename(f"{path}.new", path)


def _add_layer(out: tarfile.TarFile, directory: str, diff_id: str) -> dict[str, Any]:
    import tempfile

    with tempfile.TemporaryFile() as file:
        layer.pack(directory, file)
        member = tarfile.TarInfo(f"blobs/{diff_id.replace(':', '/')}")
        member.size = file.tell()
        file.seek(0)
        out.addfile(member, file)
        return {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id, "size": member.size}


def _add_blob(out: tarfile.TarFile, data: bytes, media_type: Any) -> dict[str, Any]:
    hexes = hashlib.sha256(data).hexdigest()
    _add(out, f"blobs/sha256/{hexes}", data)
    return {"mediaType": media_type, "digest": f"sha256:{hexes}", "size": len(data)}


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    import io

    member = tarfile.TarInfo(name)
    member.size = len(data)
    out.addfile(member, io.BytesIO(data))
