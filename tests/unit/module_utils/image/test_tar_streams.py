# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams: what was read is hashed and gone, and what compressed ones hold."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import os
import random
import shutil
import subprocess
import tarfile
import threading

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import StoreError
from ansible_collections.vessel.host.plugins.module_utils._image.ahead import ahead
from ansible_collections.vessel.host.plugins.module_utils._image.compress import decompressed
from ansible_collections.vessel.host.plugins.module_utils._image.member import Member, mtime_ns
from ansible_collections.vessel.host.plugins.module_utils._image.tarstream import Forward, Hashed, members
from ansible_collections.vessel.host.plugins.module_utils._image.ustar import plain as plain_header

from ....image_tars import digest, entry, folder, hard, link, tar


class Trickle:
    """A stream that gives a little at a time, as sockets do."""

    def __init__(self, data: bytes, size: int = 3) -> None:
        self._stream = io.BytesIO(data)
        self._size = size

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(min(size, self._size) if size >= 0 else self._size)


DATA = bytes(range(256)) * 20


def test_reads_are_as_long_as_asked_for():
    source = Forward(Trickle(DATA))
    assert (source.read(10), source.tell()) == (DATA[:10], 10)
    source.seek(1000)
    assert (source.read(5), source.tell()) == (DATA[1000:1005], 1005)
    assert (source.peek(7), source.peek(1), source.tell()) == (DATA[1005:1012], DATA[1005:1006], 1005)
    assert b"".join(source.chunks(4000)) == DATA[1005:5005]
    assert source.read(1000) == DATA[5005:]
    assert source.read(1000) == source.peek(1) == b""


def test_the_digest_is_of_all_however_it_was_read():
    hashed = Hashed(Trickle(DATA, 1000))
    source = Forward(hashed)
    source.read(1)
    source.drain()
    assert (hashed.digest(), hashed.length, source.tell()) == (digest(DATA), len(DATA), len(DATA))


def test_there_is_no_way_back():
    source = Forward(io.BytesIO(DATA))
    source.read(10)
    with pytest.raises(ValueError, match="leads back into itself"):
        source.seek(9)


def test_a_limit_counts_what_comes_in():
    source = Forward(Trickle(DATA, 1000), limit=3000)
    assert source.read(3000) == DATA[:3000]
    with pytest.raises(StoreError, match="more than the 3000 bytes"):
        source.read(1)


def test_too_few_bytes_are_an_error():
    with pytest.raises(StoreError, match="cut short"):
        list(Forward(io.BytesIO(DATA)).chunks(len(DATA) + 1))


@pytest.mark.parametrize("size", [1, 511, 1 << 20])
def test_members_whose_content_is_read_or_not(size):
    data = tar(folder("d"), entry("a", data=b"a" * 700), entry("long" * 60, data=b"b"), entry("c", data=b"c"))
    hashed = Hashed(Trickle(data, size))
    source = Forward(hashed)
    found = [(m.name, source.read(m.size) if m.name == "c" else b"") for m in members(source)]
    assert found == [("d", b""), ("a", b""), ("long" * 60, b""), ("c", b"c")]
    source.drain()
    assert hashed.digest() == digest(data)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("1.5", 1500000000), ("1700000000.123456789", 1700000000123456789), ("-1.25", -1250000000), ("7", 7000000000),
     ("1.0000000001", 1000000000), ("nonsense", 3000000000)],
)  # fmt: skip
def test_times_to_the_nanosecond(text, nanoseconds):
    member = Member("x")
    member.mtime, member.pax_headers = 3, {"mtime": text}
    assert mtime_ns(member) == nanoseconds


# plain headers
FIELDS = ("name", "mode", "uid", "gid", "size", "mtime", "type", "linkname")


def headers():
    """The blocks of all kinds of headers, as two formats have them."""
    entries = [
        folder("./"), folder("usr/bin/"), entry("usr/bin/ls", data=b"", mode=0o4755, uid=12, gid=34),
        hard("hard", "usr/bin/ls"), link("soft", "../x"), link("pipe", "", tarfile.FIFOTYPE),
        entry("d" * 90 + "/" + "f" * 90), entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("caf\udce9"), entry("naïve"), entry("n" * 300),
    ]  # fmt: skip
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for one in entries:
            with contextlib.suppress(ValueError):  # ustar has no room for the longest
                data = tar(one, kind=kind)
                yield from (data[at : at + 512] for at in range(0, len(data), 512))


def said(block):
    """What tarfile reads, where it reads anything."""
    try:
        member = Member.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return None
    return [getattr(member, field) for field in FIELDS]


def test_plain_headers_are_read_as_tarfile_reads_them():
    """Also those in which anything is changed, with a sum that holds: who reads less may do so, but never otherwise."""
    chance, read = random.Random(4), 0
    for block in headers():
        for turn in range(400):
            changed = bytearray(block)
            for _time in range(turn % 4):
                changed[chance.randrange(512)] = chance.choice(b"\0 /.0157x\x80\xff" + bytes([chance.randrange(256)]))
            if turn % 3:
                changed[148:156] = b" " * 8
                changed[148:156] = b"%06o\0 " % sum(changed)
            member = plain_header(bytes(changed))
            if member is not None:
                read += 1
                assert [getattr(member, field) for field in FIELDS] == said(bytes(changed))
    assert read > 1000
    blocks = [block for block in headers() if said(block)]
    assert len([block for block in blocks if plain_header(block)]) > len(blocks) / 2


