# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at one system call after another, by strace's injection: the next run ends as the first would have."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._image import config, rootfs
from ansible_collections.vessel.host.plugins.module_utils._image.store import Store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from ..image_tars import entry, folder, link, listing, tar

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


def killed(place, call, number):
    """Run the program, and kill it at the n-th call; False when it had ended before."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
    program = [sys.executable, "-S", "-c", PROGRAM, COLLECTIONS, place / "vessel", place / "x.tar"]
    done = subprocess.run([*command, *program], check=False, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize(
    ("call", "step"),
    [("mkdir", 4), ("mkdirat", 1), ("rename", 1), ("rmdir", 2), ("unlinkat", 3), ("unlink", 1), ("fchown", 3),
     ("flock", 5), ("fsync", 3), ("syncfs", 1), ("symlinkat", 1), ("utimensat", 5)],
)  # fmt: skip
def test_killed_at_a_call(tmp_path, call, step):
    (tmp_path / "x.tar").write_bytes(DATA)
    store = Store(Paths.at(str(tmp_path / "vessel")))
    number = 1
    while killed(tmp_path, call, number):
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
