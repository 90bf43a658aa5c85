# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a volume, one record each."""

from __future__ import annotations

from typing import Any

from .._errors import OptionError
from .options import Option
from .parse import choice, mapping, parse_mode, parse_name, parse_str, parse_word, size
from .plan import Cost

STATES = ("present", "absent")
DRIVERS = ("directory", "tmpfs")
_ID_MAX = 2**32 - 2  # the last one is "no user" (chown(2))


def _account(value: Any, option: str, database: str) -> int:
    text = parse_word(value, option)
    if text.isdecimal():
        if int(text) > _ID_MAX:
            raise OptionError(option, value, f"is no id; ids end at {_ID_MAX}")
        return int(text)
    import grp
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid if database == "passwd" else grp.getgrnam(text).gr_gid
    except KeyError:
        hint = "give the number that the container's image has for it"
        raise OptionError(option, value, f"is not in this host's /etc/{database}", hint=hint) from None


def parse_owner(value: Any, option: str) -> int:
    """A user id, or a name of the host's."""
    return _account(value, option, "passwd")


def parse_group(value: Any, option: str) -> int:
    return _account(value, option, "group")


OPTIONS: tuple[Option, ...] = (
    Option("driver", choice(*DRIVERS), choices=DRIVERS, default="directory"),
    Option("size", size(4096, also=(0,)), default=0, cost=Cost.live),
    Option("owner", parse_owner, default=None, cost=Cost.live),
    Option("group", parse_group, default=None, cost=Cost.live),
    Option("mode", parse_mode, default=None, cost=Cost.live),
    Option("labels", mapping(parse_str), "dict", default={}, cost=Cost.live),
)
DIRECTIVES: tuple[Option, ...] = (
    Option("name", parse_name, required=True),
    Option("state", choice(*STATES), choices=STATES, default="present", shown_default="present"),
)
