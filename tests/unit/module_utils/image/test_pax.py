# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extended headers and maps of sparse files: what is right is read as tarfile reads it, what is made to keep us busy is
refused at once.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import time

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import pax
from ansible_collections.vessel.host.plugins.module_utils._image.member import stretches
from ansible_collections.vessel.host.plugins.module_utils._image.tarstream import Forward, members

from ....image_tars import entry, folder, link, tar

SOON = 5.0  # seconds; what is quadratic takes hours


def record(keyword, value):
    body = f" {keyword}=".encode() + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return b"%d%s" % (length, body)


def header(data, kind=tarfile.XHDTYPE):
    """An extended header with these bytes in it."""
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, len(data)
    return member.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def read(data):
    source, found = Forward(io.BytesIO(data)), []
    for member in members(source):
        source.seek(source.tell())
        found.append(member)
    return found


def shown(member):
    return member.name, member.size, member.uid, member.mtime, member.linkname, member.pax_headers, stretches(member)


def test_it_is_read_as_tarfile_reads_it():
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    data = tar(
        entry("d/" + "n" * 300, data=b"x" * 700, uid=3000000, pax_headers={"mtime": "1.5", "SCHILY.xattr.user.a": "="}),
        folder("naïve", pax_headers={"comment": "", "mtime": "-1.25"}),
        link(odd, "t" * 300),
        entry("after", data=b"y"),
    )
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        assert list(map(shown, read(data))) == list(map(shown, archive))


