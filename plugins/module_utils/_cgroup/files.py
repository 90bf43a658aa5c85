# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing the files of a cgroup; an error names the file and the value."""

from __future__ import annotations

import errno
import os
from typing import Optional

from .._errors import KernelError

UNLIMITED = -1
_HINTS = {
    errno.ERANGE: "the value is out of the kernel's range",
    errno.EROFS: "cgroupfs is mounted read-only here",
}


def write(path: str, value: object, *, hint: str = "") -> None:
    """Write one value; cgroupfs takes it or refuses it whole."""
    data = str(value).encode()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        hint = hint or _HINTS.get(error.errno or 0, "")
        raise KernelError(f"write {value} to", path, error.errno or 0, hint=hint) from None


def read(path: str) -> str:
    """The file's text without the last newline."""
    try:
        return _read(path)
    except OSError as error:
        raise KernelError("read", path, error.errno or 0) from None


def read_optional(path: str) -> Optional[str]:
    """The same; None where the kernel does not have the file, or the group went meanwhile."""
    try:
        return _read(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
            return None
        raise KernelError("read", path, error.errno or 0) from None


def _read(path: str) -> str:
    # os.open, because a file object costs as much again, and a look at 100 containers opens a thousand files.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, 4096)
        while len(data) % 4096 == 0:
            more = os.read(fd, 1 << 16)
            if not more:
                break
            data += more
        return data.decode().rstrip("\n")
    finally:
        os.close(fd)


def read_number(path: str, *, unlimited_from: int = 1 << 62) -> Optional[int]:
    """A number; \"max\" and what the kernel prints for no limit are UNLIMITED."""
    text = read_optional(path)
    if text is None:
        return None
    if text == "max":
        return UNLIMITED
    number = int(text)
    return UNLIMITED if number >= unlimited_from else number


def keyed(text: Optional[str]) -> dict[str, int]:
    """Lines of \"key number\"."""
    pairs = [line.split() for line in (text or "").splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()}


def mkdirs(path: str) -> list[str]:
    """Make the directory and its parents; those that were made, outermost first."""
    made: list[str] = []
    try:
        os.mkdir(path, 0o755)
        return [path]
    except OSError:
        pass  # it is there, or its parent is not: step by step
    while not os.path.isdir(path):
        missing = path
        while not os.path.isdir(os.path.dirname(missing)):
            missing = os.path.dirname(missing)
        try:
            os.mkdir(missing, 0o755)
            made.append(missing)
        except (FileExistsError, FileNotFoundError):
            pass  # another made it, or removed an empty parent meanwhile: look again
        except OSError as error:
            raise KernelError("mkdir", missing, error.errno or 0) from None
    return made
