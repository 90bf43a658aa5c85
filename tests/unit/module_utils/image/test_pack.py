# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packing a directory as a layer: the same content is the same digest."""

from __future__ import annotations

import io
import os
import shutil
import socket
import tarfile

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import pack

from ....image_tars import digest


def make(top, names):
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (top / "link").symlink_to("z")
    for directory, _folders, files in os.walk(top):
        for path in (*(os.path.join(directory, file) for file in files), directory):
            os.utime(path, (1000, 1000), follow_symlinks=False)
            os.chmod(path, 0o755) if not os.path.islink(path) else None
    return top


def packed(top, **options):
    out = io.BytesIO()
    pack.pack(str(top), out, **options)
    return out.getvalue()


NAMES = ["b/x", "b/y", "a", "b-", "z", "é", "n" * 150 + "/" + "m" * 150]


def test_the_order_of_making_says_nothing(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    data = packed(make(one, NAMES))
    assert packed(make(other, NAMES[::-1])) == data
    assert pack.measure(str(one))[0] == digest(data)


def test_a_stock_reader_finds_all_of_it_parents_first(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(packed(make(tmp_path, NAMES)))) as archive:
        members = archive.getmembers()
        assert [m.name for m in members] == [
            ".", "a", "b", "b/x", "b/y", "b-", "link", "n" * 150, "n" * 150 + "/" + "m" * 150, "z", "é",
        ]  # fmt: skip
        assert archive.extractfile("b/x").read() == b"b/x"
        assert {(m.mtime, m.uname, m.gname) for m in members} == {(1000, "", "")}
        assert archive.getmember("link").linkname == "z"


def test_hard_links_are_one_file(tmp_path):
    (tmp_path / "b").write_text("once")
    os.link(tmp_path / "b", tmp_path / "a")
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path))) as archive:
        assert [(m.name, m.type, m.linkname) for m in archive.getmembers()[1:]] == [
            ("a", tarfile.REGTYPE, ""),
            ("b", tarfile.LNKTYPE, "a"),
        ]


def test_sockets_are_left_out_and_some_directories_empty(tmp_path):
    import socket

    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/null").write_text("")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        with tarfile.open(fileobj=io.BytesIO(packed(tmp_path, empty=("dev",)))) as archive:
            assert archive.getnames() == [".", "dev"]


def test_a_name_that_marks_a_deletion_is_refused(tmp_path):
    (tmp_path / ".wh.file").write_text("")
    with pytest.raises(StoreError, match=r"\.wh\.file can't be in an image"):
        packed(tmp_path)


@pytest.mark.parametrize("size", [8 << 30, (8 << 30) - 1])
def test_sizes_beyond_ustar(size):
    data = pack.header(b"big", None, b"0", size=size)
    with tarfile.open(fileobj=io.BytesIO(data + bytes(1024)), ignore_zeros=False) as archive:
        assert archive.next().size == size


def test_records_count_their_own_length():
    for length in range(1, 1100):
        data = pack.header(b"p" * length, None, b"0")
        with tarfile.open(fileobj=io.BytesIO(data + bytes(1024))) as archive:
            assert archive.getnames() == ["p" * length]


# a directory that others write to
class Meddler(io.BytesIO):
    """What happens when the entry ``a`` is written, which is the first."""

    def __init__(self, act):
        super().__init__()
        self.act = act

    def write(self, data):
        if self.act and data.startswith(b"a\0"):
            self.act, act = None, self.act
            act()
        return super().write(data)


def replace(path, make):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


@pytest.mark.parametrize("name", ["file", "dir", "symlink", "linked"])
def test_what_has_gone_before_its_turn_is_left_out(tmp_path, name):
    top = tmp_path / "top"
    (top / "dir/sub").mkdir(parents=True)
    for file in ("a", "file", "linked", "z"):
        (top / file).write_text(file)
    os.link(top / "linked", top / "links-too")
    (top / "symlink").symlink_to("z")
    out = Meddler(lambda: replace(top / name, lambda path: None))
    pack.pack(str(top), out, busy=True)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        assert archive.extractfile("links-too").read() == b"linked"
        gone = {"dir", "dir/sub"} if name == "dir" else {name}
        everything = {".", "a", "dir", "dir/sub", "file", "linked", "links-too", "symlink", "z"}
        assert set(archive.getnames()) == everything - gone


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("file", lambda path: None),
        ("file", os.mkfifo),
        ("file", lambda path: path.symlink_to("/etc/passwd")),
        ("file", os.mkdir),
        ("file", lambda path: socket.socket(socket.AF_UNIX).bind(str(path))),
        ("dir", lambda path: path.symlink_to("/etc")),
        ("dir", lambda path: path.write_text("x")),
        ("symlink", lambda path: path.write_text("x")),
        ("symlink", os.mkdir),
    ],
)
def test_what_became_another_thing_after_it_was_looked_at_is_left_out(tmp_path, name, make):
    """Nobody waits for a FIFO's writer, and no symlink leads out."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("file")
    (tmp_path / "symlink").symlink_to("file")
    info = os.lstat(tmp_path / name)
    replace(tmp_path / name, make)
    out, top = io.BytesIO(), os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(pack._Gone):
            pack._Packer(out, (), devices=True, busy=True)._entry(top, name.encode(), name.encode(), info)
    finally:
        os.close(top)
    assert out.getvalue() == b""


def test_what_has_gone_is_an_error_where_nobody_should_write(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileNotFoundError):
        pack.pack(str(tmp_path), Meddler((tmp_path / "b").unlink))


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_a_file_that_is_cut_off_while_it_is_read_ends_in_zeros(tmp_path, size):
    (tmp_path / "a").write_bytes(b"x" * size)

    class Cutter(Meddler):
        def write(self, data):
            done = super().write(data)
            if data.startswith(b"a\0"):
                os.truncate(tmp_path / "a", 10)
            return done

    out = Cutter(None)
    pack.pack(str(tmp_path), out, busy=True)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        assert archive.extractfile("a").read() == b"x" * 10 + bytes(size - 10)
    (tmp_path / "a").write_bytes(b"x" * size)
    with pytest.raises(StoreError, match="a became shorter while it was read"):
        pack.pack(str(tmp_path), Cutter(None))
