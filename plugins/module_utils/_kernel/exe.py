# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Execute our Python so that no container can write to it through /proc/PID/exe (the class of CVE-2019-5736).

The program is executed by way of a detached, read-only copy of its mount: /proc/PID/exe leads through that mount, so
opening it for writing fails with EROFS, also by a descriptor that outlives the process. Kernels before 5.12 get a
sealed copy in memory instead, at the price of the copy.
"""

from __future__ import annotations

import fcntl
import os
import stat

from .._errors import KernelError
from . import mount as m

TYPE_CHECKING = False  # see _cli/main.py
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

READ_ONLY, SEALED, PLAIN = "read-only mount", "sealed copy", "plain"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def protection() -> str:
    """How our own executable is protected: what the kernel says of /proc/self/exe, not what we believe."""
    if os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
        return READ_ONLY
    return SEALED if os.readlink("/proc/self/exe").startswith("/memfd:") else PLAIN


def open_protected(path: str) -> int:
    """A descriptor to execute the program from: protected as well as the kernel can."""
    for opener in (_read_only, _sealed):
        try:
            return opener(path)
        except (KernelError, OSError):
            continue
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _read_only(path: str) -> int:
    tree = m.open_tree(path, m.OPEN_TREE_CLONE)
    try:
        m.mount_setattr(tree, attr_set=m.MOUNT_ATTR_RDONLY)
    except KernelError:
        os.close(tree)
        raise
    return tree


def _sealed(path: str) -> int:
    copy = os.memfd_create("vessel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while os.sendfile(copy, source, None, 1 << 24):
                pass
        finally:
            os.close(source)
        os.fchmod(copy, stat.S_IRWXU)
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(copy)
        raise
    return copy


def execute(path: str, argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """execve(2) of ``path``, protected. ``argv[0]`` is what the program takes itself to be."""
    try:
        os.execve(open_protected(path), list(argv), dict(env))
    except OSError:  # such as a kernel without execveat(2) of a detached mount
        os.execve(path, list(argv), dict(env))
