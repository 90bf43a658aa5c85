# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tar's entry says of its file besides the content: owner, times, and what it has of xattrs that is taken."""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Iterable, Iterator
from typing import Optional

from .._errors import StoreError
from .member import mtime_ns
from .tree import OVERLAY

XATTR = "SCHILY.xattr."
# What may be set of a tar's xattrs. Labels and hashes (security.selinux, security.ima) are the host's business.
_XATTRS = ("user.", "trusted.", "security.capability", "system.posix_acl_access", "system.posix_acl_default")
_HOSTS = (OVERLAY, "security.selinux", "security.ima", "security.evm")
_ID_MAX = 2**32 - 2


def owner(member: tarfile.TarInfo) -> tuple[int, int]:
    if not 0 <= member.uid <= _ID_MAX or not 0 <= member.gid <= _ID_MAX:
        raise StoreError(f"the layer's entry {member.name!r} has the owner {member.uid}:{member.gid}, which can't be")
    return member.uid, member.gid


def mode(member: tarfile.TarInfo) -> int:
    return member.mode & 0o7777


def times(member: tarfile.TarInfo) -> tuple[int, int]:
    time = mtime_ns(member)
    return time, time


def xattrs(member: tarfile.TarInfo) -> Iterator[tuple[str, bytes]]:
    """Those that are set."""
    for key, value in member.pax_headers.items():
        name = key[len(XATTR) :]
        # overlayfs's own say how layers are put together; only we write those.
        if not key.startswith(XATTR) or not name.startswith(_XATTRS) or name.startswith(OVERLAY):
            continue
        if member.issym() and name.startswith("user."):
            continue  # xattr(7): only files and directories have those
        yield name, value.encode("utf-8", "surrogateescape")


def is_hosts(name: str) -> bool:
    """Is it what the host gives its files, whatever the layer says?"""
    return name.startswith(_HOSTS)


def xattr(path: bytes, name: str) -> Optional[bytes]:
    """Empty where the file has it not; None where its file system has none. Symlinks are not followed."""
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return None
        if error.errno == errno.ENODATA:
            return b""
        raise


def set_xattrs(target: int | bytes, wanted: Iterable[tuple[str, bytes]]) -> None:
    """``target`` is a descriptor or a path, which is not followed."""
    for name, value in wanted:
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            # A file system without them is the host's choice; file capabilities are what the program needs to work.
            if error.errno != errno.ENOTSUP or name == "security.capability":
                raise
