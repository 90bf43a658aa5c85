# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""run: create and start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import hooks
from .create import create
from .delete import delete
from .start import start
from .state import State


def run(root: str, container: str, bundle: str, *, warn: Callable[[str], None] = hooks.silent, **options: Any) -> State:
    """The started container; on failure nothing of it is left."""
    create(root, container, bundle, **options)
    try:
        return start(root, container)
    except BaseException:
        delete(root, container, force=True, warn=warn)
        raise
