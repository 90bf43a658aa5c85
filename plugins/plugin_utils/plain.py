# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of Ansible's as Python's own: it marks where each came from, and some are encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.parsing.vault import EncryptedString


def plain(value: Any) -> Any:
    if isinstance(value, EncryptedString):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, type(None))):
        return value
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else value
