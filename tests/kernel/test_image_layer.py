# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers unpacked on the real kernel: every kind of entry, every hostile one, and the same as umoci has."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import tarfile

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, StoreError, VesselError
from ansible_collections.vessel.host.plugins.module_utils._image import layer, pack
from ansible_collections.vessel.host.plugins.module_utils._image.copy import OVERLAY_OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._kernel.overlay import open_overlay

from ..image_tars import Layout, digest, entry, extract, folder, hard, link, listing, named, tar

pytestmark = pytest.mark.root

NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw=ep (linux/capability.h, vfs_cap_data)
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *item)
    for item in ((1, 6, 2**32 - 1), (2, 4, 1234), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1))
)


def xattrs(**values: bytes) -> dict[str, str]:
    named_ = {f"SCHILY.xattr.{key.replace('__', '.')}": value for key, value in values.items()}
    return {key: value.decode("utf-8", "surrogateescape") for key, value in named_.items()}


def everything() -> bytes:
    """One of every kind."""
    odd = b"caf\xe9-\xff".decode("utf-8", "surrogateescape")
    return tar(
        folder("./", mode=0o751),
        folder("usr", uid=3, gid=4, mode=0o2755),
        folder("usr/bin"),
        entry("usr/bin/ping", data=b"ELF" * 100, mode=0o755, pax_headers=xattrs(security__capability=NET_RAW)),
        entry("usr/bin/su", data=b"su", mode=0o4755, uid=0, gid=12),
        entry("usr/bin/wall", data=b"wall", mode=0o2755, uid=7, gid=5),
        link("bin", "usr/bin"),
        link("dangling", "/nowhere/at/all", uid=9, gid=9),
        hard("usr/bin/sudo", "usr/bin/su"),
        entry("data", data=b"x" * 5000, pax_headers={"mtime": "1700000000.123456789"}),
        entry("old", data=b"", pax_headers={"mtime": "-86400.5"}),
        entry("acl", data=b"a", mode=0o640, pax_headers=xattrs(system__posix_acl_access=ACL)),
        entry("tagged", data=b"t", pax_headers=xattrs(user__note=b"\x00\xffbinary", trusted__mark=b"1")),
        link("pipe", "", tarfile.FIFOTYPE, mode=0o622),
        entry("deep/er/than/declared/file", data=b"d"),
        entry("long/" + "n" * 200 + "/" + "m" * 200, data=b"l"),
        entry(odd, data=b"not UTF-8"),
        entry("naïve-日本", data=b"UTF-8"),
        link("to-odd", odd),
        entry("big-owner", data=b"", uid=3000000, gid=4000000000),
        folder("sticky", mode=0o1777),
        folder("nobodys", mode=0o000, uid=65534, gid=65534),
        entry("nobodys/file", data=b"in it", mode=0o000),
    )


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "layer"
    path.mkdir()
    return path


def unpacked(data, into, **options):
    return layer.unpack(io.BytesIO(data), str(into), **options)


@contextlib.contextmanager
def blob(data, last_words=""):
    """A layer's stream; ``last_words`` are said after the last byte, as by what verifies a blob's digest."""
    yield io.BytesIO(data)
    if last_words:
        raise StoreError(last_words)


def test_every_kind_of_entry(empty):
    diff_id, size = unpacked(everything(), empty)
    assert diff_id == digest(everything())
    assert size == sum(path.stat().st_blocks * 512 for path in set(empty.rglob("*")) if is_first_file(path))
    assert stat.S_IMODE(os.stat(empty).st_mode) == 0o751
    found = listing(str(empty))
    assert found["usr"][:3] == ("drwxr-sr-x", 3, 4)
    assert found["usr/bin/ping"][4] == {"security.capability": NET_RAW}
    assert found["usr/bin/su"][:3] == ("-rwsr-xr-x", 0, 12)
    assert found["usr/bin/wall"][:3] == ("-rwxr-sr-x", 7, 5)
    assert (empty / "usr/bin/su").stat().st_ino == (empty / "usr/bin/sudo").stat().st_ino
    assert found["bin"][3] == "usr/bin"
    assert found["dangling"][1:4] == (9, 9, "/nowhere/at/all")
    assert found["data"][7] == 1700000000123456789
    assert found["old"][7] == -86400500000000
    assert found["acl"][4] == {"system.posix_acl_access": ACL}
    assert found["tagged"][4] == {"user.note": b"\x00\xffbinary", "trusted.mark": b"1"}
    assert found["pipe"][0] == "prw--w--w-"
    assert found["deep/er"][:3] == ("drwxr-xr-x", 0, 0)
    assert os.fsencode(os.readlink(empty / "to-odd")) == b"caf\xe9-\xff"
    assert b"caf\xe9-\xff" in os.listdir(os.fsencode(empty))
    assert found["big-owner"][1:3] == (3000000, 4000000000)
    assert found["nobodys"][:3] == ("d---------", 65534, 65534)
    assert {value[7] for name, value in found.items() if name.startswith("usr")} == {1700000000 * 10**9}


