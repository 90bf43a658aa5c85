# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places below a root file system that somebody else filled: found through openat2, never by string."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Optional

from .._errors import KernelError
from .._kernel.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, open_in_root, openat2

# A container's processes are not started yet, so nobody can put another thing there while we work, but a volume may be
# shared with one that runs: hence descriptors throughout.

MAXSYMLINKS = 40  # path_resolution(7)


def directory(root: int, path: str) -> int:
    """A descriptor of the directory at ``path``, which is made where it is missing."""
    return _make(root, path, _directory_at, 0)


def file(root: int, path: str) -> int:
    """A descriptor of the file at ``path``; an empty one is made where there is none, with its parents."""
    return _make(root, path, _file_at, 0)


def ordinary_directory(root: int, path: str) -> int:
    """The same as ``directory``, but no symlink may lead there: what is hidden below it later must be hidden there."""
    os.close(directory(root, path))
    try:
        return openat2(root, path, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
    except KernelError as error:
        if error.errno != errno.ELOOP:
            raise
        hint = "it must be an ordinary directory of the image"
        raise KernelError("open", path, errno.ELOOP, hint=hint) from None


def _directory_at(parent: int, name: str) -> None:
    os.mkdir(name, 0o755, dir_fd=parent)


def _file_at(parent: int, name: str) -> None:
    # O_EXCL does not follow a dangling symlink that the image left here.
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))


def _make(root: int, path: str, make: Callable[[int, str], None], depth: int) -> int:
    """Open it; where it is missing, make its parents and it. A symlink to what is not there yet is followed, within
    the root: an image's /etc/resolv.conf is often one."""
    flags = os.O_PATH | (os.O_DIRECTORY if make is _directory_at else 0)
    try:
        return open_in_root(root, path, flags)
    except KernelError as error:
        if error.errno != errno.ENOENT or depth > MAXSYMLINKS:
            raise
    parent_path, dummy, name = path.rstrip("/").rpartition("/")
    parent = _make(root, parent_path or "/", _directory_at, depth + 1)
    try:
        make(parent, name)
        return openat2(parent, name, flags, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
    except FileExistsError:
        link = _link(parent, name)
        if link is None:  # made by another meanwhile, or ".." that can be opened now
            return open_in_root(root, path, flags)
        return _make(root, link if link.startswith("/") else f"{parent_path}/{link}", make, depth + 1)
    except OSError as error:
        raise KernelError("make", path, error.errno or 0) from None
    finally:
        os.close(parent)


def _link(parent: int, name: str) -> Optional[str]:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def like(root: int, path: str, source: str) -> int:
    """A mount point for ``source``: a directory for a directory, else a file."""
    return (directory if stat.S_ISDIR(os.stat(source).st_mode) else file)(root, path)


def like_fd(root: int, path: str, source: int) -> int:
    """The same for a source that is open."""
    return (directory if stat.S_ISDIR(os.fstat(source).st_mode) else file)(root, path)


def optional(root: int, path: str) -> int:
    """A descriptor of what is there, or -1."""
    try:
        return open_in_root(root, path)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            return -1
        raise


def by_fd(fd: int) -> str:
    """A path for calls that take no descriptor. It is the descriptor's own place, whatever happens to its name."""
    return f"/proc/self/fd/{fd}"
