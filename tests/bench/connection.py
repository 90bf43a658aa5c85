# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same task on a host by plain ssh, and in a container of that host by the connection plugin.

Both log in to one ssh server on loopback as root, or become root there, and run the same Python of the same host. The
container is once in the inventory by hand, and once by the inventory plugin, which loads the connection for all tasks
at once. A task's time is what plays with many of them take longer than plays with one, in turns: by the clock, the
fastest of each, and in processor time of all that takes part (controller, both ends of ssh, host, container), which
other work on the machine changes little.
Writes a table to the terminal and everything measured to tests/output/connection.json. Needs root; leaves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playing import CHECKOUT, VENV, prepare_venv, run
from pull import clock
from run import machine, say, show

sys.path.insert(0, str(CHECKOUT / "collection"))
from ansible_collections.vessel.host.plugins.module_utils._cgroup.manager import Manager, open_manager
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths
from ansible_collections.vessel.host.tests.integration.ssh_host import ssh_host

OUTPUT = CHECKOUT / "tests" / "output" / "connection.json"
BAR = 1.3  # of a plain ssh task's time
PYTHON = "/usr/bin/python3"
TASKS = {
    "ping, pipelined": ({"ansible.builtin.ping": {}}, True),
    "ping": ({"ansible.builtin.ping": {}}, False),
    "raw": ({"ansible.builtin.raw": "true"}, True),
    "copy of 100 kB": ({"ansible.builtin.copy": {"src": "file", "dest": "/tmp/vessel-bench-file"}}, True),
}
HOSTS = {"plain": "plain ssh", "inside": "in a container", "bench@plain": "by the inventory plugin"}
MODULE = """
import json, sys
from importlib import import_module
from ansible.module_utils.testing import patch_module_args
main = import_module("ansible_collections.vessel.host.plugins.modules." + sys.argv[1]).main
with patch_module_args(json.loads(sys.argv[2])):
    main()
"""
Figures = dict[str, dict[str, list[dict[str, float]]]]  # by task and host: a dictionary a turn


class Installation:
    """A container with the host's own Python in it, made as the host's Python makes it."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def module(self, module: str, **args: Any) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, self._paths()))}
        run(PYTHON, "-c", MODULE, module, json.dumps({"root": self.root, **args}), env=env)

    def _paths(self) -> list[Path]:
        return [CHECKOUT / "collection", *VENV.glob("lib/python3*/site-packages")]

    def up(self) -> None:
        volumes = ["/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro"]
        self.module("image", name="bench", source="template", template="busybox", cmd=["sleep", "100000"])
        self.module("container", name="bench", image="bench", network_mode="none", volumes=volumes)

    def down(self) -> None:
        self.module("container", name="bench", state="absent")
        self.module("image", name="bench", state="absent")
        self.module("engine", state="absent")


@contextmanager
def inventory(directory: Path, *, sudo: bool) -> Iterator[dict[str, list[Path]]]:
    """The inventory's sources for each host, of which all but the first are a container of that."""
    installation = Installation(directory / "vessel")
    with ssh_host(root=not sudo) as (dummy, line):
        installation.up()
        try:
            words = line.split(" ", 1)[1]
            ours = f"ansible_vessel_container=bench ansible_vessel_root={installation.root}"
            become = "ansible_become=true" if sudo else ""
            if sudo:
                ours += " ansible_vessel_become='sudo -n'"
            by_hand, asked = directory / "inventory", directory / "containers.vessel.yml"
            by_hand.write_text(
                f"plain {words} {become}\ninside {words} ansible_connection=vessel.host.container {ours}\n"
            )
            source = {"plugin": "vessel.host.containers", "hosts": "plain", "root": installation.root}
            asked.write_text(json.dumps(source))
            yield {"plain": [by_hand], "inside": [by_hand], "bench@plain": [by_hand, asked]}
        finally:
            installation.down()


