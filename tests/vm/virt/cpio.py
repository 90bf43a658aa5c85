# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An initrd's archive (cpio's newc, Documentation/driver-api/early-userspace/buffer-format.rst)."""

from __future__ import annotations

import stat

# name: (mode with its type, content)
Members = dict[str, tuple[int, bytes]]


def directory() -> tuple[int, bytes]:
    return stat.S_IFDIR | 0o755, b""


def program(content: bytes) -> tuple[int, bytes]:
    return stat.S_IFREG | 0o755, content


def pack(members: Members) -> bytes:
    """The same bytes for the same members: no times, no owners but root."""
    parts = [_member(number, name, *member) for number, (name, member) in enumerate(members.items(), 1)]
    return b"".join([*parts, _member(0, "TRAILER!!!", 0, b"")])


def _member(inode: int, name: str, mode: int, content: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    links = 0 if inode == 0 else 1
    #         ino,  mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + encoded) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
