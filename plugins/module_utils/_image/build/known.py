# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of files that an image was built from, by what stat(2) said of them: an unchanged build reads none again."""

from __future__ import annotations

import hashlib
import json
import os

from ..._errors import StoreError
from ..._kernel.file import write_atomic
from ..housekeeping import FILE
from ..record import load
from ..store import Store
from .tree import Known, Tree


def recall(store: Store, name: str, top: str) -> Known:
    """Of the image's last build from the directory; empty where there was none."""
    try:
        found = (load(_path(store, name, top)) or {}).get("files")
    except StoreError:
        return {}
    return found if isinstance(found, dict) else {}


def remember(store: Store, name: str, top: str, tree: Tree) -> None:
    if tree.seen and tree.seen != tree.known:
        with store.locked():
            write_atomic(_path(store, name, top), json.dumps({"files": tree.seen}).encode(), durable=False)


def _path(store: Store, name: str, top: str) -> str:
    what = f"{name}\0{os.path.realpath(top)}"
    return f"{store.keys_dir}/{hashlib.sha256(what.encode('utf-8', 'surrogateescape')).hexdigest()}{FILE}"
