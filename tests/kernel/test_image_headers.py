# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers from elsewhere, given back byte for byte; those that can't be, packed anew and known for it."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import diff, layer, pack
from ansible_collections.vessel.host.plugins.module_utils._image.apply import apply
from ansible_collections.vessel.host.plugins.module_utils._image.store import Image, Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import digest, entry, folder, hard, link, tar
from .test_image_layer import blob, everything

pytestmark = pytest.mark.root

NULL = entry("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3)


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


@pytest.fixture
def put(store):
    """Bring a layer in, with an image that keeps it; its digest."""

    def put(data, **options):
        with store.work() as work:
            apply(work, digest(data), lambda: blob(data), "here", **options)
            store.put("x:1", {"rootfs": {"diff_ids": [digest(data)]}})
        return digest(data)

    return put


def given(store, diff_id):
    out = io.BytesIO()
    told = diff.write(store, diff_id, out)
    assert told == (digest(out.getvalue()), len(out.getvalue()))
    return out.getvalue()


def padded():
    """What is between the entries is not zeros, as nobody writes it and everybody reads it."""
    data = bytearray(tar(entry("a", data=b"a" * 600), entry("b", data=b"b")))
    data[512 + 600 : 512 + 1024] = b"#" * 424
    return bytes(data)


def many():
    return tar(*(entry(f"d/{number}", data=os.urandom(number % 700)) for number in range(4000)))


KEPT = {
    "everything": everything(),
    "as GNU has it": tar(entry("n" * 180, data=b"x"), folder("d"), kind=tarfile.GNU_FORMAT),
    "ustar": tar(entry("d" * 90 + "/" + "n" * 90, data=b"x"), folder("d"), kind=tarfile.USTAR_FORMAT),
    "nothing": bytes(1024),
    "no end": tar(entry("a", data=b"a"))[:1024],
    "behind the end": tar(entry("a", data=b"a")) + b"\0" * 9999 + b"behind",
    "odd padding": padded(),
    "whiteouts": tar(entry(".wh.a"), folder("d"), entry("d/.wh..wh..opq"), entry(".wh..wh.plnk", data=b"aufs" * 300)),
    "twice": tar(folder("d"), entry("a"), folder("d", mode=0o700), entry("a"), link("l", "a"), link("l", "b")),
    "links": tar(entry("a", data=b"a" * 999), hard("b", "a"), entry("c", data=b"c" * 999), hard("0", "c")),
    "thousands": many(),
}  # fmt: skip


@pytest.mark.parametrize("data", KEPT.values(), ids=KEPT)
def test_it_comes_back_byte_for_byte(store, put, data):
    diff_id = put(data)
    assert store.headers(diff_id)
    assert store.packed(diff_id) == diff_id
    assert given(store, diff_id) == data


@pytest.mark.parametrize("devices", [layer.SKIP, layer.MAKE])
def test_devices_come_back_even_if_they_were_left_out(store, put, devices):
    data = tar(NULL, entry("x", data=b"x"))
    assert given(store, put(data, devices=devices)) == data


@pytest.mark.parametrize("form", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"])
def test_holes_come_back(store, put, tmp_path, form):
    with open(tmp_path / "lastlog", "wb") as file:
        for offset in range(0, 40):
            file.seek(offset << 22)
            file.write(b"here" * 500)
        file.truncate(1 << 30)
    command = ["tar", "--sparse", *f"--format={form}".split(), "-cf", "-", "-C", str(tmp_path), "lastlog"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert given(store, put(data)) == data


LOST = {
    "a file twice": tar(entry("a", data=b"first"), entry("a", data=b"second")),
    "a file, then a link": tar(entry("a", data=b"first"), link("a", "b")),
    "a directory, then a file": tar(folder("d"), entry("d/a", data=b"a"), entry("d", data=b"d")),
    "bytes of nobody": tar(entry(".wh..wh.orph", data=bytes(2 << 20)), entry("x", data=b"x")),
    "bytes behind the end": tar(entry("x", data=b"x")) + b"\1" * (2 << 20),
}


@pytest.mark.parametrize("data", LOST.values(), ids=LOST)
def test_it_is_packed_anew_and_that_is_known(store, put, data):
    diff_id = put(data)
    assert not store.headers(diff_id)
    packed = given(store, diff_id)
    assert store.packed(diff_id) == digest(packed) == pack.measure(store.layer_path(diff_id))[0]
    assert digest(packed) != diff_id
    assert not [name for name in os.listdir(store.layers) if "headers" in name]


def test_one_that_we_packed_needs_no_headers(store, tmp_path):
    with store.work() as work:
        directory = work.directory()
        layer.unpack(io.BytesIO(everything()), directory)
        diff_id, size = pack.measure(directory)
        work.adopt(directory, diff_id, size)
        assert not store.headers(diff_id)
        assert digest(given(store, diff_id)) == diff_id


def test_headers_are_small_counted_and_go_with_their_layer(store, put):
    data = many()
    diff_id = put(data)
    headers = os.stat(store.headers(diff_id))
    assert headers.st_size < len(data) / 20
    with store.work() as work:
        dummy, size = layer.unpack(io.BytesIO(data), work.directory())
    assert store.layer_size(diff_id) == size + headers.st_blocks * 512
    store.untag("x:1")
    assert store.collect() == size + headers.st_blocks * 512
    assert not os.path.exists(store.paths.state)


def test_what_a_killed_process_left_is_swept(store, put):
    """It renamed the headers, and did not get as far as the size."""
    diff_id = put(everything())
    left = f"{store.layers}/{'0' * 64}.headers"
    os.link(store.headers(diff_id), left)
    store.sweep()
    assert not os.path.exists(left)
    assert given(store, diff_id) == everything()


def write(path, data=b"x"):
    with open(path, "r+b") as file:
        file.write(data)


DAMAGES = {
    "a byte": (lambda top: write(top / "data"), "what is stored has the digest sha256:"),
    "too short": (lambda top: os.truncate(top / "data", 7), "its file data is too short"),
    "gone": (lambda top: os.unlink(top / "data"), "its file data can't be read: No such file or directory"),
    "a link": (
        lambda top: (os.unlink(top / "data"), os.symlink("/etc/passwd", top / "data")),
        "its file data can't be",
    ),
    "a directory": (lambda top: (os.unlink(top / "data"), os.mkdir(top / "data")), "its file data can't be read"),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_not_as_it_was_is_not_given_out(store, put, tmp_path, damage, sentence):
    data = tar(entry("data", data=b"0123456789"))
    diff_id = put(data)
    path = type(tmp_path)(store.layer_path(diff_id))
    damage(path)
    with pytest.raises(StoreError) as caught:
        given(store, diff_id)
    assert caught.value.message.startswith(f"the layer {diff_id} is damaged: {sentence}")
    assert caught.value.hint == "make its image again with force"


@pytest.mark.parametrize("data", [b"", b"garbage", b"half"])
def test_headers_that_are_damaged(store, put, data):
    diff_id = put(everything())
    path = store.headers(diff_id)
    with open(path, "r+b") as file:
        whole = file.read()
        file.seek(0)
        file.truncate()
        file.write(whole[:-99] if data == b"half" else data)
    with pytest.raises(StoreError, match=f"the layer {diff_id} is damaged: "):
        given(store, diff_id)


def test_an_image_without_them_has_the_layer_all_the_same(store, put):
    """Mounting needs the directory alone."""
    diff_id = put(everything())
    os.unlink(store.headers(diff_id))
    assert store.directories(Image("x:1", "", (diff_id,))) == [store.layer_path(diff_id)]
