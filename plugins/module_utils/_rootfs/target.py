# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places below a root file system that somebody else filled: found through openat2, never by string."""

from __future__ import annotations

import errno
import os
import stat

from .._errors import KernelError
from .._kernel.openat2 import mkdir_in_root, open_in_root

# A container's processes are not started yet, so nobody can put another thing there while we work, but a volume may be
# shared with one that runs: hence descriptors throughout.


def directory(root: int, path: str) -> int:
    """A descriptor of the directory at ``path``, which is made where it is missing."""
    return mkdir_in_root(root, path)


def file(root: int, path: str) -> int:
    """A descriptor of the file at ``path``; an empty one is made where there is none, with its parents."""
    try:
        return open_in_root(root, path)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    parent_path, _, name = path.rstrip("/").rpartition("/")
    parent = directory(root, parent_path)
    try:
        # O_EXCL does not follow a dangling symlink that the image left here.
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent)
        os.close(fd)
        return open_in_root(parent, name)
    except FileExistsError:
        raise KernelError("open", path, errno.EEXIST, hint="a symlink that points nowhere is in the way") from None
    finally:
        os.close(parent)


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
