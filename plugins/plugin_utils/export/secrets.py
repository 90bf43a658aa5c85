# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets as names: each container has its own here, and the other forms share them by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .declaration import Stack


@dataclass
class Names:
    """What a container's secret is called where all have one name space, and which of them are used."""

    stack: Stack
    images: set[str] = field(default_factory=set)  # those that were written
    texts: dict[str, str] = field(default_factory=dict)  # files that go with the others
    _used: dict[str, str] = field(default_factory=dict)

    def of(self, container: str, name: str) -> str:
        """The secret's own name; with the container's before it where another one has other content by that name."""
        contents = {
            secret["content"]
            for body in self.stack.containers.values()
            for secret in body.get("secrets") or ()
            if secret["name"] == name
        }
        found = name if len(contents) == 1 else f"{container}-{name}"
        self._used[found] = f"./secrets/{found}"
        return found

    def add_build(self, secret: dict[str, Any]) -> None:
        self._used[secret["id"]] = secret.get("src") or f"./secrets/{secret['id']}"

    def files(self) -> dict[str, Any]:
        return {name: {"file": path} for name, path in self._used.items()}
