# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at one system call after another, by strace's injection: the next run ends as the first would have."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._image import config, housekeeping, rootfs
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._image.verify import verify
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import docker_archive, entry, folder, link, listing, tar
from .module_runner import _PROGRAM, run_module

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed"),
]

COLLECTIONS = Path(__file__).parents[2] / "collection"
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.vessel.host.plugins.module_utils._image import config, rootfs
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._image.verify import verify
from ansible_collections.vessel.host.plugins.module_utils._kernel import mount
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
store = Store(Paths.at(sys.argv[2]))
with store.work():
    diff_id = rootfs.load(store, sys.argv[3])
    store.set_key("a" * 64, diff_id)
    store.put("x:1", config.document({}, [diff_id], [{"created_by": "test"}]), "key")
store.put("y:1", config.document({}, [diff_id], [{"created_by": "test"}]), "key")
store.untag("x:1")
store.untag("y:1")
store.collect(keep_cache=False)
"""
DATA = tar(folder("d", mode=0o700), *(entry(f"d/f{number}", data=b"x" * 5000) for number in range(5)), link("l", "d"))


def killed(program, call, number, given=""):
    """Run the program, and kill it at the n-th call; False when it had ended before."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
    done = subprocess.run([*command, *program], check=False, capture_output=True, text=True, input=given)
    assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stdout + done.stderr
    return done.returncode != 0


@pytest.mark.parametrize(
    ("call", "step"),
    [("mkdir", 4), ("mkdirat", 1), ("rename", 1), ("rmdir", 2), ("unlinkat", 3), ("unlink", 1), ("fchown", 3),
     ("flock", 5), ("fsync", 3), ("syncfs", 1), ("symlinkat", 1), ("utimensat", 5)],
)  # fmt: skip
def test_killed_at_a_call(tmp_path, call, step):
    (tmp_path / "x.tar").write_bytes(DATA)
    store = Store(Paths.at(str(tmp_path / "vessel")))
    program = [sys.executable, "-S", "-c", PROGRAM, COLLECTIONS, tmp_path / "vessel", tmp_path / "x.tar"]
    number = 1
    while killed(program, call, number):
        check(store, tmp_path)
        number += step
        assert number < 100
    assert number > 1, f"{call} is never called"
    assert not os.path.exists(store.paths.state)


def check(store, place):
    for image in store.images():  # what has a name is whole
        for directory in store.directories(image):
            assert len(listing(directory)) == 7
    with store.work():
        diff_id = rootfs.load(store, str(place / "x.tar"))
        image = store.put("z:1", config.document({}, [diff_id], []))
    assert len(listing(store.directories(image)[0])) == 7
    hidden = [name for name in os.listdir(store.layers) if name.startswith(".")]
    assert hidden == []
    for name in store.names():
        store.untag(name)
    store.collect(keep_cache=False)
    assert not os.path.exists(store.paths.state)


def killed_module(module, args, call, step=1):
    """Kill it at one such call after another, or at each ``step``, until it ends before it makes so many."""
    program = [sys.executable, "-c", _PROGRAM, COLLECTIONS, module]
    number = 1
    while killed(program, call, number, json.dumps(args)):
        yield number
        number += step
        assert number < 60
    assert number > 1, f"{call} is never called"


def nothing_left(store, *directories):
    assert list(housekeeping.litter(store)) == []
    assert [name for directory in directories for name in os.listdir(directory) if name.endswith(".new")] == []


@pytest.mark.parametrize(("call", "step"), [("rename", 3), ("rmdir", 2)])
def test_a_load_that_is_killed_is_there_with_the_next_task(tmp_path, call, step):
    """Also where it had all but taken away what it worked with, so that the next task has nothing else to do."""
    root, path = str(tmp_path / "vessel"), tmp_path / "x.tar"
    path.write_bytes(docker_archive([DATA], ["x:1"], config={"architecture": config.architecture()}))
    args = {"root": root, "name": "x", "source": "archive", "path": str(path)}
    store = Store(Paths.at(root))
    for dummy in killed_module("image", args, call, step):
        result = run_module("image", args)
        assert not result.get("failed"), result
        assert len(listing(store.directories(store.need("x:latest"))[0])) == 7
        nothing_left(store)
        run_module("image", {"root": root, "name": "x", "state": "absent"})
        assert not os.path.exists(store.paths.state)


