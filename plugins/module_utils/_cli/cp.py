# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vessel cp``: one file into a container or out of it, as one of its users may write and read there.

No program of the container's is needed, and no path in it leads out of it.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Optional

from .._converge import running
from .._converge.container import identity
from .._converge.placing import Entry, Place, host_place, inside, owner, write
from .._converge.placing import read as read_entry
from .._errors import KernelError, NotFoundError
from .._image import accounts
from .._kernel.copy_file_range import copy_stream
from .._paths import Paths
from .options import Parsed, UsageError, last, parse

STREAM = "-"
_INSIDE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*):(/.*)", re.DOTALL)
_OPTION = "cp"
_READ, _WRITE = 4, 2
_VALUED = {"-u": "user", "--user": "user", "-m": "mode", "--mode": "mode", "--size": "size"}
_VALUED.update({"--report": "report", "--persist": "persist"})


def read(args: list[str]) -> Parsed:
    parsed = parse(args, {}, _VALUED, interleaved=True)
    if len(parsed.rest) != 2:
        raise UsageError("cp takes a SOURCE and a TARGET")
    return parsed


def copy(paths: Paths, parsed: Parsed) -> None:
    source, target = parsed.rest
    there, here = _INSIDE.fullmatch(target), _INSIDE.fullmatch(source)
    if bool(there) == bool(here):
        raise UsageError("cp takes one of SOURCE and TARGET as NAME:PATH, with an absolute path")
    if there:
        _into(paths, source, there[1], there[2], parsed)
    elif here:
        _out(paths, here[1], here[2], target, parsed)


def _into(paths: Paths, source: str, name: str, path: str, parsed: Parsed) -> None:
    mode = _number(parsed, "mode", 8)
    who = _user(paths, name, last(parsed["user"]))
    with inside(paths, name, path, follow=True) as where:
        _require(os.fstat(where.parent), who, _WRITE, os.path.dirname(path) or "/")
        if source == STREAM:
            size = _number(parsed, "size", 10)
            mode, size = (default if given is None else given for given, default in ((mode, 0o644), (size, -1)))
            write(where, Entry(mode, who.uid, who.gid, size, 0, stream=True))
            return
        with (
            host_place(os.path.abspath(source), follow=True, option=_OPTION) as found,
            read_entry(found, _OPTION) as entry,
        ):
            if entry is None:
                raise NotFoundError("file", source)
            write(where, entry._replace(mode=entry.mode if mode is None else mode, uid=who.uid, gid=who.gid))


def _out(paths: Paths, name: str, path: str, target: str, parsed: Parsed) -> None:
    mode = _number(parsed, "mode", 8)
    who = _user(paths, name, last(parsed["user"]))
    with inside(paths, name, path, follow=True) as found, read_entry(found, _OPTION) as entry:
        if entry is None:
            raise NotFoundError(f"file in the container {name}", path)
        _require(_info(found), who, _READ, path)
        if target == STREAM:
            copy_stream(entry.fd, 1)
            return
        with host_place(os.path.abspath(target), follow=True, option=_OPTION) as where:
            # A set-uid file of a container's must not become one of the host's unasked.
            mode = entry.mode & 0o777 if mode is None else mode
            write(where, entry._replace(mode=mode, uid=os.geteuid(), gid=os.getegid()))


def _info(found: Place) -> os.stat_result:
    return os.stat(found.name, dir_fd=found.parent, follow_symlinks=False)


def _number(parsed: Parsed, name: str, base: int) -> Optional[int]:
    text = last(parsed[name])
    if not text:
        return None
    try:
        return int(text, base)
    except ValueError:
        raise UsageError(f"--{name}: {text!r} is no {'octal ' if base == 8 else ''}number") from None


def _user(paths: Paths, name: str, user: str) -> identity.Identity:
    if not user:
        config: dict[str, Any] = running.config(paths, name)["process"]["user"]
        return identity.Identity(*owner(paths, name), tuple(config.get("additionalGids") or ()))
    with running.root(paths, name) as root:
        passwd, group = (accounts.read(root, f"/etc/{file}") or "" for file in ("passwd", "group"))
    return identity.resolve(user, (), passwd, group)


def _require(info: os.stat_result, who: identity.Identity, bit: int, path: str) -> None:
    """It is root who reads and writes; what the user may not, as by way of a symlink of the container's, is refused."""
    if who.uid == 0:
        return
    mine = 6 if info.st_uid == who.uid else 3 if info.st_gid in (who.gid, *who.groups) else 0
    if not stat.S_IMODE(info.st_mode) >> mine & bit:
        verb = "write to" if bit == _WRITE else "read"
        raise KernelError(f"user {who.uid} may not {verb}", path, 13, hint="-u names another user")
