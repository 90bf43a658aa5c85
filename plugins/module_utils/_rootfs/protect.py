# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container must not see, or not write."""

from __future__ import annotations

import os
import stat

from .._kernel import mount as m
from . import target
from .ops import Context, Operation, attach
from .options import MountOptions


class Mask(Operation):
    """Hide a path: /dev/null over a file, an empty read-only tmpfs over a directory. A missing one needs no hiding."""

    def __init__(self, path: str) -> None:
        self.path = path

    def describe(self) -> str:
        return f"mask {self.path}"

    def execute(self, context: Context) -> None:
        place = target.optional(context.root, self.path)
        if place < 0:
            return
        try:
            if stat.S_ISDIR(os.fstat(place).st_mode):
                m.mount("tmpfs", target.by_fd(place), "tmpfs", m.MS_RDONLY, "size=0k,nr_inodes=2")
                return
            if context.null < 0:
                context.null = _null(context.root)
            tree = m.open_tree(target.by_fd(context.null), m.OPEN_TREE_CLONE)
            try:
                m.move_mount(tree, place)
            finally:
                os.close(tree)
        finally:
            os.close(place)


class ReadOnly(Operation):
    """Let a path be read and not written, with all that is mounted below it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def execute(self, context: Context) -> None:
        place = target.optional(context.root, self.path)
        if place < 0:
            return
        try:
            tree = m.open_tree(target.by_fd(place), m.OPEN_TREE_CLONE | m.AT_RECURSIVE)
            try:
                attach(tree, place, MountOptions(m.MS_BIND | m.MS_REC | m.MS_RDONLY), recursive=True)
            finally:
                os.close(tree)
        finally:
            os.close(place)


def _null(root: int) -> int:
    """The container's own /dev/null where it is the device; an image can put anything there."""
    fd = target.optional(root, "/dev/null")
    if fd >= 0:
        info = os.fstat(fd)
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3):
            return fd
        os.close(fd)
    return os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
