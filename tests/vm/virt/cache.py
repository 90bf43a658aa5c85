# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made once and kept: below .cache/vm of the checkout, or where VESSEL_VM_CACHE says.

id_ed25519       the key that opens every machine made here
images/HASH      a root file system, its kernel and initrd; HASH is of all that goes in
snapshots/HASH   the disk of a machine that has booted, with its memory
machines/NAME    one directory a machine, see machine.py
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]


def directory(*names: str) -> Path:
    """A directory of the cache, made if need be."""
    path = Path(os.environ.get("VESSEL_VM_CACHE") or CHECKOUT / ".cache" / "vm", *names)
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(inputs: Any) -> str:
    """The name of what is made from these; they are JSON."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time makes or removes ``path``. The lock's file stays: unlinking it would split the lock."""
    with open(path.with_name(f".{path.name}.lock"), "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made(target: Path, make: Callable[[Path], None]) -> Path:
    """``target``, a directory; ``make`` fills it beside, and it appears whole or not at all."""
    with locked(target):
        if not target.exists():
            new = target.with_name(f".{target.name}.new")
            shutil.rmtree(new, ignore_errors=True)  # of a maker that was killed; we hold the lock
            new.mkdir()
            try:
                make(new)
                new.rename(target)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    return target
