# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role rollout over hosts that are installations of their own: what reaches whom, and who goes back to what."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.tests.patience import patient

from .load import Load, Outside
from .roots import Roots
from .warm import NET, PORT

pytestmark = pytest.mark.root
HOSTS = ("a", "b", "c", "d")


class Fleet(Roots):
    def start(self, version: str, containers: dict[str, Any], **variables: Any) -> subprocess.Popen[str]:
        wanted = {
            "version": version,
            "rollout_stack": {"name": "shop", "containers": containers},
            "rollout_soak": 0,
            "rollout_wait": 600,  # nobody waits for one that has ended
            "rollout_directory": "{{ place }}/marks",
            **variables,
        }
        return self.play("rollout", **wanted)

    def run(self, version: str, containers: dict[str, Any], *, fails: bool = False, **variables: Any) -> str:
        return self.done(self.start(version, containers, **variables), fails=fails)

    def versions(self) -> str:
        """What runs on each host, as its environment says; - where nothing does, ? where it is just being changed."""
        return "".join(map(self._version, HOSTS))

    def _version(self, host: str) -> str:
        for found in self.places[host].task("container_info")["containers"]:
            if found["pid"]:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    words = Path(f"/proc/{found['pid']}/environ").read_text().split("\0")
                    return dict(word.split("=", 1) for word in words if word).get("VERSION", "?")
                return "?"
        return "-"

    def marks(self) -> list[Path]:
        """What hosts keep during a rollout; who counts is in another file."""
        return [path for path in self.directory.glob("*/marks/*") if not path.name.startswith(".")]

    def owned(self) -> list[Path]:
        return list(self.directory.glob("*/marks/.*"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), HOSTS)
    try:
        yield fleet
    finally:
        fleet.remove()


def web(command: str = "sleep 1000", **more: Any) -> dict[str, Any]:
    body = {"image": "bb", "network_mode": "none", "env": {"VERSION": "{{ version }}"}, "stop_signal": "KILL"}
    return {"web": {**body, "command": ["sh", "-c", command], **more}}


def sick_on(host: str, command: str = "exit 3") -> dict[str, Any]:
    """One that ends at once on that host."""
    wanted = "{{ '" + command + "' if inventory_hostname == '" + host + "' else 'sleep 1000' }}"
    return web(wanted)


BLIND = {
    "group/vessel.host.all": {"root": "{{ place }}/vessel"},
    "vessel.host.container_info": {"root": "{{ place }}/vessel", "nonsense": True},
}


def test_where_nobody_can_look_it_is_told_why(fleet: Fleet) -> None:
    said = fleet.run("0", web(), fails=True, rollout_wait=2, words={"module_defaults": BLIND})
    assert "nobody can look: Unsupported parameters for (vessel.host.container_info) module: nonsense" in said
    assert "has no attribute" not in said
    assert fleet.versions() == "----"


@pytest.mark.timeout(1200)
def test_rollouts(fleet: Fleet) -> None:
    said = fleet.run("1", web())
    # One host first, then as many as a quarter of four are.
    assert re.findall(r"batch\.yml for [a-d, ]+ => \(item=(.*)\)", said) == ["a", "b", "c", "d"]
    assert fleet.versions() == "1111"
    assert fleet.marks() == []

    # The canary fails: nobody else is changed.
    said = fleet.run("2", sick_on("a"), fails=True)
    assert "a: web ended with 3" in said
    assert "seconds after it was changed" not in said
    assert fleet.versions() == "1111"
    assert [place.task("stack_info")["stacks"][0]["revision"] for place in fleet.places.values()] == [1, 1, 1, 1]

    # A later one fails: those before it go back, whatever the play says of hosts that fail.
    said = fleet.run("3", sick_on("c"), fails=True, words={"any_errors_fatal": True})
    assert "The rollout of shop was given up" in said
    assert fleet.versions() == "1111"
    assert fleet.marks() == []

    # One of four may fail: it alone goes back, and the play tells.
    said = fleet.run("4", sick_on("b"), fails=True, rollout_max_fail_percentage=25, rollout_batches=["50%"])
    assert "shop on b: web ended with 3" in said
    assert fleet.versions() == "4144"

    # What lives and is never well is waited for no longer than that, and told as what it is.
    never = {"healthcheck": {"test": ["CMD", "false"], "interval": "300ms", "retries": 2}}
    said = fleet.run("n", web(**never), fails=True, rollout_wait=4)
    assert "web is unhealthy, 4 seconds after it was changed" in said
    assert "Unknown error" not in said
    assert fleet.versions() == "4144"

    # Nothing is taken back where that is not wanted.
    fleet.run("5", sick_on("c"), fails=True, rollout_return=False, rollout_batches=[4])
    assert fleet.versions() == "55-5"
    fleet.run("6", web(), rollout_batches=[4])
    assert fleet.versions() == "6666"

    # What does not stay well is not well.
    said = fleet.run("7", sick_on("a", "sleep 4; exit 3"), fails=True, rollout_soak=6)
    assert "web ended with 3" in said
    assert fleet.versions() == "6666"


