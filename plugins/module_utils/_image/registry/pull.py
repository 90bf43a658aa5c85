# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image from a registry into the store: layers in parallel, each a stream from the network to its files.

A layer that is finished stays when the pull is killed, for its blob is named in the store as a build step's layer is;
the next pull finds it, and takes the name away when an image has the layer.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple, Optional

from ..._errors import StoreError
from .. import layer, manifest
from ..apply import apply, is_there
from ..housekeeping import PULL
from ..manifest import Descriptor, Platform
from ..progress import QUIET, Progress
from ..record import digest_of, hexes
from ..reference import Reference
from ..store import Image, Store, Work
from . import parallel
from .blob import opened
from .client import Answer, Client
from .endpoint import Endpoint, endpoints, repository
from .signature import verify

# Each has pieces of a stream in memory, and all of them together stay below 100 MB.
_CHILDREN_MAX = 3


class Found(NamedTuple):
    """An image in a registry. ``digest`` is what the name leads to, an index's where it is one; ``answer`` holds the
    manifest; ``diff_ids`` and ``layers`` belong together."""

    digest: str
    answer: Answer
    config: bytes
    diff_ids: tuple[str, ...]
    layers: tuple[Descriptor, ...]


def resolve(reference: Reference, client: Client) -> str:
    """The digest that the name leads to now; one request, and nothing is fetched."""
    return client.digest(reference)


def is_current(store: Store, image: Image, reference: Reference, digest: str) -> bool:
    """Is the image what the reference leads to, if that has the digest?"""
    name = repository(reference)
    return any(one["repository"] == name and digest in (one["digest"], one["manifest"]) for one in store.origins(image))


def pull(
    store: Store,
    name: str,
    reference: Reference,
    client: Client,
    *,
    platform: str = "",
    limit: int = 0,
    devices: str = layer.REFUSE,
    below: Collection[str] = (),
    key: str = "",
    public_key: str = "",
    progress: Progress = QUIET,
) -> Image:
    """Store the image that the reference leads to under ``name``. What the store has is not fetched.

    ``platform`` is OS/ARCHITECTURE[/VARIANT], without it the host's; ``limit`` the most bytes that a layer may unpack
    to, 0 for any number; ``devices`` what becomes of device nodes in a layer, ``below`` the layers below containers.
    With ``public_key``, a path, what is not signed by that key is refused before a layer is fetched.
    """
    wanted = manifest.parse_platform(platform, "platform") if platform else None
    found = find(store, reference, client, wanted)
    if public_key:
        verify(reference, (found.digest, found.answer.digest), client, public_key)
    origin = {"repository": repository(reference), "digest": found.digest, "manifest": found.answer.digest}
    keys = [_key(diff_id) for diff_id in found.diff_ids]
    try:
        with store.work() as work:
            how = _How(reference, client, found.answer.endpoint, limit, devices, below, progress)
            missing = _missing(work, found, how)
            jobs = [
                parallel.Job(f"layer {descriptor.digest}", partial(_layer, work, how, diff_id, descriptor))
                for diff_id, descriptor in missing
            ]
            parallel.run(jobs, _CHILDREN_MAX)
            image = store.put(name, found.config, key, manifest=found.answer.data, origin=origin)
            store.drop_keys(keys)
            return image
    except BaseException:
        store.drop_keys([key for key in keys if not store.layer_for(key)])
        store.sweep()  # children that were ended left their locks
        raise


def find(store: Store, reference: Reference, client: Client, wanted: Optional[Platform] = None) -> Found:
    """The image's manifest and configuration, both verified."""
    where = str(reference)
    answer = client.manifest(reference)
    top = answer.digest
    for dummy in range(manifest.DEPTH_MAX):
        value = manifest.parse(answer.data, where)
        if not manifest.is_index(value):
            break
        entries = manifest.descriptors(value, "manifests", where)
        entry = manifest.choose(entries, wanted or manifest.host_platform(), where)
        answer = client.manifest_at(answer.endpoint, manifest.descriptor(entry, where).digest)
    else:
        raise StoreError(f"{where}: its indexes lead to indexes, and to no image")
    config, layers = manifest.image(value, where)
    data = _stored_config(store, config) or client.small_blob(answer.endpoint, config.digest, config.size)
    diff_ids = manifest.checked_config(data, len(layers), where, wanted)
    return Found(top, answer, data, diff_ids, layers)


def _stored_config(store: Store, config: Descriptor) -> bytes:
    """An image's id is its configuration's digest: one that is stored need not be fetched."""
    try:
        image = store.get(config.digest)
        data = store.configuration(image) if image else b""
    except StoreError:
        return b""  # damaged: it is fetched anew
    return data if digest_of(data) == config.digest else b""


def _missing(work: Work, found: Found, how: _How) -> list[tuple[str, Descriptor]]:
    """Layers to be fetched, each once, the largest first: what takes longest must not begin last."""
    missing: dict[str, Descriptor] = {}
    for diff_id, descriptor in zip(found.diff_ids, found.layers):
        if diff_id in missing:
            continue
        if is_there(work, diff_id, how.where(descriptor), how.devices, how.below):
            how.progress.say(diff_id, "exists")
        else:
            missing[diff_id] = descriptor
    return sorted(missing.items(), key=lambda item: -item[1].size)


class _How(NamedTuple):
    """What is the same for all layers of a pull."""

    reference: Reference
    client: Client
    endpoint: Endpoint
    limit: int
    devices: str
    below: Collection[str]
    progress: Progress

    def where(self, layer: Descriptor) -> str:
        """What an error begins with."""
        return f"{self.reference}: layer {layer.digest}"


def _layer(work: Work, how: _How, diff_id: str, descriptor: Descriptor) -> None:
    """In a child."""
    where = how.where(descriptor)
    others = [one for one in endpoints(how.reference, how.client.settings.mirrors) if one != how.endpoint]

    def tell(done: int) -> None:
        how.progress.blob(diff_id, done, descriptor.size)

    stream = partial(opened, how.client, [how.endpoint, *others], descriptor, where, tell)
    # Before the layer is there, for it may be there in the moment in which we are killed.
    work.store.set_key(_key(diff_id), diff_id)
    more: Any = {"limit": how.limit, "devices": how.devices, "below": how.below, "progress": how.progress}
    apply(work, diff_id, stream, where, **more)


def _key(diff_id: str) -> str:
    return f"{hexes(diff_id)}{PULL}"
