# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many hosts on which nothing is to be changed: a play of one stack task, beside one of ``ansible.builtin.ping`` over
the same hosts with the same forks.

The hosts are names of one ssh server on loopback. Each has connections, a network namespace, in which its Python runs,
and an installation of its own: a network, and containers on it with limits. Each turn begins without a connection. The
user is root. Both sides and all hosts share this machine's processors, so the hosts' work counts in full, which in a
fleet is spread. Writes a table to the terminal and everything measured to tests/output/unchanged.json. Needs root;
leaves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from inventory import Fleet, expect, tell
from playing import CHECKOUT, file_system, prepare_venv, run
from run import say
from vessel import CONTAINER, PYTHON

sys.path.insert(0, str(CHECKOUT / "collection"))
from ansible_collections.vessel.host.tests.integration.ssh_host import ssh_host

OUTPUT = CHECKOUT / "tests" / "output" / "unchanged.json"
# What a turn that failed has left, in the namespace that it is in.
SWEEP = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.sweeping import sweep
sweep(Paths.at(sys.argv[2]))
"""
STACK = {
    "name": "bench",
    "images": {"busybox": {"source": "template", "template": "busybox"}},
    "networks": {"bench": {"subnet": "10.87.{{ number }}.0/24"}},
}
PLAYS: dict[str, list[dict[str, Any]]] = {
    "ping": [{"ansible.builtin.ping": {}}],
    "absent": [
        {"vessel.host.stack": {"name": "bench", "state": "absent"}},
        {"vessel.host.engine": {"state": "absent"}},
    ],
}


class Hosts(Fleet):
    """Each with a root of its own, and plays over all of them."""

    def __init__(self, directory: Path, words: str, hosts: int, containers: int, forks: int) -> None:
        super().__init__(directory, words, "", hosts, forks)
        self.roots = [str(directory / f"h{number}") for number in range(hosts)]
        self.namespaces = [f"{directory.parent.name}-{number}" for number in range(hosts)]
        for name, tasks in PLAYS.items():
            self._write(name, tasks)
        everyone = {f"c{number}": CONTAINER for number in range(containers)}
        self._write("stack", [{"vessel.host.stack": {**STACK, "containers": everyone}}])

    def __enter__(self) -> Hosts:
        for number, namespace in enumerate(self.namespaces):
            run("ip", "netns", "add", namespace)
            python = self._directory / f"python{number}"
            python.write_text(f'#!/bin/sh\nexec nsenter --net=/run/netns/{namespace} {PYTHON} "$@"\n')
            python.chmod(0o755)
        return self

    def __exit__(self, *dummy: object) -> None:
        os.chdir(CHECKOUT)
        for namespace, root in zip(self.namespaces, self.roots):
            run("ip", "netns", "exec", namespace, sys.executable, "-c", SWEEP, str(CHECKOUT / "collection"), root)
            run("ip", "netns", "delete", namespace)

    def own(self, number: int) -> str:
        return f"ansible_python_interpreter={self._directory}/python{number}"

    def _write(self, name: str, tasks: list[dict[str, Any]]) -> None:
        root = f"{self._directory}/{{{{ inventory_hostname }}}}"
        play = {
            "hosts": "all",
            "gather_facts": False,
            "vars": {"number": "{{ inventory_hostname[1:] }}"},
            "module_defaults": {"group/vessel.host.all": {"root": root}},
            "tasks": tasks,
        }
        (self._directory / f"{name}.yml").write_text(json.dumps([play]))

    def play(self, name: str) -> tuple[float, int]:
        """(seconds of the whole process, how many hosts were changed)."""
        self.anew()
        seconds, said = self.run("ansible-playbook", f"{name}.yml", "--forks", self._forks)
        recap = said.rpartition("PLAY RECAP")[2]
        expect(recap.count("failed=0"), self._hosts)
        return seconds, self._hosts - recap.count("changed=0 ")


def measure(hosts: Hosts, runs: int) -> dict[str, list[float]]:
    seconds, changed = hosts.play("stack")
    expect(changed, hosts._hosts)
    say(f"made in {seconds:.1f} s")
    found: dict[str, list[float]] = {"ping": [], "stack": []}
    for _turn in range(runs):
        for name, taken in found.items():
            seconds, changed = hosts.play(name)
            expect(changed, 0)
            taken.append(seconds)
        say(f"{found}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--containers", type=int, default=20, help="of each host")
    parser.add_argument("--forks", type=int, default=5, help="more logins at once the ssh server refuses")
    parser.add_argument("--runs", type=int, default=3, help="how often; the median counts")
    arguments = parser.parse_args()
    prepare_venv()
    base = Path(tempfile.mkdtemp(prefix="vessel-bench-"))
    try:
        with file_system(base / "hosts") as directory, ssh_host(root=True) as (dummy, line):
            words = line.split(" ", 1)[1]
            with Hosts(directory, words, arguments.hosts, arguments.containers, arguments.forks) as hosts:
                found = measure(hosts, arguments.runs)
                hosts.play("absent")
    finally:
        shutil.rmtree(base)
    tell(OUTPUT, arguments, found)


if __name__ == "__main__":
    main()
