# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in and out of the store, judged by skopeo and umoci: they read what is saved, and we what they write."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import archive, config, rootfs
from ansible_collections.vessel.host.plugins.module_utils._image.apply import apply
from ansible_collections.vessel.host.plugins.module_utils._image.progress import Progress
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import digest, docker_archive, entry, extract, folder, hard, link, listing, tar
from .test_image_layer import blob

pytestmark = pytest.mark.root

needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
needs_umoci = pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")

BASE = tar(
    folder("etc"),
    entry("etc/passwd", data=b"root:x:0:0::/:/bin/sh\n"),
    folder("usr/bin"),
    entry("usr/bin/su", data=b"su", mode=0o4755),
    hard("usr/bin/sudo", "usr/bin/su"),
    link("bin", "usr/bin"),
    entry("naïve" + "x" * 150, data=b"long"),
)
TOP = tar(
    folder("etc"), entry("etc/.wh.passwd"), folder("usr"), entry("usr/.wh..wh..opq"), entry("usr/new", data=b"new")
)


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


@pytest.fixture
def image(store, tmp_path):
    path = tmp_path / "docker.tar"
    path.write_bytes(docker_archive([BASE, TOP], ["x:1"], config={"architecture": config.architecture()}))
    return archive.load(store, str(path), "localhost/x:1")


@pytest.fixture
def saved(store, image, tmp_path):
    path = tmp_path / "saved.tar"
    archive.save(store, image, str(path))
    return path


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def layers(store, image):
    return [listing(path, times=False) for path in store.directories(image)]


def test_what_is_saved_is_the_same_image_elsewhere(store, image, saved, tmp_path):
    other = Store(Paths.at(str(tmp_path / "other")))
    loaded = archive.load(other, str(saved), "y:1")
    assert layers(other, loaded) == layers(store, image)
    assert loaded.config == image.config
    # Who packed them is seen in the digests of layers from elsewhere; those that we packed keep theirs.
    again = tmp_path / "again.tar"
    archive.save(other, other.tag(loaded, "localhost/x:1"), str(again))
    assert again.read_bytes() == saved.read_bytes()
    assert archive.load(store, str(again), "z:1").id == loaded.id
    assert sorted(path.name for path in tmp_path.glob("*.new")) == []


@needs_skopeo
def test_skopeo_reads_what_is_saved(store, image, saved, tmp_path):
    told = json.loads(run("skopeo", "inspect", f"oci-archive:{saved}"))
    assert (told["Os"], told["Architecture"]) == ("linux", config.architecture())
    run("skopeo", "copy", f"oci-archive:{saved}", f"docker-archive:{tmp_path}/theirs.tar:x:2")
    other = Store(Paths.at(str(tmp_path / "other")))
    loaded = archive.load(other, str(tmp_path / "theirs.tar"), "y:1")
    assert layers(other, loaded) == layers(store, image)


@needs_skopeo
@pytest.mark.parametrize("form", ["oci-archive:{}:x:2", "docker-archive:{}:x:2"])
@pytest.mark.parametrize("options", [[], ["--dest-compress-format=zstd"], ["--dest-oci-accept-uncompressed-layers"]])
def test_what_skopeo_writes_is_loaded(store, image, saved, tmp_path, form, options):
    run("skopeo", "copy", *options, f"oci-archive:{saved}", form.format(tmp_path / "theirs.tar"))
    if "zstd" in str(options) and not shutil.which("zstd"):
        pytest.skip("zstd is not installed")
    loaded = archive.load(store, str(tmp_path / "theirs.tar"), "y:1", "x:2")
    assert layers(store, loaded) == layers(store, image)
    assert digest(store.configuration(loaded)) == loaded.id


@needs_umoci
def test_umoci_unpacks_what_is_saved(store, image, saved, tmp_path):
    with tarfile.open(saved) as source:
        extract(source, tmp_path / "oci")
    index = json.loads((tmp_path / "oci/index.json").read_text())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    (tmp_path / "oci/index.json").write_text(json.dumps(index))
    run("umoci", "unpack", "--image", f"{tmp_path}/oci:x", tmp_path / "bundle")
    found = listing(str(tmp_path / "bundle/rootfs"), times=False)
    assert {name for name in found if "/" not in name} == {"etc", "usr", "bin", "naïve" + "x" * 150}
    assert [name for name in found if name.startswith(("etc/", "usr/"))] == ["usr/new"]


