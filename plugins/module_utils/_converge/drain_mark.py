# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark that a host keeps while it is to have no work, and what was stopped for it.

host/drain/spec.json   {"state": "drained" or "cordoned", "stopped": [those that ran],
                        "held": [those that did not, and that a boot would start]}
"""

from __future__ import annotations

from typing import Any

from .._paths import Paths
from . import store

Mark = dict[str, Any]
PLACE = ("host", "drain")
UNDRAINED: Mark = {"state": "undrained", "stopped": [], "held": []}


def read(paths: Paths) -> Mark:
    return {**UNDRAINED, **(store.read_spec(paths, *PLACE) or {})}


def write(paths: Paths, mark: Mark) -> None:
    if mark == UNDRAINED:
        store.remove_spec(paths, *PLACE)
    else:
        store.write_spec(paths, *PLACE, mark)


def facts(paths: Paths) -> Mark:
    """What is told of it."""
    return {key: value for key, value in read(paths).items() if key != "held"}