def is_first_file(path):
    return stat.S_ISREG(os.lstat(path).st_mode) and path.name != "sudo"


def test_what_is_packed_unpacks_to_the_same(empty, tmp_path):
    unpacked(everything(), empty)
    out = io.BytesIO()
    pack.pack(str(empty), out)
    again = tmp_path / "again"
    again.mkdir()
    diff_id, _size = unpacked(out.getvalue(), again, expected=pack.measure(str(empty))[0])
    assert listing(str(again), times=False) == listing(str(empty), times=False)
    assert pack.measure(str(again))[0] == diff_id


def test_gnu_tar_reads_what_is_packed(empty, tmp_path):
    unpacked(everything(), empty)
    with open(tmp_path / "packed.tar", "wb") as out:
        pack.pack(str(empty), out)
    again = tmp_path / "again"
    again.mkdir()
    command = [
        "tar",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "-xpf",
        str(tmp_path / "packed.tar"),
    ]
    subprocess.run([*command, "-C", str(again)], check=True)
    theirs, ours = listing(str(again)), listing(str(empty))
    assert theirs.pop("acl")[:4] == ours.pop("acl")[:4]  # it writes ACLs as text, as nobody does in layers
    # A layer's times have whole seconds.
    assert {name: (*value[:7], int(value[7] / 10**9)) for name, value in theirs.items()} == {
        name: (*value[:7], int(value[7] / 10**9)) for name, value in ours.items()
    }


def test_what_the_host_hands_on_to_new_files_is_not_the_layers(empty, tmp_path):
    """A default ACL and a group of the directory, and the umask."""
    default = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *item) for item in ((1, 7, 2**32 - 1), (4, 0, 2**32 - 1), (32, 0, 2**32 - 1))
    )
    other = tmp_path / "other"
    other.mkdir()
    os.chown(other, 0, 55)
    os.chmod(other, 0o2755)
    os.setxattr(other, "system.posix_acl_default", default)
    before = os.umask(0o077)
    try:
        unpacked(everything(), other)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    unpacked(everything(), empty)
    assert listing(str(other), times=False) == listing(str(empty), times=False)


def test_holes_stay_holes(empty, tmp_path):
    with open(tmp_path / "lastlog", "wb") as file:
        file.truncate(10 << 30)
        file.seek(4 << 30)
        file.write(b"here")
    data = subprocess.run(
        ["tar", "--sparse", "-cf", "-", "-C", str(tmp_path), "lastlog"], check=True, capture_output=True
    ).stdout
    _diff_id, size = unpacked(data, empty)
    assert size < 1 << 20
    again = tmp_path / "again"
    again.mkdir()
    out = io.BytesIO()
    pack.pack(str(empty), out)
    assert len(out.getvalue()) < 1 << 20
    unpacked(out.getvalue(), again)
    for top in (empty, again):
        info = (top / "lastlog").stat()
        assert (info.st_size, info.st_blocks * 512 < 1 << 20) == (10 << 30, True)
        with open(top / "lastlog", "rb") as file:
            file.seek(4 << 30)
            assert file.read(4) == b"here"
    assert subprocess.run(["tar", "-tvf", "-"], input=out.getvalue(), check=True, capture_output=True).stdout.count(
        b"10737418240"
    )


# whiteouts
def device(path):
    info = os.lstat(path)
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def opaque(path):
    with contextlib.suppress(OSError):
        return os.getxattr(path, "trusted.overlay.opaque")
    return None


