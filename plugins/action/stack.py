# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of stack: its images may be made from files of the controller's, as image has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.vessel.host.plugins.action import image


class ActionModule(image.ActionModule):
    """As image's, for each of the stack's."""

    def _named(self) -> Iterator[str]:
        images = self._task.args.get("images")
        if self._task.args.get("state") == "absent" or not isinstance(images, Mapping):
            return
        for body in images.values():
            if isinstance(body, Mapping) and isinstance(body.get("src"), str):
                yield body["src"]
