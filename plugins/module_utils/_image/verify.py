# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is what is stored what it was when it came? Each layer's tar is made and hashed once more, a process a layer."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from .._errors import StoreError
from . import diff
from .ahead import ahead
from .compare import Comparison
from .headers import replay
from .pack import Digesting
from .registry import parallel
from .store import Image, Store
from .tarstream import Forward, Hashed, members


class Damage(NamedTuple):
    """``digest`` is a layer's diff_id, or the image's id for its configuration."""

    digest: str
    problem: str


def verify(store: Store, image: Image) -> list[Damage]:
    """What of the image is damaged: its configuration, and its layers from the base up. Nothing is changed."""
    layers = list(dict.fromkeys(image.layers))
    jobs = [parallel.Job(f"verify {diff_id}", partial(_layer, store, diff_id)) for diff_id in layers]
    with store.work() as work:
        for diff_id in layers:
            work.pin(diff_id)  # nobody removes what is looked at
        problems = [_configuration(store, image), *parallel.run(jobs, os.cpu_count() or 1)]
    found = map(Damage, [image.id, *layers], problems)
    return [damage for damage in found if damage.problem]


def _configuration(store: Store, image: Image) -> str:
    try:
        digest = f"sha256:{hashlib.sha256(store.configuration(image)).hexdigest()}"
    except StoreError as error:
        return error.message
    return "" if digest == image.id else f"the configuration has the digest {digest}"


def _layer(store: Store, diff_id: str) -> str:
    """What is wrong with it, in a sentence; empty when nothing is."""
    if not store.has_layer(diff_id):
        return "the layer is not in the store"
    try:
        store.layer_size(diff_id)
        if store.headers(diff_id):
            return _compared(store, diff_id)
        diff.write(store, diff_id, Digesting())
    except StoreError as error:
        return error.message
    except OSError as error:
        return f"its file {error.filename or ''} can't be read: {os.strerror(error.errno or 0)}"
    return ""


def _compared(store: Store, diff_id: str) -> str:
    """Of a layer that comes back with its headers: only content goes into the tar, so all else is looked at."""
    directory = store.layer_path(diff_id)
    with contextlib.closing(replay(store.headers(diff_id), directory)) as pieces:
        hashed, comparison = Hashed(_Pieces(pieces)), Comparison(directory)
        with ahead(hashed) as stream:
            source = Forward(stream)
            for member in members(source):
                comparison.member(member)
            source.drain()
        if hashed.digest() != diff_id:
            return f"what is stored has the digest {hashed.digest()}"
    return comparison.problem()


class _Pieces:
    """What comes in pieces, as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int = -1, /) -> bytes:
        """The next that is not empty."""
        return next(filter(None, self._pieces), b"")
