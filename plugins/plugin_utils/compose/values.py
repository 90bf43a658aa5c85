# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML's values as what programs are given: texts."""

from __future__ import annotations

from typing import Any

from .form import FALSE
from .merge import as_pairs


def text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return str(value)


def texts(value: Any) -> dict[str, str]:
    """NAME=VALUE, in either form; a name alone has an empty value."""
    return {name: "" if item is None else text(item) for name, item in as_pairs(value).items()}


def is_true(value: Any) -> bool:
    """Of a flag, which a variable makes a word of."""
    return value is not None and text(value).lower() not in FALSE