class Side:
    """One of the hosts, and plays on it. ``groups`` hold all who take part."""

    def __init__(self, host: str, sources: list[Path], groups: list[Manager]) -> None:
        self.host = host
        self._directory = sources[0].parent
        self._sources = [word for path in sources for word in ("-i", str(path))]
        self._groups = groups

    def play(self, task: dict[str, Any], count: int, *, pipelining: bool) -> dict[str, float]:
        """Milliseconds of a whole ansible-playbook with so many tasks, by the clock and of processors."""
        book = [{"hosts": self.host, "gather_facts": False, "tasks": [task] * count}]
        (self._directory / "play.yml").write_text(json.dumps(book))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        settings = {"ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collection"), "ANSIBLE_PIPELINING": str(pipelining)}
        argv = [str(VENV / "bin/ansible-playbook"), *self._sources, str(self._directory / "play.yml")]
        done: list[str] = []
        before = self._used()
        seconds = clock(lambda: done.append(run(*argv, env={**kept, **settings})))
        if f"ok={count} " not in done[0]:
            raise SystemExit(done[0])
        return {"clock": 1000 * seconds, "processor": self._used() - before}

    def _used(self) -> float:
        return sum(group.stats()["cpu_usage_ns"] for group in self._groups) / 1e6


def measure(directory: Path, group: Manager, tasks: list[str], count: int, runs: int, *, sudo: bool) -> Figures:
    found: Figures = {what: {host: [] for host in HOSTS} for what in tasks}
    with inventory(directory, sudo=sudo) as sources:
        groups = [group, open_manager(Paths.at(str(directory / "vessel")).cgroup("bench"))]
        sides = [Side(host, paths, groups) for host, paths in sources.items()]
        for what in tasks:
            task, pipelining = TASKS[what]
            for side in sides:
                side.play(task, 1, pipelining=pipelining)  # the connection is there from now on
            for _turn in range(runs):
                for side in sides:
                    one, many = (side.play(task, number, pipelining=pipelining) for number in (1, 1 + count))
                    turn = {f"one, {key}": value for key, value in one.items()}
                    found[what][side.host].append({**turn, **{f"many, {key}": value for key, value in many.items()}})
            say(f"{what}: {found[what]}")
    return found


def a_task(turns: list[dict[str, float]], key: str, count: int) -> float:
    many, one = (min(turn[f"{number}, {key}"] for turn in turns) for number in ("many", "one"))
    return (many - one) / count


def rows(found: Figures, count: int) -> list[tuple[str, ...]]:
    lines = [("a task", "measured", *(f"{title}, ms" for title in HOSTS.values()), "ratios", "bar")]
    for what, sides in found.items():
        for key in ("clock", "processor"):
            plain, *inside = (a_task(sides[host], key, count) for host in HOSTS)
            ratios = ", ".join(f"{time / plain:.2f}" for time in inside)
            lines.append((what, key, *(f"{time:.0f}" for time in (plain, *inside)), ratios, f"{BAR}"))
    return lines


def work(arguments: argparse.Namespace, group: Manager) -> None:
    group.add(os.getpid())
    directory = Path(tempfile.mkdtemp(prefix="vessel-bench-"))
    directory.chmod(0o755)  # a user gets to the default installation's socket, too
    try:
        (directory / "file").write_bytes(os.urandom(100_000))
        tasks = arguments.only or list(TASKS)
        found = measure(directory, group, tasks, arguments.count, arguments.runs, sudo=arguments.sudo)
    finally:
        shutil.rmtree(directory)
        Path("/tmp/vessel-bench-file").unlink(missing_ok=True)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({"machine": machine(), "count": arguments.count, "tasks": found}, indent=2) + "\n")
    show(rows(found, arguments.count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="tasks in a play")
    parser.add_argument("--only", action="append", choices=list(TASKS), help="not all of the tasks")
    parser.add_argument("--sudo", action="store_true", help="log in as a user who becomes root by sudo, on both sides")
    parser.add_argument("--runs", type=int, default=5, help="how often; the fastest counts")
    arguments = parser.parse_args()
    prepare_venv()
    group = open_manager(f"/vessel-bench-{os.getpid()}")
    group.create()
    try:
        # A process of its own, for who is in a group can't remove it.
        worker = os.fork()
        if worker == 0:
            work(arguments, group)
            sys.stdout.flush()
            os._exit(0)
        if os.waitpid(worker, 0)[1]:
            raise SystemExit("it failed")
    finally:
        group.remove()


if __name__ == "__main__":
    main()
