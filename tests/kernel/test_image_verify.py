# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage in the store, of each kind, is found, and nothing else is."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import layer, pack
from ansible_collections.vessel.host.plugins.module_utils._image.apply import apply
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._image.verify import Damage, verify
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import digest, entry, folder, link, tar
from .test_image_headers import KEPT, LOST, NULL
from .test_image_layer import ACL, blob, everything, xattrs

pytestmark = pytest.mark.root

MARKS = tar(
    entry(".wh.gone"), folder("d"), entry("d/.wh..wh..opq"), entry("e/f/.wh.x"), entry(".wh.both"), folder("both"),
    folder("later"), entry(".wh.later"), link("was", "x"), folder("was"),
)  # fmt: skip
OPAQUE = "trusted.overlay.opaque"


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


@pytest.fixture
def put(store):
    def put(*layers, **options):
        with store.work() as work:
            for data in layers:
                apply(work, digest(data), lambda data=data: blob(data), "here", **options)
            return store.put("x:1", {"rootfs": {"diff_ids": [digest(data) for data in layers]}})

    return put


@pytest.fixture
def ours(store):
    """An image whose layer we packed."""
    with store.work() as work:
        directory = work.directory()
        layer.unpack(io.BytesIO(everything()), directory)
        diff_id, size = pack.measure(directory)
        work.adopt(directory, diff_id, size)
        return store.put("x:1", {"rootfs": {"diff_ids": [diff_id]}})


WHOLE = {**KEPT, **LOST, "marks": MARKS}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_what_is_whole_is_not_damaged(store, put, data):
    assert verify(store, put(data)) == []


@pytest.mark.parametrize("devices", [layer.SKIP, layer.MAKE])
def test_devices_that_were_left_out_are_not_missing(store, put, devices):
    assert verify(store, put(tar(NULL), tar(entry("x")), devices=devices)) == []


def test_one_that_we_packed(store, ours):
    assert verify(store, ours) == []


def timeless(change):
    """The change, which nobody sees by the directory's time."""

    def changed(path: Path) -> None:
        info = path.parent.stat()
        change(path)
        os.utime(path.parent, ns=(info.st_atime_ns, info.st_mtime_ns))

    return changed


def flip(path: Path) -> None:
    """One bit, with the file's time as it was."""
    info, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def copy(path: Path) -> None:
    """The same file, and no hard link any more."""
    data, info = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(data)
    os.chown(path, info.st_uid, info.st_gid)
    path.chmod(info.st_mode)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def relink(path: Path) -> None:
    path.unlink()
    os.symlink("/etc/shadow", path)


def replace(path: Path) -> None:
    path.unlink()
    path.write_text("")


