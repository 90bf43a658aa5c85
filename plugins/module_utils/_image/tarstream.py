# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar read once, from a stream that nobody vouches for: hashed on the way, never sought back, with every header's
size limited.

tarfile parses the headers; what it takes for the end of an archive and is none (a damaged header, half a header) is an
error here.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from tarfile import HeaderError, ReadError
from typing import Any, NoReturn, Protocol

from .._errors import StoreError

CHUNK = 1 << 20
BLOCK = 512
# An extended header is kept in memory as a whole. Linux has xattrs of 64 KiB and paths of 4 KiB.
_HEADER_MAX = 1 << 20
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_ENDS = (tarfile.EOFHeaderError, tarfile.EmptyHeaderError)  # type: ignore[attr-defined]
# What tarfile raises on headers that somebody made for it, apart from its own errors.
_MALFORMED = (ValueError, IndexError, KeyError, OverflowError, RecursionError)


class Readable(Protocol):
    """All that is asked of a stream."""

    def read(self, size: int, /) -> bytes: ...


class Forward:
    """A stream in one direction: what was read is hashed and gone. ``limit`` bytes are the most, 0 for any number."""

    def __init__(self, stream: Readable, limit: int = 0) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._limit = limit
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
            return data
        parts = [self._buffer[self._at :]]
        missing = size - len(parts[0])
        self._buffer, self._at = b"", 0
        while missing > 0 and self._fetch():
            parts.append(self._buffer[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        return b"".join(parts)

    def seek(self, position: int) -> None:
        """Forward only."""
        distance = position - self.tell()
        if distance < 0:
            raise ValueError("the archive leads back into itself")
        while distance:
            skipped = len(self.read(min(distance, CHUNK)))
            if not skipped:
                return  # tarfile finds out by the read that follows
            distance -= skipped

    def chunks(self, size: int) -> Iterator[bytes]:
        """The next ``size`` bytes in pieces; StoreError when there are fewer."""
        while size:
            data = self.read(min(size, CHUNK))
            if not data:
                raise StoreError("the archive is cut short")
            size -= len(data)
            yield data

    def drain(self) -> None:
        """All that is left: what lies behind a tar's end mark is part of its digest."""
        self._at = len(self._buffer)
        while self._fetch():
            self._at = len(self._buffer)

    def digest(self) -> str:
        """Of what was fetched, so of everything after drain()."""
        return f"sha256:{self._hash.hexdigest()}"

    def _fetch(self) -> bool:
        self._buffer, self._at = self._stream.read(CHUNK), 0
        self._fetched += len(self._buffer)
        if self._limit and self._fetched > self._limit:
            refuse_size(self._limit)
        self._hash.update(self._buffer)
        return bool(self._buffer)


def refuse_size(limit: int) -> NoReturn:
    raise StoreError(f"the archive unpacks to more than the {limit} bytes that are allowed")


class Member(tarfile.TarInfo):
    """A tar's entry; what is wrong with its header is never taken for the archive's end."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> Member:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in _EXTENDED and member.size > _HEADER_MAX):
            raise ReadError(f"a header says that it has {member.size} bytes")
        return member

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Member:
        try:
            return super().fromtarfile(tarfile)
        except _ENDS:
            raise  # zeros, or nothing more: an end
        except HeaderError as error:
            raise ReadError(str(error)) from None


def members(source: Forward, *, marked: bool = False) -> Iterator[Member]:
    """Each entry with ``source`` standing at its content; what of that is not read is skipped.

    ``marked`` asks for the mark at the archive's end, without which one that is cut short can look whole.
    """
    try:
        tar = tarfile.TarFile(fileobj=source, tarinfo=Member, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
        empty = tar.firstmember is None  # type: ignore[attr-defined]
        while True:
            # Asked for the first of none, Python 3.9 seeks to before the beginning.
            member = None if empty else tar.next()
            if member is None and marked and source.tell() == tar.offset:
                raise StoreError("the archive is cut short: it has no end mark")
            if member is None:
                return
            # tarfile keeps them all, and a layer may have a million.
            tar.members.clear()  # type: ignore[attr-defined]
            yield member  # type: ignore[misc]
    except tarfile.TarError as error:
        raise StoreError(f"the archive is damaged, cut short, or no tar: {error}") from None
    except _MALFORMED as error:
        raise StoreError(f"the archive is damaged: {error}") from None


def stretches(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """(offset, length) of what of the file's content is in the archive; all else are holes."""
    sparse = getattr(member, "sparse", None)
    if sparse is None:
        return [(0, member.size)]
    end = 0
    # GNU tar marks the file's end with a stretch of no bytes, and fills its table up with such.
    sparse = [(offset, length) for offset, length in sparse if length]
    for offset, length in sparse:
        if offset < end or length < 0 or offset + length > member.size:
            raise StoreError(f"the archive's sparse file {member.name!r} has stretches that can't be")
        end = offset + length
    return sparse


def mtime_ns(member: tarfile.TarInfo) -> int:
    """To the nanosecond: as a float, PAX's decimal digits would be lost."""
    text = member.pax_headers.get("mtime", "")
    whole, dummy, fraction = text.partition(".")
    if not whole.removeprefix("-").isdecimal() or (fraction and not fraction.isdecimal()):
        return int(member.mtime) * 10**9
    nanoseconds = int(f"{fraction:0<9}"[:9])
    return int(whole) * 10**9 + (-nanoseconds if whole.startswith("-") else nanoseconds)
