# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extended headers (POSIX pax, "Extended Header") and the maps of sparse files in all of GNU tar's forms.

tarfile reads them too, but in ways that somebody else's megabyte can keep busy for hours (CVE-2024-6232) or fill the
memory with, depending on Python's version. Here time and memory are in proportion to a size that is limited. What makes
no sense raises ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

# An extended header is kept in memory as a whole. Linux has xattrs of 64 KiB and paths of 4 KiB.
HEADER_MAX = 1 << 20
# Of what says where a sparse file's data is; GNU tar needs some 24 bytes for a stretch.
MAP_MAX = 4 << 20
BLOCK = 512
_DIGITS = 20  # of a number, for more do not fit into 64 bits
_NUMBERS = ("size", "uid", "gid", "GNU.sparse.size", "GNU.sparse.realsize")
_TIMES = ("mtime", "atime", "ctime")
_TIME_MAX = 64
_OFFSET, _NUMBYTES = "GNU.sparse.offset", "GNU.sparse.numbytes"

Stretches = list[tuple[int, int]]


def records(data: bytes) -> list[tuple[str, str]]:
    """(keyword, value) of each "LENGTH KEYWORD=VALUE\\n", LENGTH being that of all of it; zeros end them."""
    found = []
    at = 0
    while at < len(data) and data[at]:
        digits, blank, dummy = data[at : at + _DIGITS].partition(b" ")
        end = at + number(digits)
        keyword, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not blank or not keyword or not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise ValueError("an extended header's record is none")
        found.append((_text(keyword), _checked(_text(keyword), _text(value))))
        at = end
    return found


def _checked(keyword: str, value: str) -> str:
    """Who makes a number of a text with a million digits takes long for it."""
    if keyword in _NUMBERS:
        number(value)
    if keyword in _TIMES and len(value) > _TIME_MAX:
        raise ValueError(f"an extended header's {keyword} has {len(value)} characters")
    return value


def number(text: str | bytes) -> int:
    if not text.isdigit() or not text.isascii() or len(text) > _DIGITS:
        raise ValueError("a header's number is none")
    return int(text)


def sparse_00(found: Sequence[tuple[str, str]]) -> Stretches:
    """GNU.sparse.offset and GNU.sparse.numbytes, again and again."""
    offsets, lengths = ([number(value) for key, value in found if key == name] for name in (_OFFSET, _NUMBYTES))
    return list(zip(offsets, lengths))


def sparse_01(value: str) -> Stretches:
    """GNU.sparse.map: OFFSET,LENGTH,OFFSET,LENGTH…"""
    return _pairs(value.split(","))


def sparse_10(read: Callable[[int], bytes]) -> Stretches:
    """Lines before the file's data, filled up to a whole block: how many stretches, then OFFSET and LENGTH of each."""
    lines: list[bytes] = []
    rest, size, wanted = b"", 0, 1
    while len(lines) < wanted:
        block = read(BLOCK)
        size += len(block)
        if len(block) < BLOCK or size > MAP_MAX:
            raise ValueError(f"a sparse file's map is cut short, or has more than {MAP_MAX} bytes")
        *more, rest = (rest + block).split(b"\n")
        lines += more
        if len(rest) > BLOCK:
            raise ValueError("a sparse file's map is none")
        if lines:
            wanted = 1 + 2 * number(lines[0])
    return _pairs(lines[1:wanted])


def sparse_old(block: bytes) -> tuple[Stretches, bool]:
    """One of the old GNU form's blocks behind the header, with 21 stretches; does another follow?"""
    if len(block) < BLOCK:
        raise ValueError("a sparse file's map is cut short")
    fields = [block[at : at + 12] for at in range(0, 42 * 12, 12)]
    used = [field for field in fields if field.strip(b"\0 ")]
    return [(_field(one), _field(other)) for one, other in zip(used[::2], used[1::2])], bool(block[504])


def _field(field: bytes) -> int:
    """A number in octal digits, or in base 256."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.partition(b"\0")[0].strip(), 8)


def _pairs(numbers: Sequence[str] | Sequence[bytes]) -> Stretches:
    found = list(map(number, numbers))
    return list(zip(found[::2], found[1::2]))


def _text(field: bytes) -> str:
    return field.decode("utf-8", "surrogateescape")
