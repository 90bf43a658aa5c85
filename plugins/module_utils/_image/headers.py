# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar without the content of its files, which lies unpacked: with both it comes back byte for byte.

A gzip stream of records: a line "LENGTH SIZE OFFSET PATH-LENGTH", LENGTH bytes of the tar as they were (headers,
padding, what is behind the end mark), then the path of the file from which SIZE bytes from OFFSET on come next; it is
empty where none do.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Generator, Iterator
from typing import IO

from .._errors import KernelError, StoreError
from .._kernel.file import write_all
from .tarstream import BLOCK, CHUNK

_GZIP = 31  # zlib: the largest window, with a gzip header
# Bytes that a tar holds and that are of no file, whose headers are worth more than a second copy of them.
_SKIPPED_MAX = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO in its place is not waited for


class Recorder:
    """Told of a tar as it is unpacked, in its order. ``kept`` becomes false when too much of it would be kept."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._zlib = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        self._literal: list[bytes] = []
        self._length = 0
        self._skipped = 0
        self.kept = True

    def literal(self, data: bytes | memoryview, *, skipped: bool = False) -> None:
        """Bytes of no file's content; ``skipped`` where nobody needed them."""
        if skipped and len(data) >= BLOCK:
            self._skipped += len(data)
            self.kept &= self._skipped <= _SKIPPED_MAX
        if self.kept:
            self._literal.append(bytes(data))
            self._length += len(data)
            if self._length > CHUNK:
                self.content("", 0, 0)

    def content(self, path: str, offset: int, size: int) -> None:
        """``size`` bytes that the file has from ``offset`` on; ``path`` is below the layer."""
        name = path.encode("utf-8", "surrogateescape")
        line = b"%d %d %d %d\n" % (self._length, size, offset, len(name))
        self._write(self._zlib.compress(b"".join((line, *self._literal, name))))
        self._literal, self._length = [], 0

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise KernelError("write", self._path, error.errno or 0) from None

    def finish(self) -> bool:
        """Is the file whole, and worth to be kept?"""
        if self.kept:
            self.content("", 0, 0)
            self._write(self._zlib.flush())
        return self.kept

    def close(self) -> None:
        os.close(self._fd)


def replay(headers: str, directory: str) -> Generator[bytes, None, None]:
    """The tar again, in pieces; StoreError where a file is not as it was, or the headers are not."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with gzip.open(headers) as packed:
            stream = io.BufferedReader(packed, CHUNK)
            for line in iter(stream.readline, b""):
                length, size, offset, name = map(int, line.split())
                yield _exactly(stream, length)
                path = _exactly(stream, name)
                if size:
                    yield from _content(root, path, offset, size)
    except (EOFError, zlib.error, ValueError, gzip.BadGzipFile):
        raise StoreError(f"{headers} is damaged") from None
    finally:
        os.close(root)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise EOFError
    return data


def _content(root: int, path: bytes, offset: int, size: int) -> Iterator[bytes]:
    shown = os.fsdecode(path)
    try:
        fd = os.open(path, _READ, dir_fd=root)
        try:
            while size:
                data = os.pread(fd, min(size, CHUNK), offset)
                if not data:
                    raise StoreError(f"its file {shown} is too short")
                yield data
                offset += len(data)
                size -= len(data)
        finally:
            os.close(fd)
    except OSError as error:
        raise StoreError(f"its file {shown} can't be read: {os.strerror(error.errno or 0)}") from None
