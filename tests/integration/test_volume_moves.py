# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container with its data goes from a host to another: two installations are the hosts, a directory that both have
mounted is the storage. And what a host had mounted comes back with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel import loop, mount
from ansible_collections.vessel.host.plugins.module_utils._monitor.client import connect
from ansible_collections.vessel.host.tests.patience import patient

from .options_box import until
from .power import die, restore
from .warm import WarmPlace

pytestmark = pytest.mark.root

LEASE = patient(3)
# It counts on from what it finds.
COUNTER = """
n=$(cat /data/n || echo 0)
while true; do n=$((n+1)); echo $n > /data/new; mv /data/new /data/n; usleep 50000; done
"""
# It leaves a line in both.
TWICE = "echo $$ >> /data/n; echo x >> /disk/n; sleep 1000"
DB = {
    "name": "db",
    "image": "bb",
    "network_mode": "none",
    "command": ["sh", "-c", COUNTER],
    "volumes": ["shared:/data"],
    "stop_timeout": "0.1s",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[WarmPlace]]:
    places = [WarmPlace(str(tmp_path_factory.mktemp(name) / "vessel")) for name in ("alpha", "beta")]
    try:
        for place in places:
            place.busybox()
        yield places
    finally:
        for place in places:
            place.remove()


@pytest.fixture
def shared(places: list[WarmPlace], tmp_path: Path) -> Iterator[Path]:
    for place in places:
        volume(place, tmp_path)
    yield tmp_path
    for place in places:
        place.task("container", name="db", state="absent")
        place.task("volume", name="shared", state="absent")
    assert (tmp_path / "n").exists()  # it is the storage's, and nobody's here


def volume(place: WarmPlace, directory: Path, **more: Any) -> dict[str, Any]:
    bound = {"driver": "mount", "fstype": "none", "options": "bind", "device": str(directory)}
    return place.task("volume", name="shared", **bound, sharing="onewriter", lease_duration=f"{LEASE}s", **more)


def count(directory: Path) -> int:
    path = directory / "n"
    return int(path.read_text()) if path.exists() else 0


def test_a_container_moves_with_its_data_from_a_dead_host(places: list[WarmPlace], shared: Path) -> None:
    alpha, beta = places
    alpha.task("container", **DB)
    assert until(lambda: count(shared) > 5)
    assert beta.task("volume_info", name="shared")["volumes"][0]["lease"] == {
        "host": os.uname().nodename,
        "container": "db",
        "since": json.loads(next((shared / ".vessel-lease").iterdir()).read_text())["since"],
        "duration": LEASE,
    }
    refused = beta.task("container", **DB, fails=True)["msg"]
    assert refused.startswith(f"volume shared: container db of host {os.uname().nodename} has the lease since 20")
    assert beta.task("container_info")["containers"] == []
    # Who only reads needs no lease.
    beta.task("container", **{**DB, "volumes": ["shared:/data:ro"], "command": ["sleep", "1000"]})
    assert int(beta.sh("db", "cat /data/n")) > 5
    beta.task("container", name="db", state="absent")
    die(alpha)
    before = count(shared)
    beta.task("container", **DB)
    assert until(lambda: count(shared) > before)
    assert beta.facts("db")["pid"]
    # alpha comes back, and leaves it alone: its container is not started while another has the lease.
    assert "and renews it" in alpha.task("container", **DB, fails=True)["msg"]
    beta.task("container", **{**DB, "state": "stopped"})
    assert beta.task("volume_info", name="shared")["volumes"][0]["lease"] is None
    alpha.task("container", **DB)


def test_a_lease_is_broken_for_a_host_that_is_known_to_be_off(places: list[WarmPlace], shared: Path) -> None:
    alpha, beta = places
    alpha.task("container", **DB)
    assert until(lambda: count(shared) > 0)
    given = {"name": "shared", "break_lease": True}
    results = beta.quartet("volume", given)
    assert results[0]["actions"] == ["volume shared: break the lease (live)"]
    assert results[0]["diff"]["before"]["volume shared"]["lease (live)"]["container"] == "db"
    beta.task("container", **DB)  # at once
    assert until(lambda: alpha.facts("db")["state"] == "exited")
    words = "volume shared: its lease is lost: another took it, or somebody removed it"
    assert json.loads(Path(alpha.paths.status("db")).read_text())["error"] == words


