# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugin tells a module beside its options."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

PROGRESS = "_vessel_progress"  # the name of the file that is followed


class Sent(NamedTuple):
    """``token`` is empty where nobody follows."""

    token: str = ""


def take(params: dict[str, Any]) -> Sent:
    """Take it out of a module's parameters; what the plugin would not have written stays, and belongs to no option."""
    token = params.get(PROGRESS)
    if not isinstance(token, str) or not re.fullmatch("[0-9a-f]{32}", token):
        return Sent()
    del params[PROGRESS]
    return Sent(token)
