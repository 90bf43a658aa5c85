# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nothing leads to, and what killed processes left. References are counted in what is there, never kept in a file.

What removes is called under the store's lock: then no writer is between two of its files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from .._errors import StoreError
from .._kernel.file import has_name, remove_tree
from .record import bases_of, is_half_written, is_hex, listdir, load

if TYPE_CHECKING:
    from .store import Store

TEMPORARY, LOCK = ".tmp-", ".lock-"
FILE = ".file"
PULL = ".pull"  # of a layer that a pull has fetched, until it has all of the image
# Directories of build steps' cache mounts; a step that uses one holds a lock on it.
CACHES = "caches"
HEADERS = ".headers"


class Unused(NamedTuple):
    """What no name leads to: digests without their algorithm, and keys."""

    images: list[str]
    layers: list[str]
    keys: list[str]
    caches: list[str]


def unused(store: Store, *, keep_cache: bool, keep: Collection[str], without: Collection[str]) -> Unused:
    images = {f"sha256:{name}" for name in listdir(store.images_dir) if is_hex(name)}
    records = [record for record in store.records() if record["name"] not in without]
    named = {record["id"] for record in records} | (images & set(keep))
    # Of what went into another the configuration is kept, which is small, and no layer for its sake.
    bases = {identity for record in records for identity in bases_of(record).values()}
    wanted = _pinned(store) | set(keep) | _of_images(store, named)
    entries = [key for key in listdir(store.keys_dir) if not is_half_written(key)]
    cached = {key: _cached(store, key) for key in entries if not key.endswith(FILE)}
    if keep_cache:
        wanted |= set(cached.values())
    layers = [name for name in listdir(store.layers) if is_hex(name) and f"sha256:{name}" not in wanted]
    keys = [key for key, layer in cached.items() if layer not in wanted or not store.layer_for(key)]
    # What is remembered of files is of use as long as there are images.
    keys += [key for key in entries if key.endswith(FILE) and not named]
    caches = [] if keep_cache else [name for name in listdir(f"{store.layers}/{CACHES}") if is_hex(name)]
    return Unused(sorted(name[len("sha256:") :] for name in images - named - bases), layers, keys, caches)


def _of_images(store: Store, identities: Collection[str]) -> set[str]:
    found: set[str] = set()
    for identity in identities:
        # A damaged image keeps nothing; that does not hinder the removal of others.
        with contextlib.suppress(StoreError):
            found |= set(store.image({"name": "", "id": identity}).layers)
    return found


def _pinned(store: Store) -> set[str]:
    """Layers that a writer at work has made, or counts on."""
    works = [name for name in listdir(store.layers) if name.startswith(TEMPORARY)]
    return {f"sha256:{pin}" for name in works for pin in listdir(f"{store.layers}/{name}/pins")}


def _cached(store: Store, key: str) -> str:
    with contextlib.suppress(StoreError):
        return str((load(f"{store.keys_dir}/{key}") or {}).get("layer", ""))
    return ""


def remove(store: Store, what: Unused) -> int:
    """The bytes that it freed."""
    freed = 0
    for name in what.images:
        remove_tree(f"{store.images_dir}/{name}")
    for key in what.keys:
        os.unlink(f"{store.keys_dir}/{key}")
    for name in what.layers:
        freed += layer_size(store, f"sha256:{name}")
        # The size goes first: a layer without one is not a layer.
        for suffix in (".json", HEADERS, ""):
            remove_tree(f"{store.layers}/{name}{suffix}")

    return freed + sum(_remove_cache(f"{store.layers}/{CACHES}/{name}") for name in what.caches)


def layer_size(store: Store, diff_id: str) -> int:
    """Bytes of its files on the disk; 0 where its record is damaged, which does not hinder its removal."""
    with contextlib.suppress(StoreError):
        return store.layer_size(diff_id)
    return 0


def cache_size(store: Store, name: str) -> int:
    """Bytes of its files on the disk."""
    return _size(f"{store.layers}/{CACHES}/{name}")


def _size(path: str) -> int:
    return sum(os.lstat(f"{top}/{file}").st_blocks * 512 for top, dummy, files in os.walk(path) for file in files)


def _remove_cache(path: str) -> int:
    """Unless a step uses it now."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        freed = _size(path)
        remove_tree(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.lock")
        return freed
    except BlockingIOError:
        return 0
    finally:
        os.close(fd)


def sweep(store: Store) -> None:
    for path in litter(store):
        if os.path.basename(path).startswith((TEMPORARY, LOCK)):
            _remove_if_dead(path)
        else:
            remove_tree(path)


def is_littered(store: Store) -> bool:
    return any(True for dummy in litter(store))


def litter(store: Store) -> Iterator[str]:
    """Paths of what killed processes may have left; without the store's lock also of what others are at."""
    for name in listdir(store.layers):
        if name.startswith((TEMPORARY, LOCK)) or is_half_written(name) or _is_half_adopted(store, name):
            yield f"{store.layers}/{name}"
    images = [name for name in listdir(store.images_dir) if is_hex(name)]
    for name in images:
        if not os.path.exists(f"{store.images_dir}/{name}/config.json"):
            yield f"{store.images_dir}/{name}"
    for directory in (store.keys_dir, store.names_dir, *(f"{store.images_dir}/{name}" for name in images)):
        yield from (f"{directory}/{name}" for name in listdir(directory) if is_half_written(name))
    pulled = [name for name in listdir(store.keys_dir) if name.endswith(PULL)]
    if pulled:
        layers = _of_images(store, {record["id"] for record in store.records()})
        yield from (f"{store.keys_dir}/{name}" for name in pulled if f"sha256:{name[: -len(PULL)]}" in layers)


def _is_half_adopted(store: Store, name: str) -> bool:
    """A layer's directory or headers, of which its adopter did not get as far as the size; or a size alone."""
    if name.endswith(".json"):
        return is_hex(name[: -len(".json")]) and not os.path.lexists(f"{store.layers}/{name[: -len('.json')]}")
    layer = name[: -len(HEADERS)] if name.endswith(HEADERS) else name
    return is_hex(layer) and not os.path.exists(f"{store.layers}/{layer}.json")


def _remove_if_dead(path: str) -> None:
    """The kernel took the lock back from whoever was killed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its holder may have ended between the two calls, and the next one made it anew.
        if has_name(fd, path):
            remove_tree(path)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
