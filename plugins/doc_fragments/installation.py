# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option that every module has, and what every module needs."""

from __future__ import annotations


class ModuleDocFragment:
    # Standard documentation fragment
    DOCUMENTATION = r"""
options:
  root:
    description:
      - Directory of an installation that is kept apart from the host's own.
      - Its store, its runtime files and the names that are global to the kernel are all its own, so that it can run
        beside another.
      - When not set, the environment variable E(VESSEL_ROOT) of the target is used; when that is not set either, the
        installation is the host's own, in C(/var/lib/vessel) and C(/run/vessel).
    type: path
requirements:
  - Linux 5.10 or newer
  - Python 3.9 or newer
notes:
  - The module needs root on the target; use C(become).
"""

    # For modules that make or read networks
    NETWORK = r"""
options: {}
requirements:
  - nftables
  - pyroute2 0.7.2 or newer
"""
