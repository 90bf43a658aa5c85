# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar's entry as tarfile has it, but for extended headers and sparse files, which pax.py reads.

What tarfile takes for the end of an archive and is none (a damaged header, half a header) is an error here.
"""

from __future__ import annotations

import tarfile
from tarfile import HeaderError, ReadError
from typing import Any

from .._errors import StoreError
from . import pax

_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_GLOBAL = tarfile.XGLTYPE
_ENDS = (tarfile.EOFHeaderError, tarfile.EmptyHeaderError)  # type: ignore[attr-defined]
# Headers before one entry. GNU tar writes three at most, and concatenated archives have those of each.
_DEPTH_MAX = 16
_KINDS = tarfile.SUPPORTED_TYPES


class Tar(tarfile.TarFile):
    """Its entries are Members. ``depth`` is how many headers were read of the one that is being read, ``extended`` how
    many bytes of more than a block each."""

    def __init__(self, source: Any) -> None:
        self.depth = 0
        self.extended = 0
        super().__init__(fileobj=source, tarinfo=Member, encoding="utf-8", errors="surrogateescape")


class Member(tarfile.TarInfo):
    """A tar's entry; what is wrong with its header is never taken for the archive's end."""

    _sparse_structs: Any  # TarInfo's own

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> Member:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in (*_EXTENDED, *_LONG) and member.size > pax.HEADER_MAX):
            raise ReadError(f"a header says that it has {member.size} bytes")
        return member

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Member:
        if tarfile.depth == _DEPTH_MAX:
            raise ReadError(f"an entry has more than {_DEPTH_MAX} headers")
        tarfile.depth += 1
        try:
            return super().fromtarfile(tarfile)
        except _ENDS:
            raise  # zeros, or nothing more: an end
        except HeaderError as error:
            raise ReadError(str(error)) from None
        finally:
            tarfile.depth -= 1

    def _proc_member(self, tarfile: Any) -> Any:
        """Where tarfile lets its heirs read kinds of headers themselves."""
        if self.type in (*_EXTENDED, *_LONG):
            tarfile.extended += self.size
        if self.type in _EXTENDED:
            return self._proc_extended(tarfile)
        if self.type == b"S":
            return self._proc_old_sparse(tarfile)
        return super()._proc_member(tarfile)  # type: ignore[misc]

    def _proc_extended(self, tarfile: Any) -> Any:
        """Records of the entry that follows, or of all that follow."""
        found = pax.records(tarfile.fileobj.read(_blocks(self.size)))
        about = {**tarfile.pax_headers, **dict(found)}
        if self.type == _GLOBAL:
            if sum(map(len, about)) + sum(map(len, about.values())) > pax.HEADER_MAX:
                raise ReadError(f"headers for all entries have more than {pax.HEADER_MAX} bytes")
            tarfile.pax_headers = about
        try:
            member = self.fromtarfile(tarfile)
        except _ENDS:
            raise ReadError("a header has no entry") from None
        content = member.offset_data
        member._stretch(about, found, tarfile)
        if self.type != _GLOBAL:
            member._apply_pax_info(about, tarfile.encoding, tarfile.errors)  # type: ignore[attr-defined]
            member.offset = self.offset
            real = about.get("GNU.sparse.realsize") or about.get("GNU.sparse.size")
            if real and member.sparse is not None:
                member.size = int(real)  # whichever came last: "size" is that of the data and its map
            if "size" in about:
                has_content = member.isreg() or member.type not in _KINDS
                tarfile.offset = content + (_blocks(int(about["size"])) if has_content else 0)
        return member

    def _stretch(self, about: dict[str, str], found: list[tuple[str, str]], tarfile: Any) -> None:
        """GNU tar's forms 0.1, 0.0 and 1.0 of a sparse file."""
        sparse: Any = None
        if "GNU.sparse.map" in about:
            sparse = pax.sparse_01(about["GNU.sparse.map"])
        elif "GNU.sparse.size" in about:
            sparse = pax.sparse_00(found)
        elif (about.get("GNU.sparse.major"), about.get("GNU.sparse.minor")) == ("1", "0"):
            sparse = pax.sparse_10(tarfile.fileobj.read)
            tarfile.extended += tarfile.fileobj.tell() - self.offset_data
            self.offset_data = tarfile.fileobj.tell()
        if sparse is not None:
            self.sparse = sparse

    def _proc_old_sparse(self, tarfile: Any) -> Any:
        """The old GNU form; frombuf() has read the stretches of the header itself."""
        found, more, size = self._sparse_structs
        if size < 0:
            raise ReadError(f"a header says that its file has {size} bytes")
        blocks = 0
        while more:
            stretches, more = pax.sparse_old(tarfile.fileobj.read(pax.BLOCK))
            found += stretches
            blocks += 1
            if blocks * pax.BLOCK > pax.MAP_MAX:
                raise ReadError(f"a sparse file's map has more than {pax.MAP_MAX} bytes")
        self.sparse = found
        tarfile.extended += blocks * pax.BLOCK
        self.offset_data = tarfile.fileobj.tell()
        tarfile.offset = self.offset_data + _blocks(self.size)
        self.size = size
        return self


def _blocks(size: int) -> int:
    """As many bytes as it takes in a tar."""
    return -(-size // pax.BLOCK) * pax.BLOCK


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
