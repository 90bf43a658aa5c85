# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk is full while containers run: what can't be changed runs on as it was, and all can be removed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .place import Place

pytestmark = pytest.mark.root

BOX = {"name": "box", "image": "bb", "network_mode": "none", "stop_timeout": "1s"}


@pytest.fixture
def place(tmp_path):
    place, image = Place(str(tmp_path / "vessel")), tmp_path / "disk"
    os.makedirs(place.paths.state)
    with image.open("wb") as file:
        file.truncate(20 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), place.paths.state], check=True)
    place.busybox()
    yield place
    (Path(place.paths.state) / "fill").unlink(missing_ok=True)
    place.task("container", name="box", state="absent")
    subprocess.run(["umount", place.paths.state], check=True)
    place.remove()


def fill(place: Place) -> Path:
    path = Path(place.paths.state) / "fill"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 10, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return path


def test_a_change_that_can_not_be_written(place):
    place.task("container", **BOX)
    filling = fill(place)
    for change, file in (
        ({"env": {"A": "b"}}, "spec.json"),
        ({"recreate": True}, "previous"),
        ({"memory": "32m"}, "spec.json"),
    ):
        failed = place.task("container", fails=True, **BOX, **change)
        assert failed["msg"].count("No space left on device") == 1
        assert f"{file}: No space left on device" in failed["msg"]
        assert "undoing" not in failed["msg"]
        assert place.facts("box")["state"] == "running"
    process = place.process("box")
    assert place.task("container", **BOX, restart=True)["changed"]  # a process anew needs no disk
    assert place.process("box") != process
    filling.unlink()
    assert not place.task("container", **BOX)["changed"]
    fill(place)
    assert place.task("container", name="box", state="absent")["changed"]
