# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a volume, one record each."""

from __future__ import annotations

import re
from typing import Any

from .._errors import OptionError
from .._rootfs.options import PROPAGATION
from .parse import choice, mapping, parse_bool, parse_duration, parse_mode, parse_name, parse_str, parse_word, size
from .record import Compare, Cost, Option, flag

STATES = ("present", "absent")
DRIVERS = ("directory", "tmpfs", "loop", "mount")
ALL, ONE_WRITER = "all", "onewriter"
SHARING = (ALL, ONE_WRITER)
DEFAULT_LEASE = 30.0
# Of mount(8) and fstab(5), but not of a mount: who may ask for it and when, or what is done to one that is there.
_NO_OPTIONS = ("auto", "noauto", "user", "nouser", "users", "owner", "nofail", "_netdev", "remount", "move", "loop")
# Their values would stand in the process list, in the state and in every diff.
_SECRET_OPTIONS = ("password", "pass", "password2", "passwd")
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


def parse_device(value: Any, option: str) -> str:
    text = parse_word(value, option).strip()
    credentials, at, dummy = text.removeprefix("//").partition("@")
    if at and ":" in credentials:
        raise OptionError(option, "(not shown)", "may hold a password; give a file by options: [credentials=PATH]")
    return text


def parse_fstype(value: Any, option: str) -> str:
    text = parse_word(value, option)
    if not re.fullmatch("[a-z0-9][a-z0-9_.-]*", text):
        raise OptionError(option, text, "is no type of a file system; use one such as nfs, cifs or ext4")
    return text


def parse_mount_options(value: Any, option: str) -> list[str]:
    """mount(8)'s words, as a list or with commas between them."""
    items = value if isinstance(value, (list, tuple)) else [value]
    words: list[str] = []
    for index, item in enumerate(items):
        where = f"{option}[{index}]" if isinstance(value, (list, tuple)) else option
        words += [word.strip() for word in parse_str(item, where).split(",") if word.strip()]
    for word in words:
        _check_word(word, option)
        if words.count(word) > 1:
            raise OptionError(option, word, "stands there twice")
    for one, other in (("ro", "rw"), ("bind", "rbind")):
        if one in words and other in words:
            raise OptionError(option, ",".join(words), f"has both {one} and {other}; give one")
    return [word for word in words if word != "defaults"]


def _check_word(word: str, option: str) -> None:
    name = word.partition("=")[0]
    if name in _SECRET_OPTIONS:
        hint = "write it to a file that root alone can read, and give credentials=PATH"
        raise OptionError(option, f"{name}=(not shown)", "would show in the process list and in the state", hint=hint)
    if name in _NO_OPTIONS or name.startswith(("x-", "X-", "comment")):
        raise OptionError(option, word, "is for /etc/fstab and says nothing here; leave it out")
    if word in PROPAGATION:
        raise OptionError(option, word, "is said where a container mounts the volume")
    if any(char in word for char in " \t\n\0"):
        raise OptionError(option, word, "has white space in it")


def parse_lease(value: Any, option: str) -> float:
    """Too short a one is lost to any pause of the host, too long a one keeps everybody waiting after a crash."""
    seconds = parse_duration(value, option)
    if not 3 <= seconds <= 3600:
        raise OptionError(option, value, "is out of range; use 3 seconds to an hour")
    return float(seconds)


OPTIONS: tuple[Option, ...] = (
    Option("driver", choice(*DRIVERS), choices=DRIVERS, default="directory"),
    Option("device", parse_device, default=None),
    Option("fstype", parse_fstype, default=None),
    Option("options", parse_mount_options, "list", "str", default=[], compare=Compare.set, cost=Cost.live),
    Option("size", size(4096, also=(0,)), default=0, cost=Cost.live),
    flag("preallocate", cost=Cost.live),
    Option("sharing", choice(*SHARING), choices=SHARING, default=ALL, cost=Cost.live),
    Option("lease_duration", parse_lease, default=DEFAULT_LEASE, cost=Cost.live),
    Option("owner", parse_owner, default=None, cost=Cost.live),
    Option("group", parse_group, default=None, cost=Cost.live),
    Option("mode", parse_mode, default=None, cost=Cost.live),
    Option("labels", mapping(parse_str), "dict", default={}, cost=Cost.live),
)
DIRECTIVES: tuple[Option, ...] = (
    Option("name", parse_name, required=True),
    Option("state", choice(*STATES), choices=STATES, default="present", shown_default="present"),
    Option("break_lease", parse_bool, "bool", default=False, shown_default=False),
)
