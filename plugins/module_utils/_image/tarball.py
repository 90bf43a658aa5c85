# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in a tar: what docker save, podman save and skopeo write, compressed or not."""

from __future__ import annotations

import posixpath
import tarfile
import tempfile
from typing import IO

from .._errors import KernelError, StoreError
from .compress import decompressed
from .layout import Layout
from .member import Member
from .progress import QUIET, Progress, Told
from .tarstream import CHUNK


class Archive(Layout):
    """The tar, opened for reading its members in any order. A compressed one is unpacked to a file that has no name."""

    def __init__(self, path: str, directory: str, progress: Progress = QUIET) -> None:
        super().__init__(path, progress)
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise KernelError("open", path, error.errno or 0) from None
        try:
            self.file = self._plain(file, directory)
            self.tar = tarfile.open(  # noqa: SIM115
                fileobj=self.file, mode="r:", tarinfo=Member, encoding="utf-8", errors="surrogateescape"
            )
            self.members = {posixpath.normpath(member.name): member for member in self.tar}
        except (tarfile.TarError, ValueError, IndexError, KeyError, OverflowError, RecursionError) as error:
            file.close()
            raise StoreError(f"{path} is not a tar archive, or damaged: {error}") from None

    def _plain(self, file: IO[bytes], directory: str) -> IO[bytes]:
        head = file.read(4)
        file.seek(0)
        if not head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
            return file
        with decompressed(Told.file(file, self.progress), self.path) as stream:
            plain = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
            for block in iter(lambda: stream.read(CHUNK), b""):
                plain.write(block)
            plain.seek(0)
            file.close()
            return plain

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