@contextlib.contextmanager
def mounted(*lower, tmp_path):
    """A real overlay over the layers, the base first."""
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    fd = open_overlay([str(path) for path in reversed(lower)], str(upper), str(work), OVERLAY_OPTIONS)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def below(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    unpacked(tar(folder("d"), entry("d/low", data=b"1"), entry("f", data=b"2"), folder("e"), entry("e/low")), base)
    return base


@pytest.mark.parametrize(
    ("entries", "seen"),
    [
        ([entry(".wh.f"), entry(".wh.d")], {"e", "e/low"}),
        ([entry(".wh.f"), entry("d/.wh.low"), entry("e/high")], {"d", "e", "e/low", "e/high"}),
        ([entry("d/.wh..wh..opq"), entry("d/high")], {"d", "d/high", "e", "e/low", "f"}),
        ([entry("d/high"), entry("d/.wh..wh..opq")], {"d", "d/high", "e", "e/low", "f"}),
        # A name that is deleted and there hides what is below, in whichever order.
        ([entry(".wh.d"), folder("d"), entry("d/high")], {"d", "d/high", "e", "e/low", "f"}),
        ([folder("d"), entry("d/high"), entry(".wh.d")], {"d", "d/high", "e", "e/low", "f"}),
        ([entry(".wh.d"), entry("d/high")], {"d", "d/high", "e", "e/low", "f"}),
        ([entry("d", data=b"file"), entry(".wh.d")], {"d", "e", "e/low", "f"}),
        ([entry(".wh.d"), entry("d", data=b"file")], {"d", "e", "e/low", "f"}),
        # Of two entries with one name the later counts.
        ([entry("d", data=b"file"), folder("d"), entry("d/high")], {"d", "d/high", "e", "e/low", "f"}),
        ([folder("d"), entry("d/high"), entry("d", data=b"file")], {"d", "e", "e/low", "f"}),
        ([entry("f", data=b"file"), link("f", "e")], {"d", "d/low", "e", "e/low", "f"}),
        ([entry(".wh..wh.plnk"), entry(".wh..wh.aufs")], {"d", "d/low", "e", "e/low", "f"}),
    ],
)
def test_whiteouts_as_the_kernel_sees_them(empty, tmp_path, entries, seen):
    base = below(tmp_path)
    unpacked(tar(*entries), empty)
    with mounted(base, empty, tmp_path=tmp_path) as union:
        assert set(listing(union)) == seen
    # Packed and unpacked once more they say the same.
    out, again, other = io.BytesIO(), tmp_path / "again", tmp_path / "other"
    pack.pack(str(empty), out)
    again.mkdir()
    other.mkdir()
    unpacked(out.getvalue(), again)
    with mounted(base, again, tmp_path=other) as union:
        assert set(listing(union)) == seen


def test_the_forms_that_overlayfs_knows(empty):
    unpacked(tar(entry(".wh.gone"), folder("d"), entry("d/.wh..wh..opq"), entry("e/.wh.x")), empty)
    assert device(empty / "gone")
    assert opaque(empty / "d") == b"y"
    assert device(empty / "e/x")
    assert opaque(empty / "e") is None


# hostile
@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text("precious")
    return path


HOSTILE = [
    ([entry("../evil", data=b"x")], "climbs out of the layer"),
    ([entry("a/../../evil", data=b"x")], "climbs out of the layer"),
    ([entry("/etc/evil", data=b"x")], "has an absolute name"),
    ([entry("..", tarfile.DIRTYPE)], "climbs out of the layer"),
    ([link("way", "OUTSIDE"), entry("way/evil", data=b"x")], "leads through 'way', which is no directory"),
    ([link("way", "OUTSIDE"), folder("way/evil")], "leads through 'way', which is no directory"),
    ([link("way", "../outside"), entry("way/.wh.file")], "leads through 'way', which is no directory"),
    ([link("way", "OUTSIDE"), entry("way/.wh..wh..opq")], "leads through 'way', which is no directory"),
    ([link("way", "OUTSIDE"), hard("stolen", "way/file")], "leads to 'way/file', which is no file in it"),
    ([hard("stolen", "../outside/file")], "climbs out of the layer"),
    ([hard("stolen", "OUTSIDE/file")], "which is no file in it"),
    ([hard("stolen", "nothing")], "which is no file in it"),
    ([folder("d"), hard("stolen", "d")], "which is no file in it"),
    ([entry(".wh.gone"), hard("stolen", "gone")], "which is no file in it"),
    ([entry(".wh...")], "names no file"),
    ([entry(".wh..")], "names no file"),
    ([entry(".wh.")], "names no file"),
    ([entry("d/.wh...")], "names no file"),
    ([entry("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3)], "holds the device 'dev/null'"),
    ([entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=0)], "holds the device 'disk'"),
    ([entry("gone", tarfile.CHRTYPE)], "holds the device 'gone'"),
    ([entry("x", b"D")], "unknown kind b'D'"),
    ([link(".", "OUTSIDE")], "would replace the layer's top"),
    ([entry("f", data=b"x"), entry("f/under", data=b"x")], "leads through 'f', which is no directory"),
    ([entry("/".join("d" * 300), data=b"x")], "300 parts"),
    ([entry("n" * 4097, data=b"x")], "4097 characters"),
    ([entry("nul", pax_headers={"path": "x\0y"})], "has a NUL byte in its name"),
    ([link("nul", "", pax_headers={"linkpath": "x\0y"})], "a time or a target that can't be"),
    ([entry("x", uid=-1)], "owner -1:0"),
    ([entry("x", pax_headers={"uid": str(2**32 - 1)})], "owner 4294967295:0"),
    ([entry("x", pax_headers={"mtime": str(10**30)})], "a time or a target that can't be"),
    ([folder("x", pax_headers={"mtime": "nan"})], "a time or a target that can't be"),
    ([folder("x", pax_headers={"mtime": "9" * 30})], "a time that can't be"),
    ([folder("x", uid=-1)], "owner -1:0"),
    ([folder("x"), folder("x/y"), link("x", "OUTSIDE"), folder("x/y")], "leads through 'x', which is no directory"),
]


def aimed(entries, outside):
    """The entries, with links to that directory."""
    found = [(copy.copy(member), data) for member, data in entries]
    for member, _data in found:
        member.linkname = member.linkname.replace("OUTSIDE", str(outside))
    return found


@pytest.mark.parametrize(("entries", "sentence"), HOSTILE, ids=lambda value: value if isinstance(value, str) else "")
def test_hostile_entries_are_refused_and_touch_nothing(empty, outside, entries, sentence):
    before = listing(str(outside))
    kind = tarfile.GNU_FORMAT if "-1" in sentence else tarfile.PAX_FORMAT
    with pytest.raises(StoreError) as caught:
        unpacked(tar(*aimed(entries, outside), kind=kind), empty)
    assert sentence in caught.value.message
    assert "\n" not in str(caught.value)
    assert listing(str(outside)) == before
    assert sorted(path.name for path in empty.parent.iterdir()) == ["layer", "outside"]


def test_a_name_too_long_for_the_kernel_is_an_error_of_ours(empty):
    with pytest.raises(KernelError, match=r"unpack n+: File name too long \[ENAMETOOLONG\]"):
        unpacked(tar(entry("n" * 300)), empty)


def test_a_symlink_is_replaced_and_not_followed(empty, outside):
    data = tar(
        link("f", str(outside / "file")), entry("f", data=b"mine"), link("d", str(outside)), folder("d", mode=0o700)
    )
    unpacked(data, empty)
    assert (outside / "file").read_text() == "precious"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    assert not (empty / "d").is_symlink()


def test_overlayfs_own_xattrs_are_not_taken_from_a_tar(empty):
    headers = xattrs(trusted__overlay__redirect=b"/etc", trusted__overlay__opaque=b"y", security__selinux=b"x")
    unpacked(tar(folder("d", pax_headers=headers), entry("f", pax_headers=headers)), empty)
    assert os.listxattr(empty / "d") == os.listxattr(empty / "f") == []


def test_devices_only_when_asked(empty):
    data = tar(entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666), entry("after", data=b"x"))
    unpacked(data, empty, devices=layer.SKIP)
    assert os.listdir(empty) == ["after"]
    unpacked(data, empty, devices=layer.MAKE)
    assert listing(str(empty))["null"][:1] == ("crw-rw-rw-",)
    with pytest.raises(StoreError, match="holds the device 'gone'"):
        unpacked(tar(entry("gone", tarfile.CHRTYPE)), empty, devices=layer.MAKE)


# Offset and size: names, numbers, kind, devices, prefix, stretches of a sparse file.
FIELDS = ((0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (156, 1), (157, 100), (329, 8), (345, 155), (386, 12),
          (482, 13))  # fmt: skip


def mutated(data, chance):
    """A tar in which some bytes, fields and blocks are others; most of its headers still have the sum that they say."""
    data = bytearray(data)
    for _turn in range(chance.choice((1, 1, 2, 3, 8))):
        at, block = chance.randrange(len(data)), chance.randrange(0, len(data), 512)
        how = chance.randrange(4)
        if how == 0:
            data[at] = chance.choice(b"0123456789\0 \n=,-./xgLKS\x80\xff")
        elif how == 1 and len(data) > 2048:
            del data[at : at + chance.choice((1, 100, 512, 1024))]
        elif how == 2:
            data[at // 512 * 512 : at // 512 * 512] = data[block : block + 512 * chance.choice((1, 2, 3))]
        else:
            field, size = chance.choice(FIELDS)
            value = chance.choice(
                (b"7" * size, b"\xff" * size, bytes(size), b"..", b"a/../../b", b"\x80" + b"\xff" * 9)
            )
            data[block + field : block + field + min(size, len(value))] = value[:size]
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar" and chance.random() < 0.9:
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_a_tar_is_it_is_a_layer_or_a_sentence(tmp_path, seed):
    chance = random.Random(seed)
    plain = [entry("d/f", data=b"x" * 700), hard("h", "d/f"), link("s", "d"), entry(".wh.gone"), folder("e/f")]
    long = [entry("l" * 150, data=b"z"), link("m", "t" * 150)]
    extended = [entry("x", data=b"q", pax_headers={"mtime": "1.5", **xattrs(user__a=b"b")}), folder("y", uid=3000000)]
    seeds = [tar(*plain, kind=tarfile.USTAR_FORMAT), tar(*plain, *long, kind=tarfile.GNU_FORMAT),
             tar(*plain, *long, *extended)]  # fmt: skip
    for number in range(60):
        data = mutated(chance.choice(seeds), chance)
        path = tmp_path / str(number)
        path.mkdir()
        try:
            unpacked(data, path, devices=chance.choice((layer.REFUSE, layer.SKIP, layer.MAKE)), limit=1 << 24)
        except VesselError as error:
            said = str(error)
        else:
            said = "a layer"
        assert "\n" not in said
        shutil.rmtree(path)
    assert os.listdir(tmp_path) == []


# damaged
def test_a_wrong_digest(empty):
    data = tar(entry("x", data=b"x"))
    with pytest.raises(StoreError, match=f"has the digest {digest(data)}, and it should have {digest(b'')}"):
        unpacked(data, empty, expected=digest(b""))


def test_what_lies_behind_the_end_is_part_of_the_digest(empty):
    data = tar(entry("x", data=b"x")) + b"\0" * 99999 + b"behind"
    assert unpacked(data, empty)[0] == digest(data)


@pytest.mark.parametrize("cut", [600, 1000, 1536, 2100, 300])
def test_a_tar_that_is_cut_short(empty, cut):
    data = tar(entry("a", data=b"a" * 600), entry("b", data=b"b"))
    with pytest.raises(StoreError, match=r"the archive is (cut short|damaged)"):
        unpacked(data[:cut] if cut not in (1536,) else data[:cut] + b"\1" * 100, empty)


def test_a_tar_without_an_end_mark_is_taken_by_its_digest_only(empty):
    data = tar(entry("a", data=b"a"))[:1024]
    with pytest.raises(StoreError, match="it has no end mark"):
        unpacked(data, empty)
    unpacked(data, empty, expected=digest(data))


def test_the_last_file_may_lack_its_padding(empty):
    """umoci insert writes such layers, and others take them."""
    data = tar(entry("a", data=b"a"), entry("b", data=b"b"))[: 3 * 512 + 1]
    unpacked(data, empty, expected=digest(data))
    with pytest.raises(StoreError, match="it has no end mark"):
        unpacked(data, empty)


def test_a_damaged_header_is_no_end(empty):
    data = bytearray(tar(entry("a", data=b"a"), entry("b", data=b"b")))
    data[1024 + 10] ^= 1
    with pytest.raises(StoreError, match="the archive is damaged, cut short, or no tar: bad checksum"):
        unpacked(bytes(data), empty)


@pytest.mark.parametrize("size", [2**31, 2**62])
def test_a_header_of_gigabytes_is_not_read(empty, size):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, size
    with pytest.raises(StoreError, match=f"a header says that it has {size} bytes"):
        unpacked(member.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024, empty)


def test_many_extended_headers_in_a_row(empty):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2
    one = member.tobuf(tarfile.GNU_FORMAT) + b"x\0" + bytes(510)
    with pytest.raises(StoreError, match="the archive is damaged"):
        unpacked(one * 5000 + tar(entry("a")), empty)


@pytest.mark.parametrize(
    "records",
    [
        b"12 mtime=x\n",
        b"999 path=x\n",
        b"0 path=x\n",
        b"abc",
        b"30 GNU.sparse.map=5,5,3,3,1,99\n19 GNU.sparse.size=9\n",
    ],
)
def test_headers_that_make_no_sense(empty, records):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, len(records)
    data = member.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512) + tar(entry("x", data=b"x" * 99))
    with contextlib.suppress(StoreError):  # or what makes no sense is not heeded
        unpacked(data, empty)
    assert set(os.listdir(empty)) <= {"x"}


def test_a_negative_size_does_not_lead_back(empty):
    member = tarfile.TarInfo("x")
    header = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"\xff" * 12
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(StoreError, match="the archive is damaged"):
        unpacked(bytes(header) + tar(entry("a")), empty)


@pytest.mark.parametrize("data", [b"", b"no tar at all", b"x" * 10000, b"\x1f\x8b garbage"], ids=len)
def test_no_tar(empty, data):
    with pytest.raises(StoreError, match="the archive is damaged, cut short, or no tar"):
        unpacked(data, empty)


def test_an_empty_tar_is_an_empty_layer(empty):
    assert unpacked(bytes(1024), empty) == (digest(bytes(1024)), 0)


# bombs
def test_a_sparse_bomb_against_a_limit(empty, tmp_path):
    with open(tmp_path / "bomb", "wb") as file:
        file.truncate(10 << 30)
    data = subprocess.run(
        ["tar", "--sparse", "-cf", "-", "-C", str(tmp_path), "bomb"], check=True, capture_output=True
    ).stdout
    with pytest.raises(StoreError, match="unpacks to more than the 1000000 bytes that are allowed"):
        unpacked(data, empty, limit=1000000)


def test_a_file_bomb_against_a_limit(empty):
    data = tar(*(entry(f"f{index}", data=bytes(300000)) for index in range(5)))
    with pytest.raises(StoreError, match="unpacks to more than the 1000000 bytes that are allowed"):
        unpacked(data, empty, limit=1000000)
    unpacked(data, empty, limit=2000000)


# umoci
@pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")
def test_umoci_unpacks_the_same(empty, tmp_path):
    """Entry by entry, over several layers; umoci flattens them, as a mounted overlay does."""
    layers = [
        everything(),
        tar(
            entry(".wh.data"),
            folder("usr", uid=3, gid=4),
            entry("usr/.wh..wh..opq"),
            entry("usr/new", data=b"new"),
            folder("deep", mode=0o700),
        ),
        tar(entry(".wh.sticky"), folder("sticky"), entry("sticky/in", data=b"x"), hard("sticky/link", "sticky/in")),
        tar(folder("bin"), entry("bin/sh", data=b"sh", mode=0o755), link("acl", "bin")),
    ]
    layout = Layout()
    image = layout.image([(gzip.compress(data) if index % 2 else data, data) for index, data in enumerate(layers)])
    manifest = json.loads(layout.blobs[image["digest"]])
    for index, item in enumerate(manifest["layers"]):
        item["mediaType"] += "+gzip" if index % 2 else ""
    config = json.loads(layout.blobs[manifest["config"]["digest"]])
    manifest["config"] = layout.blob({"architecture": "amd64", "config": {}, **config}, manifest["config"]["mediaType"])
    image = named(layout.blob(manifest, image["mediaType"]), "all")
    with tarfile.open(fileobj=io.BytesIO(layout.tar(image))) as archive:
        extract(archive, tmp_path / "oci")
    command = ["umoci", "unpack", "--image", f"{tmp_path}/oci:all", str(tmp_path / "bundle")]
    subprocess.run(command, check=True, capture_output=True)
    ours = []
    for index, data in enumerate(layers):
        path = tmp_path / f"layer{index}"
        path.mkdir()
        unpacked(data, path)
        ours.append(path)
    theirs = listing(str(tmp_path / "bundle/rootfs"))
    with mounted(*ours, tmp_path=tmp_path) as union:
        found = listing(union)
    assert set(found) == set(theirs)
    different = {
        name: (found[name], theirs[name]) for name in found if same_part(found[name]) != same_part(theirs[name])
    }
    assert different == {}


def same_part(value):
    """An overlay's directories have xattrs of its own, and times of the topmost layer that has something in them."""
    mode, uid, gid, content, extended, first, rdev, time = value
    extended = {key: item for key, item in extended.items() if not key.startswith("trusted.overlay")}
    return mode, uid, gid, content, extended, first, rdev, (time if not mode.startswith("d") else 0)
