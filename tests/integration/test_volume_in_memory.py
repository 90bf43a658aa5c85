# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume in memory that somebody has unmounted, or a reboot: nobody writes to the directory below it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .place import Place

pytestmark = pytest.mark.root

READER = {"name": "reader", "image": "bb", "network_mode": "none", "volumes": ["mem:/mem:ro"], "stop_timeout": 0.1}
WRITER = {"name": "writer", "image": "bb", "network_mode": "none", "volumes": ["mem:/mem"], "stop_timeout": 0.1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(str(tmp_path_factory.mktemp("memory") / "vessel"))
    place.busybox()
    yield place
    place.remove()


@pytest.fixture
def data(place: Place) -> Iterator[Path]:
    """The volume's mount point; a fresh volume each time."""
    made = place.task("volume", name="mem", driver="tmpfs", size="1m", mode="0750")
    yield Path(made["volume"]["mountpoint"])
    for name in ("writer", "reader"):
        place.task("container", name=name, state="absent")
    place.task("volume", name="mem", state="absent")


def unmount(data: Path) -> None:
    subprocess.run(["umount", str(data)], check=True, timeout=20)
    assert not os.path.ismount(data)
    assert list(data.iterdir()) == []


def is_tmpfs(data: Path) -> bool:
    return os.path.ismount(data) and os.statvfs(data).f_blocks * os.statvfs(data).f_frsize == 1 << 20


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_a_container_that_is_started_has_it_mounted(place: Place, data: Path, state: str) -> None:
    if state == "stopped":
        place.task("container", **WRITER)
        place.task("container", **{**WRITER, "state": "stopped"})
    unmount(data)
    told = place.task("container", check=True, **WRITER)
    assert told["actions"][0] == "volume mem: mend tmpfs (live)"
    assert not os.path.ismount(data)
    assert place.task("container", **WRITER)["actions"] == told["actions"]
    assert is_tmpfs(data)
    place.sh("writer", "echo row > /mem/row")
    assert (data / "row").read_text() == "row\n"
    assert not place.task("container", **WRITER)["changed"]
    place.task("container", **{**WRITER, "state": "absent"})
    unmount(data)  # which sees that nothing is below


def test_a_stopped_container_needs_none(place: Place, data: Path) -> None:
    place.task("container", **{**WRITER, "state": "present"})
    unmount(data)
    assert not place.task("container", **{**WRITER, "state": "stopped"})["changed"]
    assert not os.path.ismount(data)


@pytest.mark.parametrize("module", ["container", "volume"])
@pytest.mark.parametrize("users", [("writer",), ("reader",), ("writer", "reader")])
def test_what_runs_gives_it_back(place: Place, data: Path, module: str, users: tuple[str, ...]) -> None:
    """The containers go on with what they have: a new one would be another one than theirs."""
    (data / "row").write_text("kept")
    for name in users:
        place.task("container", **{"writer": WRITER, "reader": READER}[name])
    before = {name: place.process(name) for name in users}
    unmount(data)
    args = {"container": {"writer": WRITER, "reader": READER}[users[0]], "volume": {"name": "mem"}}[module]
    told = place.task(module, check=True, **args)
    assert told["actions"] == ["volume mem: mend tmpfs (live)"]
    assert place.task(module, **args)["actions"] == told["actions"]
    assert not place.task(module, check=True, **args)["changed"]
    assert is_tmpfs(data)
    assert (data / "row").read_text() == "kept"
    (data / "new").write_text("seen")  # not read-only, whatever it is in the container
    for name in users:
        assert place.sh(name, "cat /mem/new") == "seen"
    assert {name: place.process(name) for name in users} == before


def test_a_tmpfs_of_the_container_is_not_taken_for_the_volume(place: Place, data: Path) -> None:
    """It lies where the volume was."""
    place.task("container", **WRITER, privileged=True)
    place.sh("writer", "umount /mem && mount -t tmpfs other /mem && echo foreign > /mem/row")
    unmount(data)
    place.task("volume", name="mem")
    assert is_tmpfs(data)
    assert list(data.iterdir()) == []


def vessel(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    command = [f"{place.paths.bin}/vessel", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def wait_for_error(place: Place, name: str, words: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if words in json.loads(Path(place.paths.status(name)).read_text())["error"]:
            return
        time.sleep(0.05)
    raise AssertionError(Path(place.paths.status(name)).read_text())


def test_the_supervisor_does_not_restart_without_it(place: Place, data: Path) -> None:
    """By its policy, or because somebody asks for it on the host; it comes when the volume does."""
    place.task("container", **WRITER, restart_policy="always", command=["sh", "-c", "touch /mem/row; exec sleep 1000"])
    unmount(data)
    os.kill(place.facts("writer")["pid"], signal.SIGKILL)
    words = f"the volume at {data} is not mounted (vessel restore mounts it"
    wait_for_error(place, "writer", words)
    assert list(data.iterdir()) == []
    started = vessel(place, "start", "writer")
    assert started.returncode == 1
    assert words in started.stderr
    assert list(data.iterdir()) == []
    restored = vessel(place, "restore")
    assert restored.stdout.splitlines() == ["volume mem: mend tmpfs (live)", "container writer: start"]
    assert is_tmpfs(data)
    deadline = time.monotonic() + 10
    while not (data / "row").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (data / "row").exists()


def test_a_stack_mounts_it_once(place: Place, data: Path) -> None:
    members = {spec["name"]: {key: spec[key] for key in spec if key != "name"} for spec in (WRITER, READER)}
    memory = {"mem": {"driver": "tmpfs", "size": "1m", "mode": "0750"}}
    for stack in ({"volumes": memory, "containers": members}, {"containers": members}):
        place.task("stack", name="pair", **stack)
        for name in members:
            place.task("container", name=name, state="stopped")
        unmount(data)
        told = place.task("stack", check=True, name="pair", **stack)
        assert told["actions"].count("volume mem: mend tmpfs (live)") == 1
        place.task("stack", name="pair", **stack)
        assert is_tmpfs(data)
        place.sh("writer", "echo x > /mem/row")
        assert place.sh("reader", "cat /mem/row") == "x"
    place.task("stack", name="pair", state="absent")
