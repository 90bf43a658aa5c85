# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of image, under its own name: a strategy looks a task's plugin up by that, before there are workers, and
only then can following.py see the terminal."""

from __future__ import annotations

from ansible_collections.vessel.host.plugins.action import container


class ActionModule(container.ActionModule):
    """As any of the collection's."""
