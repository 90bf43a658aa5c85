# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a process is: user and group names looked up in the image, which is not mounted and may be hostile."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from ..._errors import KernelError, OptionError
from ..._image import accounts
from ..._kernel.openat2 import open_root


class Identity(NamedTuple):
    """Numbers for config.json's process.user, and where its home is.

    ``groups`` have the primary one too, as other engines have it since CVE-2022-2989: a program that changes its gid
    must not lose it, for then what is forbidden to that group would be allowed.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)
    home: str = "/root"


def read_file(directories: Sequence[str], path: str) -> str:
    """A file of the union of ``directories``, the topmost first; empty where there is none.

    A symlink is followed within its own layer only: enough for the files that are read here.
    """
    for directory in directories:
        try:
            root = open_root(directory)
        except KernelError:
            continue
        try:
            text = accounts.read(root, path)
        finally:
            os.close(root)
        if text is not None:
            return text
    return ""


def _find_group(groups: str, group: str, option: str) -> int:
    number = accounts.find_group(groups, group)
    if number is None:
        raise OptionError(option, group, "is no group in the image's /etc/group; use one of its names, or a number")
    return number


def resolve(user: str, extra: Sequence[str], passwd: str, groups: str) -> Identity:
    """``user`` is USER[:GROUP], names or numbers, empty for root; ``extra`` are supplementary groups."""
    name, dummy, group = (user or "0").partition(":")
    row = accounts.find_user(passwd, name)
    if row is None and not accounts.is_id(name):
        raise OptionError("user", user, "is no user in the image's /etc/passwd; use one of its names, or a number")
    uid = int(row[2]) if row else int(name)
    gid = _find_group(groups, group, "user") if group else int(row[3]) if row else 0
    supplementary = {_find_group(groups, item, "groups") for item in extra}
    if row and not group:
        supplementary |= {
            int(r[2]) for r in accounts.rows(groups, 4) if accounts.is_id(r[2]) and row[0] in r[3].split(",")
        }
    home = row[5] if row and row[5].startswith("/") else "/root" if uid == 0 else "/"
    return Identity(uid, gid, tuple(sorted(supplementary | {gid})), home)
