# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One of a compose file's services, while it is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .declaration import Stack
from .losses import Where
from .secrets import Names
from .table import Rule, put

FORM = "in a compose file"
LEFT_OUT = "x-left-out"


@dataclass
class Service:
    """One of the services, while it is written."""

    name: str
    stack: Stack
    names: Names
    spec: dict[str, Any]
    body: dict[str, Any] = field(default_factory=dict)

    def put(self, path: str, value: Any) -> None:
        put(self.body, path, value)


def key(path: str, convert: Optional[Callable[[Any], Any]] = None, why: str = "") -> Rule:
    """Written under this key, as it is or converted."""

    def writer(place: Any, value: Any, at: Where) -> None:
        place.put(path, convert(value) if convert else value)

    return Rule(f"`{path}`", writer, why)
