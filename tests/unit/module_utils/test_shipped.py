# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that installs the engine brings every file of it along."""

from __future__ import annotations

import runpy
from pathlib import Path

SHIP = Path(__file__).parents[2] / "collection" / "ship.py"


def test_list_of_shipped_files_is_current():
    names = runpy.run_path(str(SHIP))
    assert names["SHIPPED"].read_text() == names["render"](), "run python tests/collection/ship.py"
