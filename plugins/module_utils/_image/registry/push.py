# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image from the store into a registry. What the registry has is not sent. An image that came from a registry keeps
its manifest, and so its digest, where all of its blobs are there.
"""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from functools import partial
from typing import IO, Any, Callable, NamedTuple

from ..._errors import NetworkError, RegistryError, StoreError
from .. import diff, manifest, pack
from ..manifest import Descriptor
from ..progress import QUIET, Progress
from ..record import canonical, digest_of, hexes
from ..reference import Reference
from ..store import Image, Store, Work
from . import parallel
from .client import Client
from .endpoint import Endpoint, endpoints, repository
from .session import RETRIED, back_off

_GZIP = 31  # zlib: the largest window, with a gzip header; it has neither time nor name
_CHILDREN_MAX = 3
# Repositories that are asked for a blob that the one pushed to lacks.
_NEIGHBOURS_MAX = 4
_PLAIN = len(manifest.LAYER_TYPES) // 2
# docker's kinds of layers, as OCI has them.
_OCI_TYPES = dict(zip(manifest.LAYER_TYPES[_PLAIN:], manifest.LAYER_TYPES[:_PLAIN]))


class Pushed(NamedTuple):
    """``digest`` is what the name leads to now; ``changed`` is false when it led to the image before."""

    digest: str
    changed: bool


class _How(NamedTuple):
    """What is the same for all blobs of a push."""

    client: Client
    endpoint: Endpoint
    progress: Progress


class _Sent(NamedTuple):
    """A layer that the registry has; ``diff_id`` is what its blob unpacks to."""

    diff_id: str
    blob: Descriptor


class _Known(NamedTuple):
    """The blobs by which registries know a layer, and the repositories of this one that were given it."""

    blobs: list[_Sent]
    neighbours: list[str]


def push(store: Store, image: Image, reference: Reference, client: Client, *, progress: Progress = QUIET) -> Pushed:
    """See to it that the reference, which has a tag, leads to the image. Mirrors are not asked."""
    present = there(reference, client)
    if present and is_image(store, image, present, reference, client):
        return Pushed(present, False)
    endpoint = endpoints(reference)[-1]
    how = _How(client, endpoint, progress)
    with store.work() as work:
        layers = _layers(work, how, image)
        data, media_type = _manifest(store, how, image, layers)
        digest = client.put_manifest(endpoint, reference.tag, data, media_type)
        origin = {"repository": repository(reference), "digest": digest, "manifest": digest}
        store.add_origin(image, origin, data)
    return Pushed(digest, True)


def there(reference: Reference, client: Client) -> str:
    """The digest of what the reference leads to; empty when that is nothing. Mirrors are not asked."""
    try:
        return client.digest_at(endpoints(reference)[-1], reference.tag)
    except RegistryError as error:
        if error.status == 404:
            return ""
        raise


def is_image(store: Store, image: Image, digest: str, reference: Reference, client: Client) -> bool:
    """Is the image what has that digest there?"""
    name = repository(reference)
    if any((name, digest) == (one["repository"], one["digest"]) for one in store.origins(image)):
        return True
    config = manifest.parse(client.manifest_at(endpoints(reference)[-1], digest).data, str(reference)).get("config")
    ours = (image.id, digest_of(_config(store, image, [store.packed(diff_id) for diff_id in image.layers])))
    return isinstance(config, dict) and config.get("digest") in ours


def _neighbours(store: Store, image: Image, endpoint: Endpoint) -> list[str]:
    """Repositories of the same registry that were given the image, the latest first."""
    names = [one["repository"].partition("/") for one in store.origins(image)[::-1]]
    found = [path for domain, dummy, path in names if domain == endpoint.domain and path != endpoint.repository]
    return list(dict.fromkeys(found))


def _layers(work: Work, how: _How, image: Image) -> list[_Sent]:
    for diff_id in image.layers:
        if not work.pin(diff_id):
            raise StoreError(f"image {image.name}: its layer {diff_id} is not in the store")
    known = _known(work.store, image, how.endpoint)
    jobs = [
        parallel.Job(f"layer {diff_id}", partial(_layer, work, how, diff_id, found)) for diff_id, found in known.items()
    ]
    given = parallel.run(jobs, _CHILDREN_MAX)
    sent = {diff_id: _Sent(packed, Descriptor(*blob)) for diff_id, (packed, blob) in zip(known, given)}
    return [sent[diff_id] for diff_id in image.layers]


def _known(store: Store, image: Image, endpoint: Endpoint) -> dict[str, _Known]:
    """Of each layer, what was learned when this image, or another one over the same layer, was pulled or pushed."""
    known = {diff_id: _Known([], []) for diff_id in image.layers}
    for relative in _relatives(store, image):
        neighbours = _neighbours(store, relative, endpoint)
        for diff_id, blobs in _blobs(store, relative).items():
            if diff_id in known:
                have = known[diff_id]
                have.blobs.extend(sent for sent in blobs if sent not in have.blobs)
                have.neighbours.extend(path for path in neighbours if path not in have.neighbours)
    return known


def _relatives(store: Store, image: Image) -> list[Image]:
    """The image, then the others of the store that share a layer with it."""
    found = {image.id: image}
    for record in store.records():
        with contextlib.suppress(StoreError):  # a damaged one is no reason not to push this one
            other = store.image(record)
            if not set(other.layers).isdisjoint(image.layers):
                found.setdefault(other.id, other)
    return list(found.values())


def _blobs(store: Store, image: Image) -> dict[str, list[_Sent]]:
    """For each layer the blobs by which registries know it, as the image came and as we pack it."""
    known: dict[str, list[_Sent]] = {diff_id: [] for diff_id in image.layers}
    packed = [store.packed(diff_id) for diff_id in image.layers]
    names = {image.id: list(image.layers), digest_of(_config(store, image, packed)): packed}
    for data in store.manifests(image):
        config, blobs = manifest.image(manifest.parse(data, image.name), image.name)
        for diff_id, content, blob in zip(image.layers, names.get(config.digest, []), blobs):
            known[diff_id].append(_Sent(content, blob))
    return known


def _layer(work: Work, how: _How, diff_id: str, known: _Known) -> _Sent:
    """In a child: a blob that is known is asked for; where none is there, it is made."""
    for sent in known.blobs:
        if _is_there(how, sent.blob, known.neighbours):
            how.progress.say(diff_id, "exists")
            return sent
    path = f"{work.path}/{hexes(diff_id)}.gz"
    made = _compress(work.store, diff_id, path)
    if _is_there(how, made.blob, known.neighbours):
        how.progress.say(diff_id, "exists")
    else:
        _upload(how, made.blob, partial(_file, path), diff_id)
        how.progress.say(diff_id, "pushed")
    os.unlink(path)
    return made


def _is_there(how: _How, blob: Descriptor, neighbours: list[str]) -> bool:
    if how.client.has_blob(how.endpoint, blob.digest):
        return True
    return any(how.client.mount(how.endpoint, blob.digest, source) for source in neighbours[:_NEIGHBOURS_MAX])


def _compress(store: Store, diff_id: str, path: str) -> _Sent:
    """A file, for a blob's digest must be known before it is sent, and it may be sent twice. The same layer gives the
    same bytes."""
    with open(path, "wb") as file:
        packed = pack.Digesting(file)
        out = _Gzip(packed)
        content, dummy = diff.write(store, diff_id, out)
        out.finish()
    return _Sent(content, Descriptor(manifest.LAYER_GZIP, packed.digest(), packed.length))


class _Gzip:
    def __init__(self, out: pack.Writable) -> None:
        self._out = out
        self._zlib = zlib.compressobj(wbits=_GZIP)

    def write(self, data: bytes) -> None:
        self._out.write(self._zlib.compress(data))

    def finish(self) -> None:
        self._out.write(self._zlib.flush())


def _upload(how: _How, blob: Descriptor, open_body: Callable[[], IO[bytes]], what: str) -> None:
    """From the beginning again where it broke."""
    attempt = 1
    while True:
        try:
            with open_body() as file:
                body = _Counted(file, lambda done: how.progress.blob(what, done, blob.size))
                return how.client.upload(how.endpoint, blob.digest, blob.size, body)
        except NetworkError as error:
            if not how.client.worth(error, attempt):
                raise
        except RegistryError as error:
            # A token that ended while the body was sent has been changed for another.
            if error.status not in (*RETRIED, *((401,) if attempt == 1 else ())) or not how.client.left(attempt):
                raise
        how.client.pause(back_off(attempt))
        attempt += 1


def _file(path: str) -> IO[bytes]:
    return open(path, "rb")


class _Counted:
    def __init__(self, file: IO[bytes], tell: Callable[[int], None]) -> None:
        self._file = file
        self._tell = tell

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._tell(self._file.tell())
        return data


def _manifest(store: Store, how: _How, image: Image, layers: list[_Sent]) -> tuple[bytes, str]:
    """(the manifest, its media type), when all that it names is there: its own where that says the same."""
    config = _config(store, image, [layer.diff_id for layer in layers])
    blob = Descriptor(manifest.CONFIG, digest_of(config), len(config))
    if not _is_there(how, blob, _neighbours(store, image, how.endpoint)):
        _upload(how, blob, partial(io.BytesIO, config), blob.digest)
    for data in store.manifests(image):
        value = manifest.parse(data, image.name)
        kept = manifest.image(value, image.name)
        if (kept.config.digest, [one.digest for one in kept.layers]) == (
            blob.digest,
            [one.blob.digest for one in layers],
        ):
            return data, str(value.get("mediaType") or manifest.MANIFEST)
    described = [_described(layer.blob) for layer in layers]
    value = {"schemaVersion": 2, "mediaType": manifest.MANIFEST, "config": _described(blob), "layers": described}
    return canonical(value), manifest.MANIFEST


def _described(blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": _OCI_TYPES.get(blob.media_type, blob.media_type), "digest": blob.digest, "size": blob.size}


def _config(store: Store, image: Image, packed: list[str]) -> bytes:
    """As it is stored; where layers that others packed are packed anew, with their new diff_ids."""
    if packed == list(image.layers):
        return store.configuration(image)
    value = store.raw(image)
    return canonical({**value, "rootfs": {**value["rootfs"], "diff_ids": packed}})
