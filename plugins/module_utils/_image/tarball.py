# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in a tar: what docker save, podman save and skopeo write, compressed or not."""

from __future__ import annotations

import contextlib
import os
import posixpath
import tarfile
import tempfile
from typing import IO

from .._errors import KernelError, StoreError
from .compress import decompressed
from .layout import Layout
from .member import Tar
from .progress import QUIET, Progress, Told
from .tarstream import CHUNK, MALFORMED, refuse_size

_NO_IMAGE = "an image has a few for each layer; a root file system is source: rootfs"
# All entries are kept in memory, with what their headers say.
_MEMBERS_MAX = 10000
_HEADERS_MAX = 16 << 20
# What a file system with too little room is left: others write to it as well.
_LEFT_MAX = 64 << 20


class Archive(Layout):
    """The tar, opened for reading its members in any order. A compressed one is unpacked to a file that has no name.

    ``limit`` is the most bytes that a compressed one may unpack to, 0 for any number.
    """

    def __init__(self, path: str, directory: str, progress: Progress = QUIET, *, limit: int = 0) -> None:
        super().__init__(path, progress)
        with contextlib.ExitStack() as stack:
            try:
                self.file: IO[bytes] = stack.enter_context(open(path, "rb"))
            except OSError as error:
                raise KernelError("open", path, error.errno or 0) from None
            if self._is_compressed():
                plain = stack.enter_context(tempfile.TemporaryFile(dir=directory))
                self._unpack(plain, limit)
                self.file.close()
                self.file = plain
            try:
                self.tar = Tar(self.file)
                self.members = self._read()
            except (tarfile.TarError, *MALFORMED) as error:
                raise StoreError(f"{path} is not a tar archive, or damaged: {error}") from None
            stack.pop_all()

    def _is_compressed(self) -> bool:
        head = self.file.read(4)
        self.file.seek(0)
        return head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))

    def _unpack(self, plain: IO[bytes], limit: int) -> None:
        size = 0
        try:
            with decompressed(Told.file(self.file, self.progress), self.path) as stream:
                for block in iter(lambda: stream.read(CHUNK), b""):
                    size += len(block)
                    if limit and size > limit:
                        refuse_size(self.path, limit)
                    self._check_room(plain.fileno(), size)
                    plain.write(block)
            plain.seek(0)
        except OSError as error:
            raise KernelError("unpack", self.path, error.errno or 0) from None

    def _check_room(self, fd: int, size: int) -> None:
        disk = os.statvfs(fd)
        if disk.f_bavail * disk.f_frsize < CHUNK + min(_LEFT_MAX, disk.f_blocks * disk.f_frsize // 100):
            problem = f"{self.path} unpacks to more than {size} bytes, for which there is no room left in the store"
            raise StoreError(problem, hint="max_size limits what it may unpack to")

    def _read(self) -> dict[str, tarfile.TarInfo]:
        members: dict[str, tarfile.TarInfo] = {}
        for number, member in enumerate(self.tar):
            if number == _MEMBERS_MAX or self.tar.extended > _HEADERS_MAX:
                raise StoreError(f"{self.path} is no image: it has too many entries", hint=_NO_IMAGE)
            members[posixpath.normpath(member.name)] = member
        return members

    def close(self) -> None:
        self.file.close()

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def open(self, name: str) -> IO[bytes]:
        """docker links layers that are the same; a link leads to a member, never to a file of the host's."""
        member = self.members.get(name)
        for dummy in range(2):
            if member is not None and member.issym():
                target = posixpath.join(posixpath.dirname(member.name), member.linkname)
                member = self.members.get(posixpath.normpath(target))
            elif member is not None and member.islnk():
                member = self.members.get(posixpath.normpath(member.linkname))
        if member is None or not member.isreg():
            raise StoreError(f"{self.path} lacks {name}, which its manifest names")
        stream = self.tar.extractfile(member)
        if stream is None:
            raise StoreError(f"{self.path}: {name} is no file")
        return stream
