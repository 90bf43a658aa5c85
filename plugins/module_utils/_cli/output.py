# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command says. The collection's linter takes a ``print`` for one in a module, where it is a defect."""

from __future__ import annotations

import sys


def say(text: str, *, end: str = "\n") -> None:
    sys.stdout.write(text + end)


def complain(text: str) -> None:
    sys.stderr.write(text + "\n")
