# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way by which a layer that somebody else packed gets into the store (image-spec, "applying changesets")."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from .._errors import KernelError, StoreError, about
from . import layer, pack
from .progress import QUIET, Progress
from .store import Work
from .tarstream import Readable


def apply(
    work: Work,
    diff_id: str,
    open_stream: Callable[[], AbstractContextManager[Readable]],
    where: str,
    *,
    limit: int = 0,
    devices: str = layer.REFUSE,
    below: Collection[str] = (),
    progress: Progress = QUIET,
) -> bool:
    """See to it that the layer is in the store, and stays for as long as the work does; False when it was there.

    ``open_stream`` gives the layer's tar, uncompressed, and is not called when the layer is there. What it verifies
    when it is left (the digest of a blob) counts: the layer is adopted after that only. Of several processes that want
    the same layer one unpacks it. ``where`` says where it came from, and is what an error begins with. ``below`` are
    the layers below containers, which stay as they are.
    """
    with work.store.once(diff_id.partition(":")[2]):
        if is_there(work, diff_id, where, devices, below):
            progress.say(diff_id, "exists")
            return False
        directory = work.directory()
        headers = f"{directory}.headers"
        skipped: list[str] = []
        with about(where, (StoreError, KernelError)), open_stream() as stream:
            dummy, size = layer.unpack(
                stream, directory, expected=diff_id, limit=limit, devices=devices, headers=headers, skipped=skipped
            )
        first = "".join(skipped)
        if os.path.exists(headers):
            work.adopt(directory, diff_id, size, headers=headers, skipped=first)
        else:
            work.adopt(directory, diff_id, size, packed=pack.measure(directory)[0], skipped=first)
    progress.say(diff_id, "unpacked")
    return True


def is_there(work: Work, diff_id: str, where: str, devices: str, below: Collection[str]) -> bool:
    """Keep the layer, if it is in the store with all that is asked for. Raises StoreError where it has to be replaced
    and can't be, for containers are over it."""
    if not work.pin(diff_id):
        return False
    skipped = work.store.skipped(diff_id)
    if devices != layer.MAKE or not skipped:
        return True
    if diff_id in below:
        problem = f"{where}: the layer is here without its device {skipped!r}, and containers are over it"
        raise StoreError(problem, hint="remove them, and run the task again, or leave device_nodes: make out")
    return False
