# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""memory.low and memory.min: a group is protected by no more than what those above it have (cgroup-v2.rst, "Memory
Interface Files"). So each of those has the sum of what is below it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ..files import UNLIMITED, read_number

FILES = ("memory.low", "memory.min")
# Takes a group's directory, and bytes for each file that is to change; UNLIMITED is for max.
Writer = Callable[[str, dict[str, int]], None]


def pass_up(directory: str, top: str, write: Writer) -> None:
    """Bring the groups between ``directory`` and ``top`` in line with what is below them.

    What an ended group has claimed stays claimed until the next one starts: that protects the others a little more.
    """
    claims = {file: read_number(f"{directory}/{file}") or 0 for file in FILES}
    while len(parent := os.path.dirname(directory)) > len(top):
        changed = {}
        for file, claim in claims.items():
            present = read_number(f"{parent}/{file}")
            if present is not None and (present or claim):
                # The claim that was just written may not be in force yet, where systemd writes it.
                claims[file] = _together(claim, _others(parent, file, directory))
                if claims[file] != present:
                    changed[file] = claims[file]
        if changed:
            write(parent, changed)
        directory = parent


def _others(parent: str, file: str, but: str) -> list[int]:
    with os.scandir(parent) as entries:
        groups = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False) and entry.path != but]
    return [read_number(f"{group}/{file}") or 0 for group in groups]


def _together(claim: int, others: list[int]) -> int:
    return UNLIMITED if UNLIMITED in (claim, *others) else claim + sum(others)