def test_a_layer_that_is_shared_is_unpacked_once(store, image, tmp_path):
    path = tmp_path / "other.tar"
    path.write_bytes(docker_archive([BASE], ["y:1"]))
    inode = os.stat(store.layer_path(digest(BASE))).st_ino
    other = archive.load(store, str(path), "y:1")
    assert other.layers[0] == image.layers[0]
    assert os.stat(store.layer_path(digest(BASE))).st_ino == inode


def test_two_processes_that_load_the_same_do_the_work_once(store, tmp_path):
    """Both end well; the layer is there, and was unpacked by one of them."""
    big = tar(*(entry(f"f{number}", data=bytes(5000)) for number in range(3000)))
    path = tmp_path / "big.tar"
    path.write_bytes(docker_archive([big], ["x:1"]))
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            counted(tmp_path / "unpacked")
            archive.load(Store(store.paths), str(path), f"x:{number}")
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert (tmp_path / "unpacked").read_text() == "1"
    assert len(os.listdir(store.layer_path(digest(big)))) == 3000
    assert store.names() == ["x:0", "x:1", "x:2"]


def counted(path):
    real = archive.layer.unpack

    def unpack(*args, **options):
        with open(path, "a") as file:
            file.write("1")
        return real(*args, **options)

    archive.layer.unpack = unpack


def test_a_layer_is_applied_once_and_told_of(store):
    told = []

    class Told(Progress):
        def say(self, what, text):
            told.append((what, text))

    with store.work() as work:
        for expected in (True, False):
            assert apply(work, digest(BASE), lambda: blob(BASE), "here", progress=Told()) is expected
        apply(work, digest(BASE), lambda: pytest.fail("it is opened"), "here")
    assert told == [(digest(BASE), "unpacked"), (digest(BASE), "exists")]


@pytest.mark.parametrize(
    ("data", "last_words", "sentence"),
    [
        (TOP, "", f"here: the layer has the digest {digest(TOP)}, and it should have {digest(BASE)}"),
        (BASE[:700], "", "here: the archive is damaged, cut short, or no tar: truncated header"),
        (BASE, "here: the blob is another", "here: the blob is another"),
    ],
)
def test_a_layer_that_is_refused_says_where_it_came_from_and_leaves_nothing(store, data, last_words, sentence):
    with pytest.raises(StoreError) as caught, store.work() as work:
        apply(work, digest(BASE), lambda: blob(data, last_words), "here")
    assert caught.value.message == sentence
    assert not os.path.exists(store.paths.state)


def test_killed_while_it_loads(store, tmp_path):
    """By SIGKILL at some moment: nothing half made counts, and the next run ends as one that was never killed."""
    big = tar(*(entry(f"d/f{number}", data=bytes(3000)) for number in range(4000)))
    path = tmp_path / "big.tar"
    path.write_bytes(docker_archive([big, TOP], ["x:1"]))
    for pause in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4):
        child = os.fork()
        if child == 0:
            archive.load(Store(store.paths), str(path), "x:1")
            os._exit(0)
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for name in os.listdir(store.layers) if os.path.isdir(store.layers) else []:
            if name.endswith(".json"):
                assert len(listing(f"{store.layers}/{name[:-5]}")) in (4001, 4)
    assert layers(store, archive.load(store, str(path), "x:1"))[0].keys() >= {"d/f0", "d/f3999"}
    assert [name for name in os.listdir(store.layers) if name.startswith(".")] == []
    store.untag("x:1")
    store.collect()
    assert not os.path.exists(store.paths.state)


@pytest.mark.parametrize(
    ("pack", "sentence"),
    [
        (bytes, r": 0/layer\.tar: unpack big: No space left on device \[ENOSPC\]"),
        (
            gzip.compress,
            r" unpacks to more than \d+ bytes, for which there is no room left in the store \(max_size .*\)",
        ),
    ],
)
def test_a_full_disk_leaves_nothing(tmp_path, pack, sentence):
    """On a file system of its own, that is too small."""
    place = tmp_path / "small"
    place.mkdir()
    path = tmp_path / "big.tar"
    path.write_bytes(pack(docker_archive([tar(entry("big", data=bytes(8 << 20)))], ["x:1"])))
    program = f"""
import ctypes, sys
sys.path[:0] = {[str(Path(__file__).parents[2] / "collection")]!r}
from ansible_collections.vessel.host.plugins.module_utils._errors import VesselError
from ansible_collections.vessel.host.plugins.module_utils._image import archive
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount, namespaces
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
import os
namespaces.unshare(namespaces.CLONE_NEWNS)
mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)
mount.mount("tmpfs", {str(place)!r}, "tmpfs", 0, "size=2m")
try:
    archive.load(Store(Paths.at({str(place / "vessel")!r})), {str(path)!r}, "x:1")
except VesselError as error:
    print(error)
print(os.listdir({str(place)!r}), os.path.exists({str(place / "vessel/lib")!r}))
"""
    said = run(shutil.which("python3"), "-c", program).splitlines()
    assert re.fullmatch(re.escape(str(path)) + sentence, said[0])
    assert said[1:] == ["['vessel'] False"]


