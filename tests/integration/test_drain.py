# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module and the role drain: what is stopped in which order, what is elsewhere before, and what comes back."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import drain_mark
from ansible_collections.vessel.host.plugins.module_utils._converge.container import prepare
from ansible_collections.vessel.host.tests.kernel.module_runner import COLLECTIONS
from ansible_collections.vessel.host.tests.patience import patient

from .place import Place
from .power import die, restore
from .roots import IMAGE, Roots
from .warm import WarmPlace

pytestmark = pytest.mark.root
# An undrain that is killed when all is ready and nothing has been started.
KILLED = """
import os, signal, sys
sys.path.insert(0, {collections!r})
from ansible_collections.vessel.host.plugins.module_utils._converge import draining, jobs
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
jobs.run = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
draining.plan(Paths.at({root!r}), {{"state": "undrained"}}).apply()
"""
BODY = {"image": "bb", "network_mode": "none", "command": ["sleep", "1000"], "stop_signal": "KILL"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WarmPlace]:
    place = WarmPlace(str(tmp_path / "vessel"))
    try:
        place.task("image", **IMAGE)
        yield place
    finally:
        place.remove()


def told(place: Place) -> dict[str, Any]:
    return dict(drain_mark.facts(place.paths))


def states(place: WarmPlace) -> dict[str, str]:
    return {found["name"]: found["state"] for found in place.task("container_info")["containers"]}


def test_what_runs_stops_in_order_and_comes_back(place: WarmPlace, tmp_path: Path) -> None:
    """Also across a boot; and who did not run does not run then."""
    share = tmp_path / "share"
    share.mkdir()

    def wordy(name: str) -> dict[str, Any]:
        script = f"echo {name} up >>/share/said; trap 'echo {name} down >>/share/said; exit 0' TERM; sleep 1000 & wait"
        return {**BODY, "command": ["sh", "-c", script], "stop_signal": "TERM", "volumes": [f"{share}:/share"]}

    containers = {
        "db": wordy("db"),
        "php": {**wordy("php"), "depends_on": ["db"]},
        "www": {**wordy("www"), "depends_on": ["php"]},
        "off": {**BODY, "state": "stopped"},
        "job": {**BODY, "command": ["true"]},
    }
    place.task("stack", name="shop", containers=containers)
    place.task("container", name="lone", **BODY)
    before = {"db": "running", "job": "exited", "lone": "running", "off": "created", "php": "running", "www": "running"}
    deadline = time.monotonic() + patient(20)
    while states(place) != before:
        assert time.monotonic() < deadline, states(place)
        time.sleep(0.1)

    place.quartet("drain", {"state": "cordoned"})
    assert place.task("host_info")["host"]["drain"] == told(place) == {"state": "cordoned", "stopped": []}
    place.quartet("drain", {"state": "drained", "stop": False})
    assert states(place) == before
    result = place.task("drain", check=True)
    assert sorted(result["actions"]) == [f"container {name}: stop (restart)" for name in ("db", "lone", "php", "www")]
    place.quartet("drain", {})
    assert set(states(place).values()) == {"exited", "created"}
    assert told(place) == {"state": "drained", "stopped": ["db", "lone", "php", "www"]}
    # What a unit runs at boot finds nothing to do.
    restored = subprocess.run([f"{place.paths.bin}/vessel", "restore"], capture_output=True, text=True, check=True)
    assert restored.stdout == ""
    assert set(states(place).values()) == {"exited", "created"}

    place.quartet("drain", {"state": "undrained"})
    assert states(place) == before
    assert told(place) == {"state": "undrained", "stopped": []}
    lines = (share / "said").read_text().splitlines()
    assert lines == ["db up", "php up", "www up", "www down", "php down", "db down", "db up", "php up", "www up"]


def test_what_went_meanwhile_does_not_come_back(place: WarmPlace) -> None:
    for name in ("one", "two"):
        place.task("container", name=name, **BODY)
    place.task("drain")
    place.task("container", name="two", state="absent")
    place.task("drain", state="undrained")
    assert states(place) == {"one": "running"}


def test_who_joins_another_comes_after_it(place: WarmPlace) -> None:
    """No stack says so; also at a boot."""
    place.task("container", name="base", **BODY)
    place.task("container", name="aside", **{**BODY, "pid_mode": "container:base"})
    both = {"aside": "running", "base": "running"}
    for dummy in range(3):
        place.task("drain")
        place.task("drain", state="undrained")
        assert states(place) == both
    die(place)
    shutil.rmtree(place.paths.run)
    assert (restore(place).stderr, states(place)) == ("", both)


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_what_could_not_be_started_is_started_by_the_next_run(place: WarmPlace, tmp_path: Path, how: str) -> None:
    """And who needs nothing of it is started by the first."""
    share = tmp_path / "share"
    share.mkdir()
    broken = {**BODY, "volumes": [f"{share}:/share"]}
    names = ("a", "b", "c", "d")
    stack = {name: broken if name == "b" else BODY for name in names}
    stack["d"] = {**BODY, "depends_on": ["b"]}
    place.task("stack", name="s", containers=stack)
    place.task("drain")
    share.rmdir()
    if how == "killed":
        program = KILLED.format(collections=str(COLLECTIONS), root=place.root)
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    else:
        failed = place.task("drain", state="undrained", fails=True)
        assert f"binds {share}, which is not on this host" in failed["msg"]
        assert failed["changed"]
        assert sorted(failed["actions"]) == ["container a: start", "container c: start"]
        assert {name for name, state in states(place).items() if state == "running"} >= {"a", "c"}
    assert told(place) == {"state": "drained", "stopped": list(names)}
    share.mkdir()
    place.task("drain", state="undrained")
    assert states(place) == dict.fromkeys(names, "running")
    assert told(place) == {"state": "undrained", "stopped": []}


