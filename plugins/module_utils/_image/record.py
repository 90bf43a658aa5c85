# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests, and JSON files that say what belongs together."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Optional

from .._errors import StoreError

_HEX = set("0123456789abcdef")


def canonical(value: Any) -> bytes:
    """JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def diff_ids(config: Any, name: str) -> tuple[str, ...]:
    """The layers that a configuration names, the base first."""
    rootfs = config.get("rootfs") if isinstance(config, dict) else None
    layers = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(layers, list):
        raise StoreError(f"image {name}: its configuration has no rootfs.diff_ids")
    for layer in layers:
        hexes(layer)
    return tuple(layers)


def bases_of(record: dict[str, Any]) -> dict[str, str]:
    """Of a name's record; what is none of it counts as none."""
    found = record.get("bases")
    return {str(name): str(one) for name, one in found.items()} if isinstance(found, dict) else {}


def hexes(digest: Any) -> str:
    """The digest without its algorithm, which names a file."""
    algorithm, dummy, found = str(digest).partition(":")
    if algorithm != "sha256" or not is_hex(found):
        raise StoreError(f"{digest!r} is not a sha256 digest")
    return found


def is_hex(text: str) -> bool:
    return len(text) == 64 and not set(text) - _HEX


def is_half_written(name: str) -> bool:
    """As write_atomic() calls it: FILE.PID.new."""
    return name.endswith(".new") and name[:-4].rpartition(".")[2].isdigit()


def load(path: str) -> Optional[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            return parse(file.read(), path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise damaged(path) from None


def damaged(path: str) -> StoreError:
    return StoreError(f"{path} is damaged", hint="remove it, and make the image again")


def parse(data: bytes, path: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise damaged(path) from None
    return value


def listdir(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
