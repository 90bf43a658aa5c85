# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook of docs/placement.md, on three installations that are three hosts to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vessel.host.tests.patience import patient

from .place import Place

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).parents[2]


class Fleet:
    """Hosts that are installations of this one, and the documented playbook and inventory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        blocks = re.findall(r"```yaml\n(.*?)```", (CHECKOUT / "docs/placement.md").read_text(), re.DOTALL)
        self.book, inventory = yaml.safe_load(blocks[0]), yaml.safe_load(blocks[1])
        self.hosts: dict[str, dict[str, Any]] = inventory["all"]["hosts"]
        self.book[0]["module_defaults"] = {"group/vessel.host.all": {"root": "{{ vessel_root }}"}}
        self.services = self.book[0]["tasks"][1]["vessel.host.place"]["services"]
        for service in self.services.values():
            service["container"]["network_mode"] = "none"  # three engines that begin at once take the same subnet
        self.places = {name: Place(str(directory / name)) for name in self.hosts}
        for name, place in self.places.items():
            self.hosts[name].update(
                ansible_connection="local", ansible_python_interpreter="/usr/bin/python3", vessel_root=place.root
            )

    def play(self, *arguments: str, fails: bool = False) -> str:
        (self.directory / "site.yml").write_text(yaml.safe_dump(self.book))
        (self.directory / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": self.hosts}}))
        program = f"{Path(sys.executable).parent}/ansible-playbook"
        command = [program, "-i", "inventory.yml", "site.yml", *arguments]
        env = {
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collection"),
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(
            command, cwd=self.directory, env=env, capture_output=True, text=True, timeout=patient(300), check=False
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def running(self) -> dict[str, dict[str, int]]:
        """The process of each container, by host."""
        return {
            name: {one["name"]: one["pid"] for one in place.task("container_info")["containers"]}
            for name, place in self.places.items()
        }


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    try:
        yield fleet
    finally:
        for place in fleet.places.values():
            place.remove()


def changed(said: str) -> dict[str, int]:
    return {name: int(number) for name, number in re.findall(r"^(h\d) .*changed=(\d+)", said, re.MULTILINE)}


def test_a_fleet_is_placed_and_drained(fleet: Fleet) -> None:
    assert changed(fleet.play("--check")) == {"h1": 1, "h2": 1, "h3": 1}
    assert fleet.running() == {"h1": {}, "h2": {}, "h3": {}}
    fleet.play()
    first = fleet.running()
    assert set(first["h1"]) == {"db-1"}  # the only SSD, and web is far from it
    assert {len(first["h2"]), len(first["h3"])} == {1, 2}
    assert all(pid for pids in first.values() for pid in pids.values())

    assert changed(fleet.play()) == {"h1": 0, "h2": 0, "h3": 0}
    assert fleet.running() == first

    # h2's go to its zone's other host, as long as db is not there; one more on h3 is as even, where h2 had two.
    fleet.hosts["h2"]["vessel_drain"] = True
    said = fleet.play(fails=True)
    assert re.search(r"no host for \d containers: web-\d.*anti-affinity to db over host \(1\).*drain \(1\)", said), said
    assert fleet.running() == first

    del fleet.services["web"]["anti_affinity"]
    fleet.play()
    second = fleet.running()
    assert second["h2"] == {}
    assert second["h3"].items() >= first["h3"].items()
    assert second["h1"]["db-1"] == first["h1"]["db-1"]
    assert set(second["h1"]) | set(second["h3"]) == {"db-1", *first["h2"], *first["h3"]}
    assert len(second["h1"]) > 1

    fleet.services["web"]["replicas"] = 1
    fleet.play()
    left = {name for pids in fleet.running().values() for name in pids}
    assert left == {"db-1", "web-1"}


def test_what_is_refused(fleet: Fleet) -> None:
    assert "--limit: 'h1,h2' is the play's limit, and all would be placed on what is left" in fleet.play(
        "--limit", "h1,h2", fails=True
    )
    fleet.services["web"]["cpu"] = 1
    assert "services.web.cpu: 1 belongs to no option; there are affinity" in fleet.play(fails=True)
    del fleet.services["web"]["cpu"]
    del fleet.book[0]["tasks"][1]["run_once"]
    assert "run_once: False is not set for this task" in fleet.play(fails=True)
    fleet.book[0]["tasks"][1]["run_once"] = True
    fleet.hosts["h3"]["ansible_python_interpreter"] = "/nonexistent"
    assert "hosts: ['h3'] have failed or can't be reached" in fleet.play(fails=True)
    del fleet.book[0]["tasks"][0]
    assert "hosts: ['h1', 'h2', 'h3'] have no result of host_info in the variable vessel_host" in fleet.play(fails=True)