def test_who_is_marked_and_runs_yet_is_stopped_by_the_next_run(place: WarmPlace) -> None:
    """As one is that was killed between the mark and the stop; and one that ends and starts again all the time."""
    place.task("container", name="one", **BODY)
    place.task("container", name="loop", **{**BODY, "command": ["true"], "restart_policy": "always"})
    prepare.remember_stopped(place.paths, "one", True)
    result = place.task("drain")
    assert sorted(result["actions"])[:2] == ["container loop: stop (restart)", "container one: stop (restart)"]
    time.sleep(1)
    assert states(place) == {"loop": "exited", "one": "exited"}
    place.task("drain", state="undrained")
    assert states(place)["one"] == "running"


class Hosts(Roots):
    def begin(self, role: str, *options: str, **variables: Any) -> Any:
        stack = {"name": "shop", "containers": {"agent": BODY}, "services": variables.pop("services")}
        given = (
            {f"stack_{key}": value for key, value in stack.items()} if role == "stack" else {"drain_stacks": [stack]}
        )
        return self.play(role, *options, **{f"{role}_wait": int(patient(6)), **given, **variables})

    def run(self, role: str, *options: str, fails: bool = False, **variables: Any) -> str:
        return self.done(self.begin(role, *options, **variables), fails=fails)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path, ("a", "b"))
    try:
        yield hosts
    finally:
        hosts.remove()


@pytest.mark.timeout(900)
def test_work_goes_to_other_hosts_before_it_goes_from_here(hosts: Hosts, tmp_path: Path) -> None:
    late = {**BODY, "healthcheck": {"test": ["CMD", "test", "-e", "/share/ready"], "interval": "1s"}}
    (tmp_path / "share").mkdir()
    late["volumes"] = [f"{tmp_path}/share:/share"]
    ready = tmp_path / "share/ready"
    ready.touch()
    services: dict[str, Any] = {"web": {"replicas": 2, "spread": [{"topology": "host"}], "container": late}}
    hosts.run("stack", services=services)
    everywhere = {host: set(names) for host, names in hosts.running().items()}
    assert sorted(map(len, everywhere.values())) == [2, 2]
    here = next(name for name in everywhere["b"] if name != "agent")
    hosts.places["b"].task("container", name="lone", **BODY)
    before = hosts.pids("b")

    # Nowhere to go: nothing is changed.
    there = {"web": {**services["web"], "constraints": ["name == 'b'"]}}
    said = hosts.run("drain", services=there, drain_hosts=["b"], fails=True)
    assert "none of 2 hosts: constraint name == 'b' (1), drain (1)" in said
    assert told(hosts.places["b"])["state"] == "undrained"
    said = hosts.run("drain", "--check", services=services, drain_hosts=["b"])
    assert [int(number) for number in re.findall(r"changed=(\d+)", said)] == [1, 3]
    assert hosts.pids("b") == before

    # It does not become well elsewhere: here it stays, and so does all else. The controller dies while it waits.
    ready.unlink()
    process = hosts.begin("drain", services=services, drain_hosts=["b"], drain_wait=1000)
    deadline = time.monotonic() + patient(60)
    while here not in hosts.pids("a"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert hosts.pids("b") == before
    assert told(hosts.places["b"]) == {"state": "drained", "stopped": []}

    # The next run goes on.
    ready.touch()
    hosts.run("drain", services=services, drain_hosts=["b"])
    assert hosts.running() == {"a": ["agent", "web-1", "web-2"], "b": []}
    assert told(hosts.places["b"]) == {"state": "drained", "stopped": ["agent", "lone"]}
    again = hosts.run("drain", services=services, drain_hosts=["b"])
    assert re.findall(r"changed=(\d+)", again) == ["0", "0"]

    # Whoever places meanwhile finds the mark on the host.
    services["web"]["replicas"] = 3
    hosts.run("stack", services=services)
    assert hosts.running() == {"a": ["agent", "web-1", "web-2", "web-3"], "b": []}

    # A word that is no host's fails before anything is done.
    said = hosts.run("drain", services=services, drain_hosts=["b", "z"], drain_state="undrained", fails=True)
    assert "drain_hosts: z are no hosts of the play; it has a, b" in said
    for option in ({"drain_stop_first": "wep"}, {"drain_min_available": {"wep": 1}}):
        said = hosts.run("drain", services=services, drain_hosts=["a"], fails=True, **option)
        assert "wep is no service of drain_stacks, which have web" in said
    assert told(hosts.places["a"])["state"] == "undrained"
    # A command line has strings.
    hosts.run("drain", services=services, drain_hosts="b", drain_state="undrained")
    assert hosts.running()["b"] == ["agent", "lone"]
    assert told(hosts.places["b"])["state"] == "undrained"
    # There is room, and a number that is none fails before the mark is there.
    for option, told_of in (
        (
            {"drain_min_available": {"web": "150%"}},
            "minimums.web: '150%' is neither a number of replicas nor a percentage",
        ),
        ({"drain_wait": -5}, "drain_wait: -5 is less than nothing"),
    ):
        assert told_of in hosts.run("drain", services=services, drain_hosts=["a"], fails=True, **option)
    assert told(hosts.places["a"])["state"] == "undrained"
