# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nothing leads to, and what killed processes left. References are counted in what is there, never kept in a file.

All but unused() is called under the store's lock: then no writer is between two of its files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from .._errors import StoreError
from .._kernel.file import has_name, remove_tree
from .record import is_half_written, is_hex, listdir, load

if TYPE_CHECKING:
    from .store import Store

TEMPORARY, LOCK = ".tmp-", ".lock-"
FILE = ".file"
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
    named = {record["id"] for record in store.records() if record["name"] not in without}
    wanted = _pinned(store) | set(keep)
    for identity in named:
        # A damaged image keeps nothing; that does not hinder the removal of others.
        with contextlib.suppress(StoreError):
            wanted |= set(store.image({"name": "", "id": identity}).layers)
    entries = [key for key in listdir(store.keys_dir) if not is_half_written(key)]
    cached = {key: _cached(store, key) for key in entries if not key.endswith(FILE)}
    if keep_cache:
        wanted |= set(cached.values())
    images = [name for name in listdir(store.images_dir) if is_hex(name) and f"sha256:{name}" not in named]
    layers = [name for name in listdir(store.layers) if is_hex(name) and f"sha256:{name}" not in wanted]
    keys = [key for key, layer in cached.items() if layer not in wanted or not store.layer_for(key)]
    # What is remembered of files is of use as long as there are images.
    keys += [key for key in entries if key.endswith(FILE) and not named]
    caches = [] if keep_cache else [name for name in listdir(f"{store.layers}/{CACHES}") if is_hex(name)]
    return Unused(images, layers, keys, caches)


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
        freed += store.layer_size(f"sha256:{name}")
        # The size goes first: a layer without one is not a layer.
        for suffix in (".json", HEADERS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{store.layers}/{name}{suffix}")
        remove_tree(f"{store.layers}/{name}")

    return freed + sum(_remove_cache(f"{store.layers}/{CACHES}/{name}") for name in what.caches)


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
    for name in listdir(store.layers):
        path = f"{store.layers}/{name}"
        if name.startswith((TEMPORARY, LOCK)):
            _remove_if_dead(path)
        elif is_half_written(name) or _is_half_adopted(store, name):
            remove_tree(path)
    images = [name for name in listdir(store.images_dir) if is_hex(name)]
    for name in images:
        if not os.path.exists(f"{store.images_dir}/{name}/config.json"):
            remove_tree(f"{store.images_dir}/{name}")
    for directory in (store.keys_dir, store.names_dir, *(f"{store.images_dir}/{name}" for name in images)):
        for name in filter(is_half_written, listdir(directory)):
            os.unlink(f"{directory}/{name}")


def _is_half_adopted(store: Store, name: str) -> bool:
    """A layer's directory or headers, of which its adopter did not get as far as the size."""
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