@pytest.mark.parametrize("form", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"])
@pytest.mark.parametrize("holes", [0, 3, 30, 400])
def test_sparse_files_as_tarfile_reads_them(tmp_path, form, holes):
    with open(tmp_path / "sparse", "wb") as file:
        for number in range(holes):
            file.seek(number * 65536)
            file.write(b"data")
        file.truncate(64 << 20)
    command = ["tar", "--sparse", *f"--format={form}".split(), "-cf", "-", "-C", str(tmp_path), "sparse"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    (member,) = read(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (theirs,) = archive
        assert (member.name, member.size, member.offset_data) == (theirs.name, theirs.size, theirs.offset_data)
        assert stretches(member) == stretches(theirs)
        assert len(stretches(member)) == holes


def test_the_size_of_a_sparse_file_s_data_may_be_an_extended_one():
    """It is that of the map and the data; tarfile took the file's own for it, and lost the entry that follows."""
    content = b"1\n0\n4\n".ljust(512, b"\0") + b"data".ljust(512, b"\0")
    about = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9000", "size": "516"}
    data = header(b"".join(record(key, value.encode()) for key, value in about.items()))
    member = tarfile.TarInfo("sparse")
    member.size = 516
    data += member.tobuf(tarfile.USTAR_FORMAT) + content + tar(entry("after", data=b"y"))
    sparse, after = read(data)
    assert (sparse.size, stretches(sparse), after.name) == (9000, [(0, 4)], "after")


@pytest.mark.parametrize(
    "data",
    [
        b"12 mtime=x",
        b"999 path=x\n",
        b"0 path=x\n",
        b"abc",
        b"9 path=x\n!",
        b"9999999999999999999999 path=x\n",
        b"-9 path=x\n",
        b"1_0 path=x\n",
        b"8 pathx\n\n",
        b"5 =x\n",
        record("size", b"-5"),
        record("uid", b"0x10"),
        record("gid", "٣".encode()),
        record("size", b"9" * 21),
        record("mtime", b"9" * 65),
        record("GNU.sparse.realsize", b"9" * 100000),
        record("GNU.sparse.map", b"0,1,2,x"),
        record("GNU.sparse.size", b"9") + record("GNU.sparse.offset", b"1e3"),
    ],
    ids=lambda data: data[:30],
)
def test_records_that_are_none(data):
    with pytest.raises(StoreError, match="the archive is damaged"):
        read(header(data) + tar(entry("x")))


@pytest.mark.parametrize(
    "data",
    [
        b"1" * pax.HEADER_MAX,
        record("x", b"1" * (pax.HEADER_MAX - 20)),
        record("GNU.sparse.map", b"1" * (pax.HEADER_MAX - 40)),
        record("GNU.sparse.map", b"1," * (pax.HEADER_MAX // 2 - 20)),
        record("uid", b"1" * (pax.HEADER_MAX - 40)),
        record("comment", b"") * (pax.HEADER_MAX // 12),
        b"".join(record(f"k{number}", b"") for number in range(60000)),
    ],
    ids=["digits", "a value", "a number", "a map", "an owner", "one record", "records"],
)
def test_a_megabyte_is_read_at_once_or_refused_at_once(data):
    begun = time.monotonic()
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE):
        with contextlib.suppress(StoreError):
            read(header(data, kind) + tar(entry("x")))
    assert time.monotonic() - begun < SOON


def test_more_than_a_megabyte_is_refused():
    for data in (record("x", bytes(pax.HEADER_MAX)), record("x", b"\1" * (5 << 20))):
        with pytest.raises(StoreError, match=f"a header says that it has {len(data)} bytes"):
            read(header(data) + tar(entry("x")))


def test_headers_for_all_that_follow_are_no_more_than_one():
    many = [
        header(record(f"k{number}", b"v" * 100000), tarfile.XGLTYPE) + tar(entry("x"))[:512] for number in range(20)
    ]
    assert len(read(b"".join(many[:9]) + bytes(1024))) == 9
    with pytest.raises(StoreError, match="headers for all entries have more than 1048576 bytes"):
        read(b"".join(many))


@pytest.mark.parametrize(
    "one",
    [
        header(record("x", b"y" * 100)),
        header(record("x", b"y" * 100), tarfile.XGLTYPE),
        header(b"name\0", tarfile.GNUTYPE_LONGNAME),
        header(b"target\0", tarfile.GNUTYPE_LONGLINK),
    ],
    ids=["extended", "global", "name", "link"],
)
def test_many_headers_of_one_entry(one):
    assert len(read(one * 15 + tar(entry("x")))) == 1
    with pytest.raises(StoreError, match="an entry has more than 16 headers"):
        read(one * 16 + tar(entry("x")))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("rest", [b"", bytes(1024), b"x" * 100], ids=["nothing", "an end", "half"])
def test_a_header_without_an_entry_is_no_end(kind, rest):
    with pytest.raises(StoreError, match="the archive is damaged"):
        read(tar(entry("a"))[:512] + header(record("x", b"y"), kind) + rest)


def old_sparse(size=1000, more=True):
    member = tarfile.TarInfo("x")
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    block[386:410] = b"%011o\0%011o\0" % (0, 1)
    block[482] = more
    block[483:495] = b"\xff" * 11 + b"\xfb" if size < 0 else b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_maps_are_no_longer_than_they_may_be():
    """Each would fill the memory, out of a file of a few kilobytes that gzip has packed."""
    blocks = pax.MAP_MAX // 512 + 1
    old = old_sparse() + (b"%011o\0%011o\0" % (5, 1) * 21 + b"\1".ljust(8, b"\0")) * blocks
    about = b"".join(record(f"GNU.sparse.{key}", value) for key, value in
                     (("major", b"1"), ("minor", b"0"), ("realsize", b"9")))  # fmt: skip
    new = header(about) + tar(entry("x"))[:512] + b"99999999999\n".ljust(512, b"5") + b"0\n" * 256 * blocks
    for data in (old, new):
        with pytest.raises(StoreError, match=r"map.* has more than 4194304 bytes"):
            read(data)
        with pytest.raises(StoreError, match="the archive is damaged"):
            read(data[:9000])
    with pytest.raises(StoreError, match="a sparse file's map is none"):
        read(header(about) + tar(entry("x"))[:512] + b"5" * 1024 * blocks)
    with pytest.raises(StoreError, match="its file has -5 bytes"):
        read(old_sparse(-5, more=False) + bytes(1024))