remove, add = timeless(os.unlink), timeless(Path.touch)
DAMAGES = {
    "a bit": ("data", flip, "what is stored has the digest sha256:"),
    "a mode": ("usr/bin/su", lambda path: path.chmod(0o755), "has the mode 0755, and should have 4755"),
    "a directory's mode": ("sticky", lambda path: path.chmod(0o777), "has the mode 0777, and should have 1777"),
    "an owner": ("usr", lambda path: os.chown(path, 0, 0), "has the owner 0:0, and should have 3:4"),
    "a link's owner": ("dangling", lambda path: os.lchown(path, 0, 0), "has the owner 0:0, and should have 9:9"),
    "an xattr": ("tagged", lambda path: os.setxattr(path, "user.note", b"x"), "has another user.note"),
    "no xattr": ("tagged", lambda path: os.removexattr(path, "trusted.mark"), "has lost trusted.mark"),
    "one more": ("data", lambda path: os.setxattr(path, "user.x", b"x"), "has user.x, which is not in the layer"),
    "no capability": (
        "usr/bin/ping", lambda path: os.removexattr(path, "security.capability"), "has lost security.capability"
    ),
    "no ACL": (
        "acl", lambda path: (os.removexattr(path, "system.posix_acl_access"), path.chmod(0o640)),
        "has lost system.posix_acl_access",
    ),
    "a time": ("old", lambda path: os.utime(path, (1, 1)), "has the time 1000000000, and should have -86400500000000"),
    "a file is missing": ("naïve-日本", remove, "its file naïve-日本 can't be read"),
    "an empty file is missing": ("old", remove, "is missing"),
    "a link is missing": ("bin", remove, "is missing"),
    "a file too many": ("usr/new", add, "is not in the layer"),
    "a link elsewhere": ("bin", timeless(relink), "leads elsewhere"),
    "no hard link": ("usr/bin/sudo", timeless(copy), "is no hard link to usr/bin/su"),
    "no pipe": ("pipe", timeless(replace), "is -rw-r--r--, which its entry is not"),
    "an unsaid directory": ("deep/er", lambda path: path.chmod(0o777), "has another owner or mode"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_each_damage_is_found(store, put, name, damage, sentence):
    image = put(tar(entry("other")), everything())
    damage(Path(store.layer_path(image.layers[1]), name))
    (found,) = verify(store, image)
    assert found.digest == image.layers[1]
    assert found.problem.startswith((f"{name} {sentence}", sentence)), found.problem


@pytest.mark.parametrize(("name", "damage", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_each_damage_is_found_where_there_are_no_headers(store, ours, name, damage, sentence):
    """All is in the tar that we pack."""
    damage(Path(store.layer_path(ours.layers[0]), name))
    (found,) = verify(store, ours)
    assert found.digest == ours.layers[0]


MARK_DAMAGES = {
    "no whiteout": ("gone", remove, "gone is missing"),
    "no whiteout deep": ("e/f/x", remove, "e/f/x is missing"),
    "not opaque": ("d", lambda path: os.removexattr(path, OPAQUE), "d is not opaque any more"),
    "not opaque by a whiteout": ("later", lambda path: os.removexattr(path, OPAQUE), "later is not opaque any more"),
    "opaque": ("e/f", lambda path: os.setxattr(path, OPAQUE, b"y"), "e/f is opaque"),
    "a whiteout too many": ("new", lambda path: os.mknod(path, 0o020000, 0), "new is not in the layer"),
}


@pytest.mark.parametrize(("name", "damage", "sentence"), MARK_DAMAGES.values(), ids=MARK_DAMAGES)
def test_marks_that_are_damaged(store, put, name, damage, sentence):
    image = put(MARKS)
    damage(Path(store.layer_path(image.layers[0]), name))
    assert verify(store, image) == [Damage(image.layers[0], sentence)]


def test_an_acl_that_says_what_the_mode_says(store, put):
    """The kernel keeps it as the mode."""
    minimal = ACL[:12] + ACL[20:28] + ACL[36:44]
    assert verify(store, put(tar(entry("x", mode=0o640, pax_headers=xattrs(system__posix_acl_access=minimal))))) == []


def test_a_layer_and_a_configuration_that_are_missing_or_damaged(store, put):
    image = put(everything(), MARKS)
    os.unlink(f"{store.layer_path(image.layers[0])}.json")
    config = Path(f"{store.images_dir}/{image.id[7:]}/config.json")
    config.write_bytes(data := config.read_bytes() + b" ")
    assert verify(store, image) == [
        Damage(image.id, f"the configuration has the digest {digest(data)}"),
        Damage(image.layers[0], "the layer is not in the store"),
    ]
    config.unlink()
    assert verify(store, image)[0] == Damage(image.id, f"image x:1: its configuration {image.id} is missing")


@pytest.mark.parametrize("data", [b"", b"garbage"])
def test_headers_that_are_damaged(store, put, data):
    image = put(everything())
    Path(store.headers(image.layers[0])).write_bytes(data)
    (found,) = verify(store, image)
    assert found.digest == image.layers[0]


def test_nothing_is_changed_by_it(store, put):
    image = put(everything())
    before = Path(store.layer_path(image.layers[0]), "data").stat()
    verify(store, image)
    assert Path(store.layer_path(image.layers[0]), "data").stat().st_mtime_ns == before.st_mtime_ns
    assert store.layer_size(image.layers[0])


def truncate(path):
    os.truncate(path, 5)


def be_directory(path):
    path.unlink()
    path.mkdir()


SAYS = [truncate, lambda path: os.truncate(path, 0), lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"size": "x"}'), lambda path: path.write_text("{}"), be_directory]  # fmt: skip


@pytest.mark.parametrize("damage", SAYS)
def test_a_layer_s_record_that_is_damaged_is_found_and_made_anew(store, put, damage):
    image = put(MARKS)
    damage(Path(f"{store.layer_path(image.layers[0])}.json"))
    with pytest.raises(StoreError, match=r"\.json is damaged \(remove") as caught:
        store.layer_size(image.layers[0])
    (found,) = verify(store, image)
    assert (found.digest, found.problem) == (image.layers[0], caught.value.message)
    store.drop_layers([found.digest])
    assert put(MARKS).layers == image.layers
    assert verify(store, image) == []


@pytest.mark.parametrize("damage", SAYS)
def test_nor_does_it_hinder_removal(store, put, damage):
    image = put(MARKS)
    damage(Path(f"{store.layer_path(image.layers[0])}.json"))
    store.untag("x:1")
    assert store.collect(keep_cache=False) == 0
    assert not os.path.exists(store.paths.state)


@pytest.mark.parametrize("rest", ["nothing", "a file", "a directory"])
def test_a_layer_whose_directory_has_gone_is_none(store, put, rest):
    image = put(MARKS)
    path = Path(store.layer_path(image.layers[0]))
    shutil.rmtree(path)
    if rest == "a file":
        path.write_text("x")
    if rest == "a directory":
        be_directory(Path(f"{path}.json"))
    assert store.whole("x:1") is None
    with pytest.raises(StoreError, match=r"^image x:1: its layer sha256:[0-9a-f]+ is not in the store \(make it again"):
        store.directories(image)
    assert put(MARKS) == image
    assert verify(store, image) == []


@pytest.mark.parametrize("text", ["{}", '{"layer": 7}', '{"layer": "x"}', "[", ""])
def test_a_key_that_is_damaged_is_of_no_use_and_no_hindrance(store, put, text):
    image = put(MARKS)
    store.set_key("a" * 64, image.layers[0])
    Path(f"{store.keys_dir}/{'a' * 64}").write_text(text)
    assert store.layer_for("a" * 64) == ""
    store.collect()
    assert not os.path.exists(store.keys_dir)


@pytest.mark.parametrize("text", ["{}", '{"name": "x:1"}', '{"name": "x:1", "id": 7, "key": "", "created": ""}', "["])
def test_a_name_that_is_damaged_is_a_sentence_and_is_given_anew(store, put, text):
    image = put(MARKS)
    (path,) = Path(store.names_dir).iterdir()
    path.write_text(text)
    for ask in (store.names, lambda: store.get("x:1")):
        with pytest.raises(StoreError, match=r"x%3A1\.json is damaged \(remove"):
            ask()
    assert store.whole("x:1") is None
    assert put(MARKS).id == image.id
    assert store.names() == ["x:1"]