def test_saving_to_where_there_is_no_directory(store, image, tmp_path):
    with pytest.raises(KernelError, match=r"save .*/nowhere/x.tar: No such file or directory \[ENOENT\]"):
        archive.save(store, image, str(tmp_path / "nowhere/x.tar"))


# root file systems
@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree"
    path.mkdir()
    with tarfile.open(fileobj=io.BytesIO(BASE)) as source:
        extract(source, path)
    os.setxattr(path / "etc/passwd", "user.note", b"kept")
    os.mknod(path / "device", 0o600 | 0o060000, os.makedev(8, 0))
    (path / "dev").mkdir()
    os.mknod(path / "dev/null", 0o666 | 0o020000, os.makedev(1, 3))
    (path / "dev/shm").mkdir()
    return path


def test_a_directory_comes_as_it_is_without_devices(store, tree):
    diff_id = rootfs.load(store, str(tree))
    expected = listing(str(tree), times=False)
    for name in ("device", "dev/null", "dev/shm"):
        del expected[name]
    assert listing(store.layer_path(diff_id), times=False) == expected
    assert rootfs.load(store, str(tree)) == diff_id


def test_a_tar_comes_as_it_is_without_devices(store, tree, tmp_path):
    run("tar", "--numeric-owner", "--xattrs", "-czf", tmp_path / "tree.tgz", "-C", tree, ".")
    diff_id = rootfs.load(store, str(tmp_path / "tree.tgz"))
    assert listing(store.layer_path(diff_id)) == listing(store.layer_path(rootfs.load(store, str(tree))))
    assert rootfs.key(str(tmp_path / "tree.tgz"), store) == rootfs.key(str(tmp_path / "tree.tgz"))


def test_the_same_tar_is_the_same_layer_whenever_it_comes(store, tree, tmp_path):
    for name in ("dev", "dev/shm"):
        os.utime(tree / name, (1600000000, 1600000000))
    run("tar", "--numeric-owner", "-cf", tmp_path / "tree.tar", "-C", tree, ".")
    diff_id = rootfs.load(store, str(tmp_path / "tree.tar"))
    assert os.stat(f"{store.layer_path(diff_id)}/dev").st_mtime == 1600000000


def test_what_is_mounted_in_a_directory_stays_out(store, tree):
    (tree / "proc").mkdir()
    program = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[2] / "collection")]!r}
from ansible_collections.vessel.host.plugins.module_utils._image import rootfs
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount, namespaces
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
namespaces.unshare(namespaces.CLONE_NEWNS)
mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)
mount.mount("proc", {str(tree / "proc")!r}, "proc")
print(rootfs.load(Store(Paths.at({store.paths.root!r})), {str(tree)!r}))
"""
    diff_id = run(shutil.which("python3"), "-c", program).strip()
    assert os.listdir(f"{store.layer_path(diff_id)}/proc") == []


def test_a_directory_that_can_not_be_an_image_says_why(store, tree):
    (tree / "etc/.wh.x").write_text("")
    with pytest.raises(StoreError) as caught:
        rootfs.load(store, str(tree))
    assert str(caught.value) == (
        f"{tree} can't be read: etc/.wh.x can't be in an image: names that begin with .wh. mark deletions"
    )
    assert not os.path.exists(store.paths.state)


@pytest.mark.parametrize("limit", [1000, 100])
def test_a_limit(store, tree, tmp_path, limit):
    run("tar", "-cf", tmp_path / "tree.tar", "-C", tree, ".")
    for source in (tree, tmp_path / "tree.tar"):
        with pytest.raises(StoreError, match=f"^{source}: the archive unpacks to more than the {limit} bytes"):
            rootfs.load(store, str(source), limit=limit)
    assert not os.path.exists(store.paths.state)


@pytest.mark.parametrize("data", [b"", b"no tar" * 1000, BASE[:2000], b"\x1f\x8b" + bytes(50)], ids=len)
def test_no_root_file_system(store, tmp_path, data):
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(StoreError, match=f"^{path}(:| is) "):
        rootfs.load(store, str(path))
    assert not os.path.exists(store.paths.state)
