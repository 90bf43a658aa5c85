# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long pull or build has got, for whoever follows it."""

from __future__ import annotations


class Progress:
    """What is told goes nowhere."""

    def blob(self, what: str, done: int, total: int) -> None:
        """``done`` bytes of ``total`` of a layer; 0 where nobody knows how many it has."""

    def say(self, what: str, text: str) -> None:
        """A line that a step printed, or what became of a layer."""


QUIET = Progress()
