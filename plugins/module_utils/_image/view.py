# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store as it will be when steps that are planned have been done: some names lead elsewhere than they do now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Optional

from .._paths import Paths
from .store import Image, Store


class View(Store):
    """For who only looks. ``coming`` are the ids that names will have."""

    def __init__(self, paths: Paths, coming: Mapping[str, str]) -> None:
        super().__init__(paths)
        self.coming = coming

    def get(self, name: str) -> Optional[Image]:
        if name not in self.coming:
            return super().get(name)
        image = super().get(self.coming[name])
        return None if image is None else replace(image, name=name)
