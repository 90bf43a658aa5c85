# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume, whatever drives it. One file a driver; each has ensure, differences, source, mounted_type, usage and
remove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Volume:
    """``mode`` are permission bits; ``size`` is bytes, 0 for as much as there is. ``home`` holds it.

    An owner, group or mode of None is whatever it is: a container often gives its volume to a user of its own.
    ``options`` are mount(8)'s words; ``device`` and ``fstype`` are as it takes them.
    """

    name: str
    home: str
    driver: str = "directory"
    uid: Optional[int] = None
    gid: Optional[int] = None
    mode: Optional[int] = None
    size: int = 0
    device: str = ""
    fstype: str = ""
    options: tuple[str, ...] = ()
    preallocate: bool = False


@dataclass(frozen=True)
class Difference:
    """Something that is not as declared."""

    what: str
    before: object
    after: object
