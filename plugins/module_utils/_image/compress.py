# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What compressed streams hold: gzip by zlib, zstd by the target's own program where it is."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator

from .._errors import StoreError
from . import zstd
from .pack import Writable
from .tarstream import CHUNK, Readable

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZLIB_GZIP = 31  # zlib: the largest window, with a gzip header and its checksum


class _Peeked:
    """A stream whose first bytes were looked at."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._stream.read(size)
        size = len(self._head) if size < 0 else size
        data, self._head = self._head[:size], self._head[size:]
        return data


class _Gunzip:
    """Never more than one read's worth in memory, whatever a bomb would unpack to."""

    def __init__(self, stream: Readable, name: str) -> None:
        self._stream = stream
        self._name = name
        self._zlib = zlib.decompressobj(_ZLIB_GZIP)
        self._pending = b""

    def read(self, size: int = -1, /) -> bytes:
        size = CHUNK if size < 0 else size
        try:
            while True:
                if self._zlib.eof and not self._next_member():
                    return b""
                pending = self._pending or self._stream.read(CHUNK)
                data = self._zlib.decompress(pending, size)
                self._pending = self._zlib.unconsumed_tail
                if data:
                    return data
                if not pending and not self._zlib.eof:
                    raise StoreError(f"{self._name} is cut short")
        except zlib.error as error:
            raise StoreError(f"{self._name} is damaged: {error}") from None

    def _next_member(self) -> bool:
        """gzip files may be strung together; zeros may follow the last."""
        rest = self._zlib.unused_data.lstrip(b"\0") or self._stream.read(CHUNK).lstrip(b"\0")
        if not rest:
            return False
        self._zlib = zlib.decompressobj(_ZLIB_GZIP)
        self._pending = rest
        return True


class Gzip:
    """Written to it goes on compressed; the same content is the same bytes, for there is no time and no name in it."""

    def __init__(self, out: Writable) -> None:
        self._out = out
        self._zlib = zlib.compressobj(6, zlib.DEFLATED, _ZLIB_GZIP)

    def write(self, data: bytes) -> None:
        self._out.write(self._zlib.compress(data))

    def finish(self) -> None:
        self._out.write(self._zlib.flush())


@contextlib.contextmanager
def decompressed(stream: Readable, name: str) -> Iterator[Readable]:
    """The content, whatever it is packed in: the first bytes tell, for media types are often wrong."""
    head = stream.read(4)
    while len(head) < 4:
        more = stream.read(4 - len(head))
        if not more:
            break
        head += more
    whole = _Peeked(head, stream)
    if head.startswith(_GZIP):
        yield _Gunzip(whole, name)
    elif head == _ZSTD:
        with contextlib.ExitStack() as inner:
            yield inner.enter_context(zstd.decompressed(whole, name))
    else:
        yield whole
