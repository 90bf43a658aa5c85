# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our side, in an installation of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.template import Templar
from playing import CHECKOUT, Ansible, Failed, Play, resident, run

COLLECTIONS = CHECKOUT / "collection"
sys.path.insert(0, str(COLLECTIONS))

from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.plugins.plugin_utils import installed
from ansible_collections.vessel.host.tests import sweeping

PYTHON = "/usr/bin/python3"
INTERPRETER = "ansible_python_interpreter"
# The engine without Ansible around it: seconds from what is declared to what runs, by the clock of its own process.
BATCH = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._converge import host, stack_options, stacks
from ansible_collections.vessel.host.plugins.module_utils._converge.options import parse_options
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.plugins.plugin_utils import installed

host.set_starter(install.ensure)
paths = Paths.at(sys.argv[2])
desired = {"state": "present", **parse_options(stack_options.OPTIONS, json.load(sys.stdin))}
install.ensure(paths).close()
start = time.perf_counter()
stacks.plan(paths, desired).apply()
print(time.perf_counter() - start)
"""
CONTAINER = {
    "image": "busybox",
    "command": ["sleep", "1000000"],
    "networks": [{"name": "bench"}],
    "memory": "64m",
    "cpus": 0.5,
}


def install(root: Path) -> None:
    """The engine, as podman is installed, by the Ansible that :func:`run_module` has its payload from."""
    adhoc = Path(sys.executable).with_name("ansible")
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)}
    arguments = json.dumps({"root": str(root)})
    run(str(adhoc), "localhost", "-m", "vessel.host.engine", "-a", arguments, "-e", f"{INTERPRETER}={PYTHON}", env=env)


def run_module(root: Path, name: str, args: dict[str, Any]) -> dict[str, Any]:
    """What a module returns, run in a process by the payload that a task sends to a host."""
    given = {"root": str(root), **args}
    interpreter = ({INTERPRETER: PYTHON}, Templar(), (), False)
    payload = installed.build(str(CHECKOUT / f"plugins/modules/{name}.py"), given, interpreter)
    result: dict[str, Any] = json.loads(run(PYTHON, input=payload.b_module_data.decode(), timeout=900))
    return result


class Vessel:
    def __init__(self, directory: Path) -> None:
        self.root = directory / "vessel"
        self.root.mkdir()
        self.paths = Paths.at(str(self.root))
        self.ansible = Ansible(self.root, COLLECTIONS)

    def prepare(self) -> None:
        self.ansible.play("vessel_image.yml", root=self.root)
        self.up(1)  # it installs the engine, as podman is installed
        self.down(1)

    def up(self, count: int) -> Play:
        return self.ansible.play("vessel.yml", root=self.root, count=count, timeout=60 + count)

    def down(self, count: int) -> None:
        self.ansible.play("vessel.yml", root=self.root, count=count, state="absent", timeout=60 + count)
        self.settle()

    def batch(self, count: int) -> float:
        """Seconds that the engine takes for as many containers, from nothing to running."""
        containers = {f"bench{number}": CONTAINER for number in range(count)}
        stack = {"name": "bench", "networks": {"bench": {"subnet": "10.86.0.0/16"}}, "containers": containers}
        argv = [PYTHON, "-c", BATCH, str(COLLECTIONS), str(self.root)]
        return float(run(*argv, input=json.dumps(stack), timeout=60 + count))

    def running(self) -> int:
        listed = json.loads(run(f"{self.paths.bin}/vessel", "ps", "--json"))
        return sum(1 for container in listed if container["status"] == "running")

    def resident(self) -> dict[str, int]:
        return resident(f"{self.paths.libexec}/")

    def settle(self) -> None:
        """Until the supervisor has ended, as it does when nothing is left to look after."""
        deadline = time.monotonic() + 30
        while list(sweeping.processes(self.paths)):
            if time.monotonic() > deadline:
                raise Failed("the supervisor is still there 30 seconds after its last container went")
            time.sleep(0.05)

    def remove(self) -> None:
        with suppress(Exception):
            self.down(1000)
        sweeping.sweep(self.paths)
