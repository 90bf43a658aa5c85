# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What groups have here that not every kernel gives them. The root lacks these files, so one is made and removed."""

from __future__ import annotations

import os
from typing import Optional

from .manager import ROOT, layout

# By v1's controller, with v1's files and then v2's; the first that is there is the one that is used.
_TRIES = {
    "swap": ("memory", ("memory.memsw.limit_in_bytes", "memory.swap.max")),
    "blkio_weight": ("blkio", ("blkio.bfq.weight", "blkio.weight", "io.bfq.weight", "io.weight")),
}


def offers(name: str, *wanted: str, root: str = ROOT) -> dict[str, Optional[str]]:
    """Of ``wanted`` (else of all) the file that serves it: empty when there is none, None where that can't be told.

    ``name`` is a group that nobody else has.
    """
    hierarchies = layout(root)
    return {fact: _file(hierarchies, name, *_TRIES[fact]) for fact in wanted or _TRIES}


def _file(hierarchies: dict[str, str], name: str, controller: str, files: tuple[str, ...]) -> Optional[str]:
    top = hierarchies.get(controller) or hierarchies.get("")
    if not top:
        return None
    directory = f"{top}/{name}"
    try:
        os.mkdir(directory)
    except OSError:
        return None
    try:
        found = next((file for file in files if os.path.exists(f"{directory}/{file}")), "")
    finally:
        os.rmdir(directory)
    if not found and "" in hierarchies and files[-1].partition(".")[0] not in _shared(top):
        return None
    return found


def _shared(top: str) -> list[str]:
    """Controllers that v2's groups have; the engine shares out the others when it starts."""
    try:
        with open(f"{top}/cgroup.subtree_control") as file:
            return file.read().split()
    except OSError:
        return []
