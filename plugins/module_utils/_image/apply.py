# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way by which a layer that somebody else packed gets into the store (image-spec, "applying changesets")."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from .._errors import StoreError
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
    progress: Progress = QUIET,
) -> bool:
    """See to it that the layer is in the store, and stays for as long as the work does; False when it was there.

    ``open_stream`` gives the layer's tar, uncompressed, and is not called when the layer is there. What it verifies
    when it is left (the digest of a blob) counts: the layer is adopted after that only. Of several processes that want
    the same layer one unpacks it. ``where`` says where it came from, and is what an error begins with.
    """
    with work.store.once(diff_id.partition(":")[2]):
        if work.pin(diff_id):
            progress.say(diff_id, "exists")
            return False
        directory = work.directory()
        headers = f"{directory}.headers"
        with open_stream() as stream:
            try:
                dummy, size = layer.unpack(
                    stream, directory, expected=diff_id, limit=limit, devices=devices, headers=headers
                )
            except StoreError as error:
                if error.message.startswith(where):
                    raise
                raise StoreError(f"{where}: {error.message}", hint=error.hint) from None
        if os.path.exists(headers):
            work.adopt(directory, diff_id, size, headers=headers)
        else:
            work.adopt(directory, diff_id, size, packed=pack.measure(directory)[0])
    progress.say(diff_id, "unpacked")
    return True
