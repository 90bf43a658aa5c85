# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the helper says when it cannot do what it was told: one sentence, for whoever typed the command."""

from __future__ import annotations


class VmError(Exception):
    """Shown without a traceback; the exit code is 1."""
