# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What images lie in: docker-save's form and the OCI image layout (image-spec, image-layout.md).

Nothing that one says of itself is believed: each blob is verified by its digest, each shape is looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Optional

from .._errors import OptionError, StoreError
from . import manifest, reference
from .compress import decompressed
from .manifest import DEPTH_MAX, JSON_MAX
from .progress import QUIET, Progress, Told
from .record import hexes
from .tarstream import Hashed

REF_NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")


@dataclass(frozen=True)
class Blob:
    """A file in it; ``digest`` and ``size`` are what it must have, where somebody said."""

    member: str
    digest: str = ""
    size: int = -1


@dataclass(frozen=True)
class Found:
    """An image in it: its configuration and manifest as bytes, its layers base first."""

    config: bytes
    layers: tuple[Blob, ...]
    manifest: Optional[bytes] = None


class Layout:
    """Files by name, of which each can be read at any time; Archive and Directory say how."""

    def __init__(self, path: str, progress: Progress = QUIET) -> None:
        self.path = path
        self.progress = progress

    def close(self) -> None:
        raise NotImplementedError

    def __contains__(self, name: str) -> bool:
        raise NotImplementedError

    def open(self, name: str) -> IO[bytes]:
        """StoreError where there is no such file, or where it would be one outside."""
        raise NotImplementedError

    def read(self, blob: Blob) -> bytes:
        """A small blob, verified."""
        with self.open(blob.member) as stream:
            data = stream.read(JSON_MAX + 1)
        if len(data) > JSON_MAX:
            raise StoreError(f"{self.path}: {blob.member} has more than {JSON_MAX} bytes")
        self.verify(blob, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        return data

    def verify(self, blob: Blob, digest: str, size: int) -> None:
        if blob.digest and digest != blob.digest:
            raise StoreError(f"{self.path}: {blob.member} has the digest {digest}, and it should have {blob.digest}")
        if blob.size not in (-1, size):
            raise StoreError(f"{self.path}: {blob.member} has {size} bytes, and it should have {blob.size}")

    @contextlib.contextmanager
    def layer(self, blob: Blob, name: str = "") -> Iterator[Any]:
        """Its uncompressed stream; what was read is verified at the end. It is told of by the name."""
        with self.open(blob.member) as stream:
            total = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            source = Hashed(Told(stream, self.progress, name or blob.member, total))
            with contextlib.ExitStack() as inner:
                yield inner.enter_context(decompressed(source, f"{self.path}: {blob.member}"))
            source.drain()
            self.verify(blob, source.digest(), source.length)

    def find(self, wanted: str, name: str) -> Found:
        """The image named ``wanted`` there; without a word, the only one, or the one named ``name``."""
        if "manifest.json" in self:
            return self._docker(wanted, name)
        if "index.json" in self:
            return self._oci(wanted, name)
        hint = "it has neither docker-save's manifest.json nor OCI's index.json; a root file system is source: rootfs"
        raise StoreError(f"{self.path} is no image", hint=hint)

    def holds_images(self) -> bool:
        """Is it one of images, whichever, and no other that has a file of such a name?"""
        if "manifest.json" in self:
            value = manifest.json_of(self.read(Blob("manifest.json")), f"{self.path}: manifest.json")
            return isinstance(value, list) and all(isinstance(one, dict) and "Layers" in one for one in value)
        return "index.json" in self and "oci-layout" in self

    # docker-save
    def _docker(self, wanted: str, name: str) -> Found:
        where = f"{self.path}: manifest.json"
        entries = manifest.list_of(manifest.json_of(self.read(Blob("manifest.json")), where), where)
        entry = self._choose([(self._tags(entry), entry) for entry in entries], wanted, name)
        config, layers = entry.get("Config"), manifest.list_of(entry.get("Layers"), f"{where}: Layers", str)
        if not isinstance(config, str):
            raise StoreError(f"{self.path}: manifest.json names no Config")
        stem = posixpath.basename(config).partition(".")[0]
        digest = f"sha256:{stem}" if len(stem) == 64 else ""
        members = [posixpath.normpath(layer) for layer in layers]
        return Found(self.read(Blob(posixpath.normpath(config), digest)), tuple(map(Blob, members)))

    def _tags(self, entry: dict[str, Any]) -> list[str]:
        return manifest.list_of(entry.get("RepoTags") or [], f"{self.path}: manifest.json: RepoTags", str)

    # OCI image layout
    def named(self, wanted: str, name: str) -> dict[str, Any]:
        """The descriptor of the image named so, as index.json has it."""
        index = manifest.json_of(self.read(Blob("index.json")), f"{self.path}: index.json")
        entries = manifest.descriptors(index, "manifests", self.path)
        entries = [entry for entry in entries if not manifest.is_attestation(entry)]
        found: dict[str, Any] = self._choose([(ref_names(entry), entry) for entry in entries], wanted, name)
        return found

    def _oci(self, wanted: str, name: str) -> Found:
        entry = self.named(wanted, name)
        for dummy in range(DEPTH_MAX):
            data = self.read(self._blob(manifest.descriptor(entry, self.path)))
            value = manifest.parse(data, f"{self.path}: {entry['digest']}")
            if not manifest.is_index(value):
                return self._image(data, value)
            entries = manifest.descriptors(value, "manifests", self.path)
            entry = manifest.choose(entries, manifest.host_platform(), self.path)
        raise StoreError(f"{self.path}: its indexes lead to indexes, and to no image")

    def _image(self, data: bytes, value: dict[str, Any]) -> Found:
        config, layers = manifest.image(value, self.path)
        return Found(self.read(self._blob(config)), tuple(map(self._blob, layers)), data)

    @staticmethod
    def _blob(descriptor: manifest.Descriptor) -> Blob:
        return Blob(f"blobs/sha256/{hexes(descriptor.digest)}", descriptor.digest, descriptor.size)

    def _choose(self, entries: list[tuple[list[str], Any]], wanted: str, name: str) -> Any:
        if not wanted and len(entries) == 1:
            return entries[0][1]
        for names, entry in entries:
            if any(_is_named(found, wanted or name) for found in names):
                return entry
        names = sorted(found for names, dummy in entries for found in names)
        hint = f"choose with archive_name: {', '.join(names) or 'it names none'}"
        raise StoreError(f"{self.path} has {f'no image {wanted}' if wanted else f'{len(entries)} images'}", hint=hint)


def ref_names(entry: dict[str, Any]) -> list[str]:
    annotations = entry.get("annotations")
    found = [annotations.get(key) for key in REF_NAMES] if isinstance(annotations, dict) else []
    return [name for name in found if isinstance(name, str)]


def _is_named(found: str, wanted: str) -> bool:
    """A layout may have the whole name, or its tag alone."""
    if found == wanted or reference.same(found, wanted):
        return True
    try:
        return found == reference.parse(wanted, "").tag
    except OptionError:
        return False
