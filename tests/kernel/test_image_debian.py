# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole Debian: made from packages, saved, and read back by us and by others, entry by entry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._image import archive, config, pack, template
from ansible_collections.vessel.host.plugins.module_utils._image.build.make import build
from ansible_collections.vessel.host.plugins.module_utils._image.build.steps import Copy, Stage
from ansible_collections.vessel.host.plugins.module_utils._image.copy import OVERLAY_OPTIONS
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._kernel.overlay import open_overlay
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import digest, extract, listing

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="mmdebstrap is not installed"),
]


@pytest.fixture(scope="module")
def place():
    """In memory where there is room: four copies of Debian are as many files as a disk is busy with for a minute."""
    memory = os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 3 << 30
    path = Path(tempfile.mkdtemp(prefix="debian", dir="/dev/shm" if memory else None))
    yield path
    assert str(path) not in Path("/proc/self/mountinfo").read_text()
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def store(place):
    return Store(Paths.at(str(place / "vessel")))


@pytest.fixture(scope="module")
def image(store):
    """With the documentation, for more entries."""
    with store.work():
        diff_id = template.build(store, "debian", {"docs": True, "packages": ["iputils-ping"]}, "debian")
        return store.put("debian:latest", config.document({"Cmd": ["bash"]}, [diff_id], [{"created_by": "debian"}]))


@pytest.fixture(scope="module")
def saved(store, image, place):
    archive.save(store, image, str(place / "saved.tar"))
    return place / "saved.tar"


@pytest.fixture(scope="module")
def root(store, image):
    return Path(store.directories(image)[0])


def test_it_is_debian(root, image, store):
    found = listing(str(root), times=False)
    assert len(found) > 8000
    assert (root / "etc/os-release").resolve().read_text().count("bookworm")
    ping = found["usr/bin/ping"]
    assert ping[4].get("security.capability") or ping[0] == "-rwsr-xr-x"
    assert found["usr/bin/passwd"][0] == "-rwsr-xr-x"
    assert found["usr/bin/chage"][0] == "-rwxr-sr-x"
    assert 100 << 20 < sum(map(store.layer_size, set(image.layers))) < 400 << 20


def test_there_is_nothing_of_this_machine_or_moment_in_it(root):
    for path in ("dev", "run", "tmp", "var/lib/apt/lists", "var/cache/apt", "var/log"):
        assert [str(p) for p in (root / path).rglob("*") if not p.is_dir()] == []
    for path in ("etc/resolv.conf", "etc/hostname", "usr/sbin/policy-rc.d"):
        assert not os.path.lexists(root / path)
    assert not (root / "etc/machine-id").exists() or (root / "etc/machine-id").read_text() == ""


def test_its_own_apt_can_go_on(root, place):
    """Over the layer, which nobody writes to: dpkg finds nothing half done."""
    for name in ("upper", "work"):
        (place / name).mkdir()
    union = open_overlay([str(root)], str(place / "upper"), str(place / "work"), OVERLAY_OPTIONS)
    try:
        command = ["chroot", f"/proc/self/fd/{union}", "sh", "-c", "dpkg --audit && apt-get check -q"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=[union])
    finally:
        os.close(union)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")
def test_umoci_has_the_same_entries(root, saved, place):
    with tarfile.open(saved) as source:
        extract(source, place / "oci")
    index = json.loads((place / "oci/index.json").read_text())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    (place / "oci/index.json").write_text(json.dumps(index))
    command = ["umoci", "unpack", "--image", f"{place}/oci:x", str(place / "bundle")]
    subprocess.run(command, check=True, capture_output=True)
    theirs, ours = listing(str(place / "bundle/rootfs")), listing(str(root))
    # A layer's times have whole seconds.
    theirs, ours = ({name: (*v[:7], v[7] // 10**9) for name, v in found.items()} for found in (theirs, ours))
    assert {
        name: (ours.get(name), theirs.get(name)) for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)
    } == {}


def test_it_is_loaded_as_it_was_saved(store, image, saved, place):
    other = Store(Paths.at(str(place / "other")))
    loaded = archive.load(other, str(saved), "y:1")
    assert loaded.id == image.id
    assert listing(other.directories(loaded)[0], times=False) == listing(store.directories(image)[0], times=False)


def test_hashing_it_takes_about_a_second(root, image):
    before = time.process_time()
    assert pack.measure(str(root))[0] == image.layers[0]
    assert time.process_time() - before < 2.0


def test_a_second_run_does_nothing(store, image):
    key = template.key("debian", {"docs": True, "packages": ["iputils-ping"]})
    before = time.monotonic()
    assert store.layer_for(key) == image.layers[0]
    stages = [Stage(image, (Copy("layers[0]", "copy", dest="/x", inline=(("", "x"),)),))]
    built, again = (build(store, "app:1", stages, {}, None) for dummy in range(2))
    assert built.id == again.id
    assert time.monotonic() - before < 5
    assert digest(store.configuration(built)) == built.id
