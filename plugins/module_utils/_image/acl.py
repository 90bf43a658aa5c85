# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""POSIX ACLs as xattrs have them: acl(5), linux/posix_acl_xattr.h."""

from __future__ import annotations

import struct

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_VERSION = 4  # bytes of it, before the entries
_ENTRY = struct.Struct("<HHI")  # tag, perm, id
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32


def entries(acl: bytes) -> list[tuple[int, int, int]]:
    """(tag, permissions, id); an id that says nothing is 0."""
    body = acl[_VERSION:]
    whole = body[: len(body) // _ENTRY.size * _ENTRY.size]
    return [(tag, perm, number if tag in (_USER, _GROUP) else 0) for tag, perm, number in _ENTRY.iter_unpack(whole)]


def is_minimal(acl: bytes) -> bool:
    """Does it say no more than a mode?"""
    return {tag for tag, dummy, dummy in entries(acl)} == {_USER_OBJ, _GROUP_OBJ, _OTHER}


def mode(acl: bytes, before: int) -> int:
    """What the mode becomes with it: the group's bits are the mask, where there is one."""
    perms = {tag: perm for tag, perm, dummy in entries(acl)}
    group = perms.get(_MASK, perms.get(_GROUP_OBJ, 0))
    return before & 0o7000 | perms.get(_USER_OBJ, 0) << 6 | group << 3 | perms.get(_OTHER, 0)