def test_a_controller_that_dies(fleet: Fleet) -> None:
    """The next run goes on; and if it fails, those go back too that the first one changed."""
    fleet.run("8", web(), rollout_batches=[4])
    process = fleet.start("9", web(), rollout_soak=1000)
    deadline = time.monotonic() + patient(120)
    while fleet.versions() != "9888":
        assert time.monotonic() < deadline
        time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert [path.parent.parent.name for path in fleet.marks()] == ["a"]
    fleet.run("9", sick_on("d"), fails=True)
    assert fleet.versions() == "8888"
    assert fleet.marks() == []
    fleet.run("9", web(), rollout_batches=[4])
    assert fleet.versions() == "9999"


@pytest.mark.timeout(1200)
def test_of_two_at_once_the_later_one_counts(fleet: Fleet) -> None:
    fleet.run("1", web(), rollout_batches=[4])
    process = fleet.start("2", web(), rollout_soak=patient(20))
    deadline = time.monotonic() + patient(120)
    while fleet.versions() != "2111":
        assert time.monotonic() < deadline
        time.sleep(0.3)
    fleet.run("3", web(), rollout_batches=[4])
    assert fleet.versions() == "3333"
    said = fleet.done(process, fails=True)
    assert "another rollout of it has begun meanwhile, and that one counts" in said
    assert "Nothing was taken back on a, b, c, d." in said
    assert fleet.versions() == "3333"
    assert fleet.marks() + fleet.owned() == []


def test_numbers_of_a_command_line_are_strings(fleet: Fleet) -> None:
    words = {"rollout_wait": "60", "rollout_soak": "1", "rollout_max_fail_percentage": "25", "rollout_return": "false"}
    said = fleet.run("4", sick_on("b"), fails=True, rollout_batches="50%", **words)
    assert "shop on b: web ended with 3" in said
    assert fleet.versions() == "4-44"
    fleet.run("5", web(), rollout_batches=[4], **words)
    assert fleet.versions() == "5555"


def test_where_there_was_none_it_goes_again(fleet: Fleet) -> None:
    for place in fleet.places.values():
        place.task("stack", name="shop", state="absent")
    fleet.run("1", sick_on("b"), fails=True, rollout_batches=[2])
    assert fleet.versions() == "----"
    assert all(place.task("stack_info")["stacks"] == [] for place in fleet.places.values())


SERVE = """
mkdir /www; echo $VERSION >/www/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait
"""


def test_no_request_is_dropped_while_all_hosts_get_the_next_version(fleet: Fleet) -> None:
    """What is published changes hands on each host when the new one is well; one that is not well never gets it."""
    test = {
        "test": ["CMD", "wget", "-qO-", "http://127.0.0.1"],
        "interval": "1s",
        "start_interval": "0.2s",
        "retries": 1,
    }
    body = {
        "image": "bb",
        "command": ["sh", "-c", "{{ 'sleep 1000' if version == 'sick' else serve }}"],
        "env": {"VERSION": "{{ version }}"},
        "networks": [{"name": "net"}],
        "published_ports": [f"{{{{ {PORT} + number | int }}}}:80"],
        "healthcheck": test,
        "update_order": "start_first",
        "drain_timeout": "10s",
    }
    given = {
        "serve": SERVE,
        "number": f"{{{{ {list(HOSTS)}.index(inventory_hostname) }}}}",
        "rollout_stack": {
            "name": "shop",
            "networks": {"net": {"subnet": NET + "{{ number }}.0/24"}},
            "containers": {"web": body},
        },
        "rollout_batches": [1, "100%"],
    }
    outside = Outside(f"vt{os.getpid()}-load", f"{NET}9")
    try:
        fleet.run("one", {}, **given)
        with contextlib.ExitStack() as stacked:
            loads = [stacked.enter_context(Load(outside, PORT + number)) for number in (0, len(HOSTS) - 1)]
            fleet.run("two", {}, **given)
            said = fleet.run("sick", {}, fails=True, **given)
    finally:
        outside.remove()
    assert "The rollout of shop was given up: a: container web: it is unhealthy" in said
    for load in loads:
        print(dict(load.answers), dict(load.failed))
        assert not load.failed
        assert set(load.answers) == {"one", "two"}
        assert min(load.answers.values()) > 20
    for place in fleet.places.values():
        place.task("stack", name="shop", state="absent")


def test_what_is_no_option_is_refused(fleet: Fleet) -> None:
    said = fleet.run("1", web(), fails=True, rollout_stack={"name": "shop", "state": "absent", "root": "/"})
    assert "rollout_stack: root, state is nothing that a rollout" in said
    said = fleet.run("1", web(), fails=True, rollout_batches=["many"])
    assert "sizes[0]: 'many' is neither a number of hosts" in said


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("rollout_stack", {"name": ""}, "rollout_stack.name: is missing"),
        ("rollout_stack", {}, "rollout_stack.name: is missing"),
        ("rollout_stack", {"name": "shop", "history_limit": 0}, "history_limit: with 0 a host keeps nothing"),
        ("rollout_max_fail_percentage", -1, "rollout_max_fail_percentage: -1 is no percentage"),
        ("rollout_max_fail_percentage", 101, "rollout_max_fail_percentage: 101 is no percentage"),
        ("rollout_wait", -1, "rollout_wait: -1 is less than nothing"),
        ("rollout_soak", -1, "rollout_soak: -1 is less than nothing"),
        ("words", {"serial": 2}, "serial: is set in the play"),
    ],
)
def test_what_can_not_be_is_refused(fleet: Fleet, variable: str, value: Any, told: str) -> None:
    assert told in fleet.run("1", web(), fails=True, **{variable: value})
    assert fleet.marks() + fleet.owned() == []