def test_for_all_again(places: list[WarmPlace], shared: Path) -> None:
    """What was said of leases goes without saying."""
    (shared / "n").touch()
    places[0].quartet("volume", {"name": "shared", "sharing": "all"})
    assert places[0].task("volume_info", name="shared")["volumes"][0]["lease_duration"] == 30.0


def test_who_waits_for_a_lease_can_be_stopped(places: list[WarmPlace], shared: Path) -> None:
    """Else it would start whenever the lease is free, as whoever was killed had told it."""
    alpha, beta = places
    beta.task("container", name="keep", image="bb", network_mode="none", stop_signal="KILL")  # the supervisor stays
    for module, given in (("container", {"name": "db", "state": "stopped"}), ("drain", {})):
        alpha.task("container", **DB)
        beta.task("container", **{**DB, "state": "stopped"})
        beta.task("container", name="db", state="present")
        die(alpha)
        with connect(beta.paths) as client:
            client.submit("start", name="db")
        assert until(lambda: "has the lease" in beta.facts("db")["error"])
        assert "container db: remove" not in beta.task("prune", check=True, containers=True)["actions"]
        beta.task(module, **given)
        assert beta.facts("db")["state"] == "exited"
        alpha.task("container", **DB)
        beta.task("container", name="db", state="absent")
        beta.task("drain", state="undrained")
        alpha.task("container", name="db", state="absent")
    beta.task("container", name="keep", state="absent")


def test_a_volume_for_one_writer_does_not_come_under_a_process(places: list[WarmPlace], shared: Path) -> None:
    alpha, dummy = places
    idle = {**DB, "command": ["sh", "-c", "echo 1 > /data/n; sleep 1000"]}
    alpha.task("container", **{**idle, "volumes": [], "command": ["sleep", "1000"]})
    told = alpha.task("container", name="db", volumes=["shared:/data"], fails=True)["msg"]
    assert told == (
        "volumes: 'shared:/data:rw' can't come while the container runs: it is for one writer at a time"
        " (set restart: true)"
    )
    alpha.task("container", **idle, restart=True)
    assert until(lambda: count(shared) == 1)
    alpha.task("container", name="db", volumes=[])
    assert until(lambda: alpha.task("volume_info", name="shared")["volumes"][0]["lease"] is None)
    # Nor does it go while a process could go on writing to it without the lease.
    opened = {**DB, "command": ["sh", "-c", "exec 3>>/data/n; while true; do echo 2 >&3; usleep 10000; done"]}
    alpha.task("container", **opened, restart=True)
    for volumes in ([], ["shared:/data:ro"]):
        told = alpha.task("container", name="db", volumes=volumes, fails=True)["msg"]
        assert "processes of the container have files open in it; set restart: true" in told
        assert alpha.task("volume_info", name="shared")["volumes"][0]["lease"]["container"] == "db"
        before = (shared / "n").stat().st_size
        assert until(lambda: (shared / "n").stat().st_size > before)  # noqa: B023
    alpha.task("container", name="db", volumes=["shared:/data:ro"], restart=True)
    assert alpha.task("volume_info", name="shared")["volumes"][0]["lease"] is None


def test_what_was_mounted_comes_back_after_a_reboot(places: list[WarmPlace], shared: Path) -> None:
    alpha, dummy = places
    alpha.task("volume", name="disk", driver="loop", size="4m", options="noatime")
    both = {
        **DB,
        "volumes": ["shared:/data", "disk:/disk"],
        "command": ["sh", "-c", TWICE],
    }
    alpha.task("container", **both)
    line = alpha.volume("disk") / "n"
    assert until(line.exists)
    die(alpha)
    for name in ("shared", "disk"):
        mount.umount2(str(alpha.volume(name)))
    image = str(alpha.volume("disk").parent / "image")
    assert until(lambda: not loop.device_of(image))
    shutil.rmtree(alpha.paths.run)
    restored = restore(alpha)
    assert restored.stdout.splitlines() == [
        "volume disk: mend loop (live)",
        "volume shared: mend mount (live)",
        "container db: start",
    ], restored.stderr
    assert until(lambda: line.read_text() == "x\nx\n")
    assert "noatime" in mount.mount_at(str(alpha.volume("disk"))).words
    alpha.task("container", name="db", state="absent")
    alpha.task("volume", name="disk", state="absent")
