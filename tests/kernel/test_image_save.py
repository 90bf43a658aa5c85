# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images out of the store in every form, read by podman, skopeo, umoci and ourselves: the identical image each time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge.image import exports
from ansible_collections.vessel.host.plugins.module_utils._errors import KernelError, OptionError, StoreError
from ansible_collections.vessel.host.plugins.module_utils._image import archive, config
from ansible_collections.vessel.host.plugins.module_utils._image.directory import key
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import docker_archive, entry, folder, hard, link, listing, tar

pytestmark = pytest.mark.root

BASE = tar(
    folder("etc", mode=0o750, uid=3),
    entry("etc/passwd", data=b"root:x:0:0::/:/bin/sh\n", pax_headers={"mtime": "1700000000.123456789"}),
    entry("etc/gone", data=b"x"),
    entry("usr/bin/su", data=b"su" * 999, mode=0o4755),
    hard("usr/bin/sudo", "usr/bin/su"),
    link("bin", "usr/bin"),
) + bytes(512)
TOP = tar(entry("etc/.wh.gone"), entry("usr/new", data=b"new"), entry("odd\udcff", data=b"x"))
TWICE = tar(entry("a", data=b"first"), entry("a", data=b"second"))
FORMS = ("oci-archive", "docker-archive", "oci")


@pytest.fixture
def store(tmp_path):
    return Store(Paths.at(str(tmp_path / "vessel")))


@pytest.fixture
def put(store, tmp_path):
    def put(layers, name="localhost/x:1", **words):
        path = tmp_path / "from.tar"
        path.write_bytes(docker_archive(layers, ["x:1"], config={"architecture": config.architecture(), **words}))
        return archive.load(store, str(path), name)

    return put


@pytest.fixture
def image(put):
    return put([BASE, TOP, BASE])


@pytest.fixture
def other(tmp_path):
    return Store(Paths.at(str(tmp_path / "other")))


