# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""leases.json of a bundle: which leases the container has, and until when. It lies on tmpfs."""

from __future__ import annotations

import json
import time
from typing import Any


def now() -> float:
    """Seconds that passed while the host slept count too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def path_of(bundle: str) -> str:
    return f"{bundle}/leases.json"


def load(bundle: str) -> dict[str, dict[str, Any]]:
    """Top of the volume: number, record, renewed, hold, volume."""
    try:
        with open(path_of(bundle), "rb") as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}
