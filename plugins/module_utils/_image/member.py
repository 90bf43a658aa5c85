# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar's entry as tarfile has it, with every header's size limited.

What tarfile takes for the end of an archive and is none (a damaged header, half a header) is an error here.
"""

from __future__ import annotations

import tarfile
from tarfile import HeaderError, ReadError
from typing import Any

from .._errors import StoreError

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
