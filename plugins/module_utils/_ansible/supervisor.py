# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor for modules that do not carry the whole engine: whichever runs, else the one that is installed.

They must not put their own in its place: what they carry is a part, and would count as another version.
"""

from __future__ import annotations

import os

from .._converge.host import set_starter
from .._errors import MonitorError
from .._monitor.client import Client, connect
from .._paths import Paths


def use_present() -> None:
    """Containers are asked through the supervisor that is there."""
    set_starter(present)


def present(paths: Paths) -> Client:
    try:
        return connect(paths)
    except MonitorError:
        if not os.path.exists(f"{paths.bin}/vessel"):
            hint = "a task of vessel.host.container installs it"
            raise MonitorError(f"no supervisor is installed in {paths.bin}", hint=hint) from None
    from .._cli.daemon import spawn

    spawn(paths)
    return connect(paths)