def run(*command, **options):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def podman(tmp_path):
    """podman with a store of its own; it leaves mounts behind, and they are ours to take away."""
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    root = tmp_path / "podman"
    root.mkdir()
    (root / "containers.conf").write_text(
        f'''[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
static_dir = "{root}/static"
tmp_dir = "{root}/tmp"
volume_path = "{root}/volumes"
[network]
network_config_dir = "{root}/networks"
'''
    )
    (root / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{root}/graph"\nrunroot = "{root}/run"\n'
    )
    env = {
        **os.environ,
        "CONTAINERS_CONF": str(root / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(root / "storage.conf"),
    }
    before = {path for path in ELSEWHERE if os.path.exists(path)}
    yield lambda *words: run("podman", *words, env=env)
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if line.split()[4].startswith(f"{root}/"):
            run("umount", "--lazy", line.split()[4])
    for path in ELSEWHERE:
        if path not in before:
            shutil.rmtree(path, ignore_errors=True)


# What podman makes outside of the directories that can be configured.
ELSEWHERE = ("/run/containers", "/run/libpod", "/run/podman", "/var/lib/containers", "/var/lib/cni", "/etc/cni")


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_we_read_what_we_write_and_it_is_the_identical_image(store, image, other, tmp_path, form, gzip):
    path = tmp_path / "saved"
    archive.save(store, image, str(path), form, gzip=gzip)
    loaded = archive.load(other, str(path), "y:1", "localhost/x:1")
    assert (loaded.id, loaded.layers) == (image.id, image.layers)
    assert other.configuration(loaded) == store.configuration(image)
    for ours, theirs in zip(store.directories(image), other.directories(loaded)):
        assert listing(theirs, times=False) == listing(ours, times=False)
    assert sorted(os.listdir(tmp_path)) == ["from.tar", "other", "saved", "vessel"]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_image_is_the_same_bytes(store, image, tmp_path, form):
    for name in ("one", "two"):
        archive.save(store, image, str(tmp_path / name), form, gzip=True)
    if form == "oci":
        assert listing(str(tmp_path / "one"), times=False) == listing(str(tmp_path / "two"), times=False)
    else:
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_podman_has_the_same_id(store, put, podman, tmp_path, form):
    image = put([BASE, TOP])
    archive.save(store, image, str(tmp_path / "saved"), form)
    if form == "oci":
        podman("pull", "--quiet", f"oci:{tmp_path}/saved:localhost/x:1")
    else:
        assert podman("load", "--input", tmp_path / "saved") == "Loaded image: localhost/x:1\n"
    told = json.loads(podman("image", "inspect", "--format", "json", image.id[7:]))[0]
    assert [f"sha256:{told['Id']}", *told["RootFS"]["Layers"]] == [image.id, *image.layers]
    if form != "oci":
        assert told["RepoTags"] == ["localhost/x:1"]
    top = podman("image", "mount", image.id[7:]).strip()
    try:
        assert Path(top, "usr/new").read_text() == "new"
        assert not os.path.exists(f"{top}/etc/gone")
    finally:
        podman("image", "unmount", image.id[7:])


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_skopeo_copies_the_identical_image(store, image, other, tmp_path, form, gzip):
    archive.save(store, image, str(tmp_path / "saved"), form, gzip=gzip)
    source = f"{form}:{tmp_path}/saved"
    told = json.loads(run("skopeo", "inspect", "--config", source))
    assert told["rootfs"]["diff_ids"] == list(image.layers)
    for number, target in enumerate(("oci", "oci-archive", "docker-archive")):
        run("skopeo", "copy", source, f"{target}:{tmp_path}/theirs{number}:x:1")
        loaded = archive.load(other, str(tmp_path / f"theirs{number}"), "y:1")
        assert loaded.layers == image.layers
        # A configuration goes through unread, but where the form of the manifest changes.
        if (target == "docker-archive") == (form == "docker-archive"):
            assert loaded.id == image.id
        assert json.loads(other.configuration(loaded))["rootfs"] == store.raw(image)["rootfs"]


@pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")
@pytest.mark.parametrize("gzip", [False, True])
def test_umoci_unpacks_it(store, put, tmp_path, gzip):
    image = put([BASE, TOP], name="x")
    archive.save(store, image, str(tmp_path / "saved"), "oci", gzip=gzip)
    run("umoci", "unpack", "--image", f"{tmp_path}/saved:x", tmp_path / "bundle")
    found = listing(str(tmp_path / "bundle/rootfs"))
    assert found["etc"][:3] == ("drwxr-x---", 3, 0)
    assert found["etc/passwd"][7] == 1700000000123456789
    assert found["usr/bin/su"][0] == "-rwsr-xr-x"
    assert "etc/gone" not in found
    assert "usr/new" in found


# layers that can't be given back
@pytest.mark.parametrize("form", FORMS)
def test_a_layer_that_is_packed_anew_has_the_same_content_and_another_id(store, put, other, tmp_path, form):
    image = put([BASE, TWICE], history=[{"created_by": "somebody"}])
    archive.save(store, image, str(tmp_path / "saved"), form)
    loaded = archive.load(other, str(tmp_path / "saved"), "y:1")
    assert loaded.id != image.id
    assert loaded.layers == (image.layers[0], store.packed(image.layers[1]))
    assert other.raw(loaded)["history"] == [{"created_by": "somebody"}]
    assert listing(other.layer_path(loaded.layers[1])) == listing(store.layer_path(image.layers[1]))


# what is there
def names(path):
    entries = json.loads((path / "index.json").read_text())["manifests"]
    return [entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in entries]


def test_a_layout_that_is_there_gets_the_image_in_addition(store, image, put, other, tmp_path):
    path = tmp_path / "saved"
    archive.save(store, image, str(path), "oci")
    blobs = set(os.listdir(path / "blobs/sha256"))
    archive.save(store, put([TOP], name="y:2"), str(path), "oci")
    assert names(path) == ["localhost/x:1", "y:2"]
    assert blobs < set(os.listdir(path / "blobs/sha256"))
    assert archive.load(other, str(path), "a:1", "localhost/x:1").id == image.id
    # Who has the name there is replaced.
    newer = put([BASE])
    archive.save(store, newer, str(path), "oci")
    assert names(path) == ["y:2", "localhost/x:1"]
    assert archive.load(other, str(path), "a:1", "localhost/x:1").id == newer.id
    # One without a name comes once.
    for _turn in range(2):
        archive.save(store, store.get(newer.id), str(path), "oci")
    assert names(path) == ["y:2", "localhost/x:1", None]


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_a_layout_of_somebody_else_stays_theirs(store, image, tmp_path):
    archive.save(store, image, str(tmp_path / "one"), "oci-archive")
    run("skopeo", "copy", f"oci-archive:{tmp_path}/one", f"oci:{tmp_path}/saved:theirs")
    archive.save(store, image, str(tmp_path / "saved"), "oci")
    assert names(tmp_path / "saved") == ["theirs", "localhost/x:1"]
    run("skopeo", "inspect", f"oci:{tmp_path}/saved:theirs")


def test_an_empty_directory_becomes_the_layout(store, image, other, tmp_path):
    (tmp_path / "saved").mkdir()
    archive.save(store, image, str(tmp_path / "saved"), "oci")
    assert archive.load(other, str(tmp_path / "saved"), "y:1").id == image.id


def test_an_empty_directory_behind_a_symlink_too(store, image, other, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there")
    archive.save(store, image, str(tmp_path / "out"), "oci")
    assert (tmp_path / "out").is_symlink()
    assert archive.load(other, str(tmp_path / "there"), "x:1").id == image.id


@pytest.fixture
def mounted(tmp_path):
    """An empty file system, as one of a disk looks."""
    path = tmp_path / "mounted"
    path.mkdir()
    mount.mount("vessel-test", str(path), "tmpfs", 0, "size=16m")
    (path / "lost+found").mkdir()
    yield path
    mount.umount2(str(path), mount.MNT_DETACH)


def test_an_empty_mount_point_gets_the_layout(store, image, put, other, mounted):
    """No directory can be renamed to it."""
    archive.save(store, image, str(mounted), "oci")
    assert os.path.ismount(mounted)
    assert sorted(os.listdir(mounted)) == ["blobs", "index.json", "lost+found", "oci-layout"]
    assert archive.load(other, str(mounted), "x:1").id == image.id
    archive.save(store, put([TOP], name="y:2"), str(mounted), "oci")
    assert names(mounted) == ["localhost/x:1", "y:2"]


def test_what_a_killed_export_left_in_a_mount_point_is_no_hindrance(store, image, other, mounted):
    (mounted / "layout.999999.new/blobs").mkdir(parents=True)
    (mounted / "blobs/sha256").mkdir(parents=True)
    (mounted / "blobs/sha256" / ("a" * 64)).write_text("left")
    archive.save(store, image, str(mounted), "oci")
    assert sorted(os.listdir(mounted)) == ["blobs", "index.json", "lost+found", "oci-layout"]
    assert not (mounted / "blobs/sha256" / ("a" * 64)).exists()
    assert archive.load(other, str(mounted), "x:1").id == image.id


def exported(store, image, path, form, **more):
    desired = {"name": image.name, "path": str(path), "format": form, "compress": False, "force": False, **more}
    plan = exports.plan(store.paths, desired)
    plan.apply()
    return bool(plan)


@pytest.mark.parametrize("form", FORMS[:2])
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.write_text("precious"), "a file of 8 bytes, no archive of images, and is not replaced"),
        (lambda path: path.write_bytes(tar(entry("manifest.json", data=b'{"name": "a page"}'))), "a file of "),
        (lambda path: path.write_bytes(tar(entry("index.json", data=b"{}"))), "a file of "),
        (lambda path: path.symlink_to("nowhere"), "a symlink that leads nowhere, no archive of images"),
    ],
)
def test_a_file_of_something_else_is_replaced_by_force_alone(store, image, other, tmp_path, form, make, what):
    path = tmp_path / "out"
    make(path)
    before = (os.lstat(path).st_ino, os.lstat(path).st_size)
    with pytest.raises(OptionError) as caught:
        exported(store, image, path, form)
    assert str(caught.value).startswith(f"path: '{path}' is {what}")
    assert str(caught.value).endswith("(choose another path, or set force: true)")
    assert (os.lstat(path).st_ino, os.lstat(path).st_size) == before
    assert exported(store, image, path, form, force=True)
    assert archive.load(other, str(path), "x:1").id == image.id


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_of_something_else_is_never_taken_away(store, image, tmp_path, force):
    path = tmp_path / "out"
    path.mkdir()
    for name in ("a", "b", "c", "d"):
        (path / name).write_text("precious")
    with pytest.raises(OptionError) as caught:
        exported(store, image, path, "oci", force=force)
    assert str(caught.value) == (
        f"path: '{path}' is a directory with other things in it than an OCI image layout: a, b, c, … "
        "(choose an empty directory, or a new one)"
    )
    assert sorted(os.listdir(path)) == ["a", "b", "c", "d"]


