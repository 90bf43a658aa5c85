# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Suites of Debian that an image can be made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    options: tuple[str, ...] = ()  # mmdebstrap's


SUITES = {
    # Linux 5.10, Python 3.9, systemd 247. mmdebstrap gives it a /bin beside /usr/bin, which its installer and its cloud
    # images do not.
    "bullseye": Suite(("--setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh",)),
    "bookworm": Suite(),  # Linux 6.1, Python 3.11, systemd 252
    "trixie": Suite(),  # Linux 6.12, Python 3.13, systemd 257
}
