# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Local archives that ADD unpacks, by the same code as a layer's: nothing gets out of a directory of its own."""

from __future__ import annotations

import bz2
import contextlib
import lzma
import os
import tarfile
from collections.abc import Iterator
from typing import IO, cast

from ..._errors import StoreError
from .. import layer
from ..compress import decompressed
from ..tarstream import BLOCK, Readable

_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\0"


def is_archive(fd: int) -> bool:
    """A tar, as it is or compressed. What a file is called says nothing."""
    try:
        with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
            return _begins_as_tar(file)
    except (OSError, EOFError, StoreError, lzma.LZMAError):
        return False  # it only looks like something compressed
    finally:
        os.lseek(fd, 0, os.SEEK_SET)


def _begins_as_tar(file: IO[bytes]) -> bool:
    with _plain(file, "the archive") as stream:
        block = b""
        while len(block) < BLOCK:
            data = stream.read(BLOCK - len(block))
            if not data:
                return False
            block += data
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        return True
    except tarfile.HeaderError:
        return False


def unpack(fd: int, directory: str, name: str) -> None:
    """Into an empty directory; devices are left out, and names that mark deletions in a layer delete nothing."""
    with os.fdopen(os.dup(fd), "rb", buffering=0) as file, _plain(file, name) as stream:
        try:
            layer.unpack(stream, directory, devices=layer.SKIP)
        except (EOFError, lzma.LZMAError, OSError) as error:
            raise StoreError(f"{name} is damaged or cut short: {error}") from None


@contextlib.contextmanager
def _plain(file: IO[bytes], name: str) -> Iterator[Readable]:
    """The archive without its compression; the first bytes tell."""
    head = os.pread(file.fileno(), len(_XZ), 0)
    with contextlib.ExitStack() as inner:
        if head.startswith(_BZIP2):
            yield cast(Readable, inner.enter_context(bz2.BZ2File(file)))
        elif head == _XZ:
            yield cast(Readable, inner.enter_context(lzma.LZMAFile(file)))
        else:
            yield inner.enter_context(decompressed(file, name))
