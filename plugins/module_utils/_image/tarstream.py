# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar read once, from a stream that nobody vouches for: hashed on the way, never sought back, with every header's
size limited.

Plain headers are read here, all others by tarfile.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from tarfile import ReadError
from typing import Any, NoReturn, Optional, Protocol, cast

from .._errors import StoreError
from .member import Member, Tar
from .ustar import plain

CHUNK = 1 << 20
BLOCK = 512
# What tarfile raises on headers that somebody made for it, apart from its own errors.
MALFORMED = (ValueError, IndexError, KeyError, OverflowError, RecursionError)


class Readable(Protocol):
    """All that is asked of a stream."""

    def read(self, size: int, /) -> bytes: ...


class Listener(Protocol):
    """Who is told of a tar what is no file's content."""

    def literal(self, data: bytes | memoryview, *, skipped: bool = False) -> None: ...


class Hashed:
    """A stream of which all that was read is hashed and counted."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.length = 0

    def read(self, size: int = CHUNK, /) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        self.length += len(data)
        return data

    def drain(self) -> None:
        while self.read():
            pass

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class Forward:
    """A stream in one direction: what was read is gone. ``limit`` bytes are the most, 0 for any number.

    ``listener`` is told what is read or skipped, but not what chunks() gives: that is some file's.
    """

    def __init__(self, stream: Readable, limit: int = 0, listener: Optional[Listener] = None) -> None:
        self._stream = stream
        self._limit = limit
        self._listener = listener
        self._buffer = b""
        self._at = 0
        self._fetched = 0

    def tell(self) -> int:
        return self._fetched - len(self._buffer) + self._at

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end."""
        end = self._at + size
        if end <= len(self._buffer):
            data = self._buffer[self._at : end]
            self._at = end
        else:
            data = b"".join(self._pieces(size))
        if self._listener:
            self._listener.literal(data)
        return data

    def peek(self, size: int) -> bytes:
        """What read() will give."""
        if self._at + size > len(self._buffer):
            rest = self._buffer[self._at :]
            while len(rest) < size and self._fetch():
                rest += self._buffer
            self._buffer, self._at = rest, 0
        return self._buffer[self._at : self._at + size]

    def _pieces(self, size: int) -> Iterator[memoryview]:
        """As much of the next ``size`` bytes as there is, not copied."""
        while size > 0 and (self._at < len(self._buffer) or self._fetch()):
            piece = memoryview(self._buffer)[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def seek(self, position: int) -> None:
        """Forward only; tarfile finds out by the read that follows that there is less."""
        distance = position - self.tell()
        if distance < 0:
            raise ValueError("the archive leads back into itself")
        for piece in self._pieces(distance):
            if self._listener:
                self._listener.literal(piece, skipped=True)

    def chunks(self, size: int) -> Iterator[memoryview]:
        """The next ``size`` bytes in pieces; StoreError when there are fewer."""
        for piece in self._pieces(size):
            size -= len(piece)
            yield piece
        if size:
            raise StoreError("the archive is cut short")

    def drain(self) -> None:
        """All that is left: what lies behind a tar's end mark is part of its digest."""
        while self._at < len(self._buffer) or self._fetch():
            if self._listener:
                self._listener.literal(self._buffer[self._at :], skipped=True)
            self._at = len(self._buffer)

    def _fetch(self) -> bool:
        self._buffer, self._at = self._stream.read(CHUNK), 0
        self._fetched += len(self._buffer)
        if self._limit and self._fetched > self._limit:
            refuse_size("the archive", self._limit)
        return bool(self._buffer)


def refuse_size(what: str, limit: int) -> NoReturn:
    problem = f"{what} unpacks to more than the {limit} bytes that are allowed"
    raise StoreError(problem, hint="max_size says how many")


def members(source: Forward, *, marked: bool = False) -> Iterator[Member]:
    """Each entry with ``source`` standing at its content; what of that is not read is skipped.

    ``marked`` asks for the mark at the archive's end, without which one that is cut short can look whole.
    """
    entries = _Entries(source)
    try:
        while True:
            member = entries.next()
            if member is None and marked and source.tell() == entries.end:
                raise StoreError("the archive is cut short: it has no end mark")
            if member is None:
                return
            yield member
    except tarfile.TarError as error:
        raise StoreError(f"the archive is damaged, cut short, or no tar: {error}") from None
    except MALFORMED as error:
        raise StoreError(f"the archive is damaged: {error}") from None


class _Entries:
    """``end`` is where the next header is."""

    def __init__(self, source: Forward) -> None:
        self._source = source
        self._tar: Any = None
        self.end = 0

    def next(self) -> Optional[Member]:
        self._source.seek(self.end)
        missing = self.end - self._source.tell()
        if missing >= BLOCK:
            raise ReadError("unexpected end of data")
        if missing:  # umoci insert leaves out what pads the last file
            self.end -= missing
            return None
        # Records of a global header are said of all that follow.
        member = None if self._tar and self._tar.pax_headers else plain(self._source.peek(BLOCK))
        if member is None:
            return self._any()
        self._source.read(BLOCK)
        self.end += BLOCK + (-(-member.size // BLOCK) * BLOCK if member.isreg() else 0)
        return member

    def _any(self) -> Optional[Member]:
        """By tarfile, which reads the first when it is made."""
        if self._tar is None:
            self._tar = Tar(self._source)  # of a file it has what reading takes
            # Asked for the first of none, Python 3.9 seeks to before the beginning.
            member = self._tar.firstmember and self._tar.next()
        else:
            self._tar.offset = self.end
            member = self._tar.next()
        # It keeps them all, and a layer may have a million.
        self._tar.members.clear()
        self.end = self._tar.offset
        return cast(Optional[Member], member)
