# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers of many hosts as an inventory, beside ``ansible -m ping`` over the same hosts with the same forks.

The hosts are names of one ssh server on loopback, each with connections of its own, and with one installation between
them. Each turn begins without a connection. The user becomes root. Writes a table to the terminal and everything
measured to tests/output/inventory.json. Needs root; leaves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playing import CHECKOUT, VENV, prepare_venv, run
from pull import clock
from run import machine, say, show

sys.path.insert(0, str(CHECKOUT / "collection"))
from ansible_collections.vessel.host.tests.integration.place import Place
from ansible_collections.vessel.host.tests.integration.ssh_host import ssh_host

OUTPUT = CHECKOUT / "tests" / "output" / "inventory.json"
SOURCE = {"plugin": "vessel.host.containers"}


class Fleet:
    """The sources in a directory, and Ansible's programs with them."""

    def __init__(self, directory: Path, words: str, root: str, hosts: int, forks: int) -> None:
        self._directory, self._words, self._root = directory, words, root
        self._hosts = hosts
        self._turn = 0
        cache = {
            "cache": True,
            "cache_plugin": "ansible.builtin.jsonfile",
            "cache_connection": str(directory / "cache"),
        }
        for name, more in {"asked": {}, "cached": cache}.items():
            source = {**SOURCE, "forks": forks, **more}
            (directory / f"{name}.vessel.yml").write_text(json.dumps(source))
        self._forks = str(forks)

    def anew(self) -> None:
        """From now on nobody is connected: a connection's name has the turn in it."""
        self._turn += 1
        lines = [
            f"h{number} {self._words} ansible_control_path={self._directory}/{self._turn}-{number} {self.own(number)}"
            for number in range(self._hosts)
        ]
        more = ["[all:vars]", "ansible_become=true", f"ansible_vessel_root={self._root}"]
        (self._directory / "hosts").write_text("\n".join([*lines, *more, ""]))

    def own(self, number: int) -> str:
        """What else an inventory says of the host."""
        return ""

    def run(self, program: str, *arguments: str) -> tuple[float, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        settings = {"ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collection")}
        argv = [str(VENV / "bin" / program), "-i", "hosts", *arguments]
        said: list[str] = []
        os.chdir(self._directory)
        seconds = clock(lambda: said.append(run(*argv, env={**kept, **settings})))
        return seconds, said[0]

    def ping(self) -> float:
        seconds, said = self.run("ansible", "all", "-m", "ansible.builtin.ping", "--forks", self._forks)
        expect(said.count("pong"), self._hosts)
        return seconds

    def listed(self, source: str, containers: int) -> float:
        seconds, said = self.run("ansible-inventory", "-i", f"{source}.vessel.yml", "--list")
        expect(len(json.loads(said)["vessel_containers"]["hosts"]), self._hosts * containers)
        return seconds

    def nothing(self) -> float:
        return self.run("ansible-inventory", "--list")[0]


def expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise SystemExit(f"{found} have answered, of {wanted}")


def measure(fleet: Fleet, containers: int, runs: int) -> dict[str, list[float]]:
    """Seconds of whole processes."""
    found: dict[str, list[float]] = {}
    for turn in range(runs):
        fleet.anew()
        found.setdefault("ping", []).append(fleet.ping())
        fleet.anew()
        found.setdefault("asked", []).append(fleet.listed("asked", containers))
        if not turn:
            fleet.listed("cached", containers)
        found.setdefault("cached", []).append(fleet.listed("cached", containers))
        found.setdefault("the hosts alone", []).append(fleet.nothing())
        say(f"{found}")
    return found


def rows(found: dict[str, list[float]]) -> list[tuple[str, ...]]:
    ping = statistics.median(found["ping"])
    lines = [("", "s", "times ping")]
    for what, seconds in found.items():
        middle = statistics.median(seconds)
        lines.append((what, f"{middle:.2f}", f"{middle / ping:.2f}"))
    return lines


def tell(output: Path, arguments: argparse.Namespace, found: dict[str, list[float]]) -> None:
    output.parent.mkdir(exist_ok=True)
    given = {name: value for name, value in vars(arguments).items() if name != "runs"}
    output.write_text(json.dumps({"machine": machine(), **given, "seconds": found}, indent=2) + "\n")
    show(rows(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--containers", type=int, default=20, help="of each host")
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3, help="how often; the median counts")
    arguments = parser.parse_args()
    prepare_venv()
    directory = Path(tempfile.mkdtemp(prefix="vessel-bench-"))
    place = Place(str(directory / "vessel"))
    try:
        place.busybox()
        containers = {f"c{number}": {"image": "bb", "network_mode": "none"} for number in range(arguments.containers)}
        place.task("stack", name="bench", containers=containers)
        with ssh_host() as (dummy, line):
            words = line.split(" ", 1)[1]
            fleet = Fleet(directory, words, place.root, arguments.hosts, arguments.forks)
            found = measure(fleet, arguments.containers, arguments.runs)
    finally:
        os.chdir(CHECKOUT)
        place.remove()
        shutil.rmtree(directory)
    tell(OUTPUT, arguments, found)


if __name__ == "__main__":
    main()