def test_what_an_export_wrote_or_could_have_written_is_replaced(store, image, put, tmp_path):
    path, newer = tmp_path / "out", put([TOP], name="y:2")
    path.write_text("")
    for form in ("oci-archive", "docker-archive", "oci-archive"):
        assert exported(store, newer, path, form)
        assert exported(store, image, path, form)
        assert not exported(store, image, path, form)
    (tmp_path / "layout").mkdir()
    assert exported(store, newer, tmp_path / "layout", "oci")
    assert exported(store, image, tmp_path / "layout", "oci")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))])
def test_what_is_no_file_is_not_replaced(store, image, tmp_path, form, make):
    """And nobody waits for a FIFO's writer."""
    path = tmp_path / "out"
    make(path)
    before = os.lstat(path)
    for there in (path, tmp_path / "link"):
        if there != path:
            there.symlink_to("out")
        desired = {"name": image.name, "path": str(there), "format": form, "compress": False, "force": True}
        with pytest.raises(OptionError, match=r"^path: '.*(link|out)' is (neither a file nor a directory|a file, and)"):
            exports.plan(store.paths, desired)
    assert os.lstat(path) == before


def test_a_directory_of_other_things_is_left_alone(store, image, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/precious").write_text("")
    with pytest.raises(StoreError, match="saved is no OCI image layout"):
        archive.save(store, image, str(tmp_path / "saved"), "oci")
    assert os.listdir(tmp_path / "saved") == ["precious"]


@pytest.mark.parametrize("form", FORMS)
def test_what_fails_leaves_what_was_there(store, image, put, tmp_path, form):
    """A file of a layer is damaged, which is found when its last byte was written."""
    path = tmp_path / "saved"
    archive.save(store, image, str(path), form)
    before = listing(str(path), times=False) if form == "oci" else path.read_bytes()
    newer = put([TOP, tar(entry("more", data=b"more"))], name="z:1")
    with open(f"{store.layer_path(newer.layers[1])}/more", "wb") as file:
        file.write(b"less")
    with pytest.raises(StoreError, match=f"the layer {newer.layers[1]} is damaged"):
        archive.save(store, newer, str(path), form)
    if form == "oci":
        assert listing(str(path), times=False) == before
    else:
        assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["from.tar", "saved", "vessel"]


def test_a_layer_that_is_missing(store, image, tmp_path):
    os.unlink(f"{store.layer_path(image.layers[1])}.json")
    with pytest.raises(StoreError, match=f"image localhost/x:1: its layer {image.layers[1]} is not in the store"):
        archive.save(store, image, str(tmp_path / "saved"))
    assert not os.path.exists(tmp_path / "saved")


def test_where_it_can_not_be(store, image, tmp_path):
    for form in FORMS:
        with pytest.raises(KernelError, match=r"save .*/nowhere/saved: No such file or directory \[ENOENT\]"):
            archive.save(store, image, str(tmp_path / "nowhere/saved"), form)
    with pytest.raises(OptionError, match="form: 'tar' is not one of oci-archive, docker-archive, oci"):
        archive.save(store, image, str(tmp_path / "saved"), "tar")


# a layout as source
def nothing_is_left(store):
    """Layers that were whole before the one that was refused are nobody's."""
    assert store.names() == []
    store.collect()
    assert not os.path.exists(store.paths.state)


@pytest.fixture
def layout(store, image, tmp_path):
    archive.save(store, image, str(tmp_path / "layout"), "oci")
    return tmp_path / "layout"


def blob_of(layout, what):
    """The path of a blob: the manifest, the configuration or a layer."""
    entry_ = json.loads((layout / "index.json").read_text())["manifests"][0]
    manifest = layout / "blobs/sha256" / entry_["digest"][7:]
    value = json.loads(manifest.read_text())
    found = {"manifest": entry_, "config": value["config"], "layer": value["layers"][1]}[what]
    return layout / "blobs/sha256" / found["digest"][7:]


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_every_blob_is_verified(layout, other, what):
    path = blob_of(layout, what)
    data = bytearray(path.read_bytes())
    data[700 if what == "layer" else 3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError) as caught:
        archive.load(other, str(layout), "y:1")
    assert caught.value.message.startswith(f"{layout}: blobs/sha256/{path.name}")
    nothing_is_left(other)


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_a_blob_that_is_missing_or_no_file(layout, other, what):
    path = blob_of(layout, what)
    path.unlink()
    with pytest.raises(StoreError, match=f"{layout} lacks blobs/sha256/{path.name}, which its index leads to"):
        archive.load(other, str(layout), "y:1")
    for make in (os.mkdir, os.mkfifo):
        make(path)
        with pytest.raises(StoreError, match=f"{layout}: blobs/sha256/{path.name} is no file"):
            archive.load(other, str(layout), "y:1")
        os.rmdir(path) if path.is_dir() else os.unlink(path)
    nothing_is_left(other)


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_a_symlink_leads_nowhere_outside(layout, other, what, tmp_path):
    """The content is right, and it is somebody else's file all the same."""
    path = blob_of(layout, what)
    shutil.move(path, tmp_path / "elsewhere")
    for target in (tmp_path / "elsewhere", "../../../elsewhere", "/proc/self/root" + str(tmp_path / "elsewhere")):
        os.symlink(target, path)
        with pytest.raises(StoreError, match="is a symlink that leads out of the layout"):
            archive.load(other, str(layout), "y:1")
        path.unlink()
    os.symlink(path.name, path)
    with pytest.raises(StoreError, match="is a symlink that leads out of the layout, or nowhere"):
        archive.load(other, str(layout), "y:1")
    nothing_is_left(other)


def test_symlinks_inside_are_followed(layout, other, image):
    path = blob_of(layout, "layer")
    shutil.move(path, layout / "shared")
    os.symlink("../../shared", path)
    assert archive.load(other, str(layout), "y:1").id == image.id


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("oci-layout", None, "is no OCI image layout"),
        ("index.json", None, "is no OCI image layout"),
        ("oci-layout", '{"imageLayoutVersion": "2.0.0"}', "is an OCI image layout of the unknown version 2.0.0"),
        ("oci-layout", "[]", "is an OCI image layout of the unknown version None"),
        ("index.json", "{", "index.json is not JSON"),
        ("index.json", '{"manifests": 1}', "manifests is not the list that it must be"),
        ("index.json", '{"manifests": []}', "has 0 images"),
        ("index.json", '{"manifests": [{"digest": "sha256:../../x", "size": 1}]}', "is not a sha256 digest"),
    ],
)
def test_no_layout(layout, other, file, text, sentence):
    (layout / file).unlink()
    if text is not None:
        (layout / file).write_text(text)
    with pytest.raises(StoreError, match=sentence) as caught:
        archive.load(other, str(layout), "y:1")
    assert "\n" not in str(caught.value)
    nothing_is_left(other)


def test_its_key_is_the_image_s_alone(store, layout, put):
    before = key(str(layout), "localhost/x:1", "")
    archive.save(store, put([TOP], name="y:2"), str(layout), "oci")
    assert key(str(layout), "localhost/x:1", "") == before
    assert key(str(layout), "y:2", "") != before
    archive.save(store, put([BASE]), str(layout), "oci")
    assert key(str(layout), "localhost/x:1", "") != before
    with pytest.raises(StoreError, match="has no image z:3"):
        key(str(layout), "z:3", "")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(layout / "oci-layout")
    with pytest.raises(StoreError, match="is no OCI image layout"):
        key(str(layout), "y:2", "")
