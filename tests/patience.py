# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much longer than on a processor of its own a thing may take here: an emulated one needs five to ten times more.

For time-outs and for pauses after which something must have happened. What is about a time itself (how much of a core,
in how many seconds) is not stretched.
"""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("VESSEL_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    return seconds * FACTOR
