# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines for tests, from Debian packages alone: see README.md beside this file."""

from __future__ import annotations

import sys

from virt.cli import main

if __name__ == "__main__":
    sys.exit(main())
