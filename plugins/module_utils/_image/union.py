# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The union of layers as a descriptor: mounted nowhere, so that only we can reach it, and gone when we are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from .._kernel import mount as m

# What is copied up is whole, and where its name is: a layer has to stand for itself.
OPTIONS = ("redirect_dir=off", "metacopy=off", "index=off")
_VALUE_MAX = 255  # bytes that fsconfig(2) takes of a string


@contextlib.contextmanager
def union(lower: Sequence[str], upper: str, work: str) -> Iterator[int]:
    """``lower`` has the base first; what is written goes to ``upper``."""
    home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    held: list[int] = []
    try:
        # Descriptors are the shortest names that directories have, and overlayfs has to be told many.
        for path in (*lower, upper, work):
            held.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        os.chdir("/proc/self/fd")
        root = _mount([str(fd) for fd in held])
    finally:
        os.fchdir(home)
        for fd in (home, *held):
            os.close(fd)
    try:
        yield root
    finally:
        os.close(root)


def _mount(names: Sequence[str]) -> int:
    *lower, upper, work = names
    fs = m.fsopen("overlay")
    try:
        for option in OPTIONS:
            name, _, value = option.partition("=")
            m.fsconfig(fs, m.FSCONFIG_SET_STRING, name, value)
        for name, value in (*_lower(list(reversed(lower))), ("upperdir", upper), ("workdir", work)):
            m.fsconfig(fs, m.FSCONFIG_SET_STRING, name, value)
        m.fsconfig(fs, m.FSCONFIG_CMD_CREATE)
        return m.fsmount(fs)
    finally:
        os.close(fs)


def _lower(names: list[str]) -> list[tuple[str, str]]:
    whole = ":".join(names)
    # One by one only Linux 6.7 takes them, and then as many as one likes.
    return [("lowerdir", whole)] if len(whole) <= _VALUE_MAX else [("lowerdir+", name) for name in names]
