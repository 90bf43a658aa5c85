# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""update: new limits for a container that runs."""

from __future__ import annotations

from typing import Any

from .state import load


def update(root: str, container: str, resources: dict[str, Any]) -> None:
    """``resources`` is linux.resources with the keys that change."""
    state = load(root, container)
    state.require("update")
    state.manager().apply(resources)
