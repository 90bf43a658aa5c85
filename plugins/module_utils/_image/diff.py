# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way by which a layer leaves the store: as the tar that it came as, or as the one that we pack."""

from __future__ import annotations

from .._errors import StoreError
from .headers import replay
from .pack import Digesting, Writable, pack
from .store import Store


def write(store: Store, diff_id: str, out: Writable) -> tuple[str, int]:
    """Write the layer's tar: (its digest, its length). The digest is ``diff_id``, but for a layer that store.packed()
    names another of.

    What is written is hashed on the way: StoreError when it is not what it must be, and what was written is worthless.
    """
    stream, expected = Digesting(out), store.packed(diff_id)
    try:
        if store.headers(diff_id):
            for piece in replay(store.headers(diff_id), store.layer_path(diff_id)):
                stream.write(piece)
        else:
            pack(store.layer_path(diff_id), stream)
    except StoreError as error:
        raise _damaged(diff_id, error.message) from None
    if stream.digest() != expected:
        raise _damaged(diff_id, f"what is stored has the digest {stream.digest()}")
    return expected, stream.length


def _damaged(diff_id: str, problem: str) -> StoreError:
    return StoreError(f"the layer {diff_id} is damaged: {problem}", hint="make its image again with force")