def test_records_for_all_that_follow_are_heeded():
    """A global header, which git archive writes, before entries that are plain by themselves."""
    records = b"30 mtime=1600000000.123456789\n"
    head = tarfile.TarInfo("pax_global_header")
    head.type, head.size = tarfile.XGLTYPE, len(records)
    data = head.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0") + tar(entry("a", data=b"a"), entry("b"))
    found = [(member.name, mtime_ns(member)) for member in members(Forward(io.BytesIO(data)))]
    assert found == [("a", 1600000000123456789), ("b", 1600000000123456789)]


# read ahead
class Fails:
    """A stream that ends in an error."""

    def __init__(self, good: int) -> None:
        self.good = good
        self.reads = 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads > self.good:
            raise StoreError("the line is cut")
        return b"x"


def test_what_is_read_ahead_comes_in_order_and_ends():
    with ahead(Trickle(DATA, 7)) as stream:
        assert b"".join(iter(lambda: stream.read(1), b"")) == DATA
        assert stream.read(1) == b""


def test_an_error_is_raised_where_it_would_have_been_and_again():
    with ahead(Fails(3)) as stream:
        assert [stream.read(1) for _turn in range(3)] == [b"x"] * 3
        for _turn in range(2):
            with pytest.raises(StoreError, match="the line is cut"):
                stream.read(1)


def test_nobody_reads_when_nobody_wants_it_any_more():
    source = Fails(10**9)
    with ahead(source) as stream:
        stream.read(1)
    reads = source.reads
    assert reads < 20  # it did not run away from a reader that is slow
    assert threading.active_count() == 1
    assert source.reads == reads


# compressed
def plain(data, size=1 << 20):
    with decompressed(Trickle(data, size), "the blob") as stream:
        return b"".join(iter(lambda: stream.read(1000), b""))


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_gzip_and_nothing(size):
    assert plain(DATA, size) == DATA
    assert plain(gzip.compress(DATA), size) == DATA
    assert plain(gzip.compress(DATA) + gzip.compress(b"more") + bytes(100), size) == DATA + b"more"
    assert plain(b"", size) == b""
    assert plain(b"\x1f", size) == b"\x1f"


def test_a_bomb_comes_in_small_pieces():
    with decompressed(io.BytesIO(gzip.compress(bytes(50 << 20))), "the bomb") as stream:
        assert len(stream.read(1 << 20)) <= 1 << 20


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (gzip.compress(DATA)[:-1], "the blob is cut short"),
        (gzip.compress(DATA)[:100], "the blob is cut short"),
        (gzip.compress(DATA)[:-8] + bytes(8), "the blob is damaged: Error -3"),
        (gzip.compress(DATA) + b"garbage", "the blob is damaged: Error -3"),
        (b"\x1f\x8b" + bytes(100), "the blob is damaged: Error -3"),
    ],
    ids=lambda value: len(value) if isinstance(value, bytes) else value,
)
def test_damaged_gzip(data, sentence):
    with pytest.raises(StoreError) as caught:
        plain(data)
    assert caught.value.message.startswith(sentence)


def test_other_compressions_are_what_they_are():
    assert plain(bz2.compress(DATA)) == bz2.compress(DATA)  # and no tar, as the layer will say


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_zstd_by_its_own_program():
    packed = subprocess.run(["zstd", "-c"], input=DATA * 100, capture_output=True, check=True).stdout
    assert plain(packed) == DATA * 100
    with pytest.raises(StoreError, match="the blob is damaged, or cut short"):
        plain(packed[:-9])


def read_all(packed):
    with decompressed(packed, "the blob") as stream:
        while stream.read(1 << 16):
            pass


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_zstd_is_a_stream():
    """What is large is read as it comes, what fails is told, and who reads no further waits for nobody."""
    packed = subprocess.run(["zstd", "-c"], input=os.urandom(1 << 23), capture_output=True, check=True).stdout

    class Breaking(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 1 << 22:
                raise OSError(errno.EIO, "broken")
            return super().read(size)

    with pytest.raises(OSError, match="broken"):
        read_all(Breaking(packed))
    source = io.BytesIO(packed)
    with decompressed(source, "the blob") as stream:
        assert len(stream.read(1 << 16)) > 0
        assert source.tell() < len(packed)
    for damaged in (packed[:-5], packed[:100] + bytes([packed[100] ^ 1]) + packed[101:]):
        with pytest.raises(StoreError, match="the blob is"):
            read_all(io.BytesIO(damaged))
    assert not [line for line in threading.enumerate() if line.name == "zstd"]


def test_zstd_without_its_program(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(StoreError, match="the blob is compressed with zstd") as caught:
        plain(b"\x28\xb5\x2f\xfd" + DATA)
    assert caught.value.hint == "install zstd on the target, or save it with gzip"
