# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tmpcopyup: what the image has where a tmpfs is mounted, copied into it."""

from __future__ import annotations

import os
import stat

from .target import by_fd

# (path, mode, uid, gid, content) of every directory, regular file and symlink
Copied = list[tuple[str, int, int, int, bytes]]


def read_tree(place: int) -> Copied:
    """All below the directory; a parent before what is in it."""
    found: Copied = []
    base = by_fd(place)
    for directory, names, files in os.walk(base):
        for name in sorted(names) + sorted(files):
            path = f"{directory}/{name}"
            info = os.lstat(path)
            content = b""
            if stat.S_ISREG(info.st_mode):
                content = _read(path)
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(os.fsencode(path))
            found.append((path[len(base) + 1 :], info.st_mode, info.st_uid, info.st_gid, content))
    return found


def _read(path: str) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read()


def fill(place: int, entries: Copied) -> None:
    base = by_fd(place)
    for path, mode, uid, gid, content in entries:
        name = f"{base}/{path}"
        if stat.S_ISDIR(mode):
            os.mkdir(name)
        elif stat.S_ISLNK(mode):
            os.symlink(content, os.fsencode(name))
        elif stat.S_ISREG(mode):
            with open(name, "xb") as file:
                file.write(content)
        else:
            continue
        os.chown(name, uid, gid, follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            os.chmod(name, stat.S_IMODE(mode))
