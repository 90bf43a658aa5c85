# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pause and resume: the freezer."""

from __future__ import annotations

from .state import load


def pause(root: str, container: str) -> None:
    state = load(root, container)
    state.require("pause")
    state.manager().freeze(True)


def resume(root: str, container: str) -> None:
    state = load(root, container)
    state.require("resume")
    state.manager().freeze(False)
