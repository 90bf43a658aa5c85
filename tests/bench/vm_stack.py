# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many containers in one stack task over ssh, in a virtual machine: time by that of ansible.builtin.ping, and memory.

Memory is the proportional set size of all that is ours and resident, what systemd grew by (each container is a scope),
and what the host has less of, by container: its process, its namespaces, its network, its groups.
Writes a table to the terminal and everything measured to tests/output/vm_stack.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from functools import reduce
from pathlib import Path
from typing import Any

from machine import Machine, machine, play, until
from playing import CHECKOUT
from run import expect, say, show
from run import machine as this_machine

OUTPUT = CHECKOUT / "tests" / "output" / "vm_stack.json"
# Lines: kB of our processes (their command lines have our path), of PID 1, and what the host could still give away.
MEMORY = """
sync; echo 3 > /proc/sys/vm/drop_caches
pss() { awk '/^Pss:/ { sum += $2 } END { print sum + 0 }' "$@" 2>/dev/null; }
ours=$(grep -lsaE '/usr/local/(bin|libexec)/vessel' /proc/[0-9]*/cmdline | grep -v "/$$/" | sed s/cmdline/smaps_rollup/)
pss $ours /dev/null
pss /proc/1/smaps_rollup
awk '/^MemAvailable:/ { print $2 }' /proc/meminfo
"""
CONTAINER = {
    "image": "busybox",
    "command": ["sleep", "1000000"],
    "networks": [{"name": "bench"}],
    "memory": "64m",
    "cpus": 0.5,
    "stop_timeout": "1s",
}


def stack(count: int) -> dict[str, Any]:
    return {
        "name": "bench",
        "images": {"busybox": {"source": "template", "template": "busybox"}},
        "networks": {"bench": {"subnet": "10.86.0.0/16"}},
        "containers": {f"bench{number}": CONTAINER for number in range(count)},
    }


def turn(host: Machine, count: int) -> dict[str, Any]:
    ping = play(host, "vm_ping.yml").seconds
    before = memory(host)
    fresh = play(host, "vm_stack.yml", stack=stack(count))
    expect("containers running", running(host), count)
    after = memory(host)
    again = play(host, "vm_stack.yml", stack=stack(count))
    expect("changed by the second run", again.changed, 0)
    removal = play(host, "vm_stack.yml", stack={**stack(0), "containers": {}, "prune": True})
    expect("containers running", running(host), 0)
    seconds = {"ping": ping, "from nothing": fresh.seconds, "no change": again.seconds, "removal": removal.seconds}
    kilobytes = {"before": before, "after": after}
    say(f"{seconds} {kilobytes}")
    return {"seconds": seconds, "kB": kilobytes}


def running(host: Machine) -> int:
    return sum(container["status"] == "running" for container in json.loads(host.ssh("vessel ps --json")))


def memory(host: Machine) -> dict[str, int]:
    words = host.ssh(MEMORY).split()
    return dict(zip(("ours", "systemd", "available"), map(int, words)))


def prepare(host: Machine) -> None:
    """The engine and the image are there, as podman and its image are in the other comparison; nothing runs."""
    play(host, "vm_stack.yml", stack=stack(1))
    play(host, "vm_stack.yml", stack={**stack(0), "prune": True})
    until("an idle host", lambda: running(host) == 0, pause=1)


def rows(turns: list[dict[str, Any]], count: int) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    def middle(*keys: str) -> float:
        return statistics.median(float(reduce(dict.__getitem__, keys, each)) for each in turns)

    ping = middle("seconds", "ping")
    times = [(f"{count} containers", "s", "times ping", "ms a container over ping")]
    for what in ("ping", "from nothing", "no change", "removal"):
        seconds = middle("seconds", what)
        over = f"{1000 * (seconds - ping) / count:.1f}" if what != "ping" else ""
        times.append((what, f"{seconds:.2f}", f"{seconds / ping:.1f}", over))
    ours = middle("kB", "after", "ours")
    systemd = middle("kB", "after", "systemd") - middle("kB", "before", "systemd")
    gone = middle("kB", "before", "available") - middle("kB", "after", "available") - ours - systemd
    sizes = [("memory", "MB", "kB a container")]
    for what, size in (("ours, resident", ours), ("systemd's growth", systemd), ("the kernel's, and processes", gone)):
        sizes.append((what, f"{size / 1024:.1f}", f"{size / count:.1f}"))
    return times, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="containers")
    parser.add_argument("--runs", type=int, default=3, help="how often; the median counts")
    parser.add_argument("--memory", type=int, default=2048, help="MiB of the machine")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vessel-bench-") as name:
        options = ["--memory", str(arguments.memory)]
        with machine(f"vmbench-stack-{os.getpid()}", Path(name), *options) as host:
            prepare(host)
            turns = [turn(host, arguments.count) for _turn in range(arguments.runs)]
            about = {**this_machine(), "accelerator": host.accelerator, "guest": host.ssh("uname -r").strip()}
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({"machine": about, "containers": arguments.count, "turns": turns}, indent=2) + "\n")
    print(f"load of this machine {about['load']:.1f}, {about['accelerator']}, Linux {about['guest']}\n")
    for table in rows(turns, arguments.count):
        show(table)


if __name__ == "__main__":
    main()