def with_images(tmp_path, root, *names):
    """A store with images of one layer."""
    store = Store(Paths.at(root))
    with store.work():
        (tmp_path / "x.tar").write_bytes(DATA)
        diff_id = rootfs.load(store, str(tmp_path / "x.tar"))
        for name in names:
            store.put(f"{name}:latest", config.document({"cmd": [name]}, [diff_id], []), "key")
    return store


@pytest.mark.parametrize(
    ("form", "call", "step"),
    [("oci-archive", "fsync", 1), ("docker-archive", "rename", 1), ("oci", "rename", 2), ("oci", "syncfs", 1)],
)
def test_an_export_that_is_killed_leaves_nothing_to_the_next(tmp_path, form, call, step):
    root, out = str(tmp_path / "vessel"), tmp_path / "out"
    out.mkdir()
    store = with_images(tmp_path, root, "x", "y")
    args = {"root": root, "name": "x", "path": str(out / "x"), "format": form}
    for dummy in killed_module("image_export", args, call, step):
        assert not run_module("image_export", args).get("failed")
        nothing_left(store, out)
        assert not run_module("image_export", args)["changed"]
        shutil.rmtree(out)
        out.mkdir()


def test_an_export_into_a_layout_that_is_killed(tmp_path):
    root, out = str(tmp_path / "vessel"), tmp_path / "out"
    store = with_images(tmp_path, root, "x", "y")
    first = {"root": root, "name": "x", "path": str(out), "format": "oci"}
    run_module("image_export", first)
    for dummy in killed_module("image_export", {**first, "name": "y", "force": True}, "rename", 2):
        assert not run_module("image_export", {**first, "name": "y", "force": True}).get("failed")
        nothing_left(store, out, out / "blobs", out / "blobs/sha256")
        assert not run_module("image_export", first)["changed"]


def test_an_export_into_a_mount_point_that_is_killed(tmp_path):
    """What it has moved up without an index is no layout yet, and goes with the next."""
    root, out = str(tmp_path / "vessel"), tmp_path / "out"
    out.mkdir()
    store = with_images(tmp_path, root, "x")
    args = {"root": root, "name": "x", "path": str(out), "format": "oci"}
    mount.mount("vessel-test", str(out), "tmpfs", 0, "size=16m")
    try:
        halves = 0
        for dummy in killed_module("image_export", args, "rename", 2):
            halves += (out / "blobs").exists() and not (out / "index.json").exists()
            result = run_module("image_export", args)
            assert not result.get("failed"), result
            nothing_left(store, out, out / "blobs")
            assert not run_module("image_export", args)["changed"]
            for path in out.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert halves  # it was killed there, too
    finally:
        mount.umount2(str(out), mount.MNT_DETACH)


@pytest.mark.parametrize(("call", "step"), [("poll", 1), ("flock", 4), ("unlinkat", 7), ("rename", 2)])
def test_a_verification_that_is_killed(tmp_path, call, step):
    """While it reads, while it throws away what is damaged, while that is made again: the next task has it whole."""
    root, path = str(tmp_path / "vessel"), tmp_path / "x.tar"
    other = tar(entry("other", data=b"y" * 5000))
    path.write_bytes(docker_archive([DATA, other], ["x:1"], config={"architecture": config.architecture()}))
    args = {"root": root, "name": "x", "source": "archive", "path": str(path), "verify": True}
    store = Store(Paths.at(root))

    def whole():
        assert not run_module("image", args).get("failed")
        image = store.need("x:latest")
        assert verify(store, image) == []
        nothing_left(store)
        return image

    def damage(image):
        Path(store.directories(image)[0], "d/f1").write_bytes(b"z" * 5000)
        assert [found.digest for found in verify(store, image)] == [image.layers[0]]

    image = whole()
    damage(image)
    for dummy in killed_module("image", args, call, step):
        assert whole() == image
        assert not run_module("image", args)["changed"]
        damage(image)
