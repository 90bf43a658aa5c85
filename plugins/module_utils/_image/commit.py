# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container has written, as one more layer over those of its image."""

from __future__ import annotations

from .._errors import StoreError
from . import pack, rootfs
from .build.mounts import clean
from .record import canonical
from .store import Image, Store


def commit(store: Store, base: Image, upper: str, name: str, key: str, *, created_by: str) -> Image:
    """Store the directory ``upper``, a writable layer over the image ``base``, as a layer of the image ``name``.

    It may be written to meanwhile (see pack()): each file is then as it was when it was read. The configuration stays
    that of the base, but for the layer and its line in the history.
    """
    with store.work() as work:
        for layer in base.layers:
            if not work.pin(layer):
                raise StoreError(f"image {base.name}: its layer {layer} is not in the store")
        directory = work.directory()
        rootfs.copy(upper, directory, busy=True)
        clean(directory, [store.layer_path(layer) for layer in base.layers])
        diff_id, size = pack.measure(directory)
        work.adopt(directory, diff_id, size)
        value = store.raw(base)
        value["rootfs"] = {**value["rootfs"], "diff_ids": [*base.layers, diff_id]}
        value["history"] = [*(value.get("history") or []), {"created_by": created_by}]
        value.pop("created", None)  # equal inputs make equal images
        return store.put(name, canonical(value), key)
