# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a reboot to everything healthy: vessel.host and podman's quadlet, with one shop, in one virtual machine.

The machine is a Debian 13, whose podman has quadlet. Each side is set up in its turn, with the other one gone, and
rebooted. Writes a table to the terminal and everything measured to tests/output/vm_reboot.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import quadlet
from machine import Machine, machine, reboot, until
from playing import CHECKOUT, HERE
from run import machine as this_machine
from run import say, show

OUTPUT = CHECKOUT / "tests" / "output" / "vm_reboot.json"
PORT = 18080
START = ["--suite", "trixie", "--packages", "podman,netavark,aardvark-dns,crun", "--publish", str(PORT)]
_CHECK = {"timeout": "60s", "retries": 10, "start_period": "300s"}
_ON = {"networks": [{"name": "shop"}], "memory": "32m", "image": "busybox", "restart_policy": "always"}
# The page is the boot's own, so an answer tells which boot it is of.
_SERVE = "trap 'exit 0' TERM; cp /proc/sys/kernel/random/boot_id /tmp/index.html; httpd -f -p 80 -h /tmp & wait"
_BECOME_READY = "trap 'exit 0' TERM; rm -f /data/ready; sleep 1; touch /data/ready; sleep 1000000 & wait"
DB: dict[str, Any] = {
    **_ON,
    "command": ["sh", "-c", _BECOME_READY],
    "volumes": ["data:/data"],
    "healthcheck": {**_CHECK, "test": ["CMD", "test", "-e", "/data/ready"], "interval": "2s", "start_interval": "2s"},
}
_GET = ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"]
WEB: dict[str, Any] = {
    **_ON,
    "command": ["sh", "-c", _SERVE],
    "depends_on": {"db": "healthy"},
    "healthcheck": {**_CHECK, "test": _GET, "interval": "10s", "start_interval": "1s"},
}


def shop(count: int) -> dict[str, Any]:
    """``count`` containers: one that becomes healthy after a moment, others that wait for it, one of them published."""
    others = {f"web{number}": WEB for number in range(1, count - 1)}
    return {
        "name": "shop",
        "images": {"busybox": {"source": "template", "template": "busybox"}},
        "networks": {"shop": {"subnet": "10.85.0.0/24"}},
        "volumes": {"data": {}},
        "containers": {"db": DB, "front": {**WEB, "published_ports": [f"{PORT}:80"]}, **others},
    }


class Side(Protocol):
    def __init__(self, host: Machine, stack: dict[str, Any]) -> None: ...

    def up(self) -> None: ...

    def healthy(self) -> float:
        """The uptime at which all containers were healthy, when they are; 0 until then."""

    def cpu(self) -> float:
        """Seconds of the processor that its programs took to bring the shop back."""

    def down(self) -> None: ...


class Quadlet:
    """A unit with Notify=healthy is active from then on, by systemd's own clock."""

    def __init__(self, host: Machine, stack: dict[str, Any]) -> None:
        self.host, self.stack = host, stack
        self.units = " ".join(f"{name}.service" for name in stack["containers"])

    def up(self) -> None:
        self.host.ssh(quadlet.importing("localhost/busybox:latest"))
        for name, content in quadlet.files(self.stack).items():
            self.host.write(f"{quadlet.DIRECTORY}/{name}", content)
        self.host.ssh(f"systemctl daemon-reload && systemctl start {self.units}")

    def healthy(self) -> float:
        shown = self.host.ssh(f"systemctl show --property ActiveState,ActiveEnterTimestampMonotonic {self.units}")
        units = [dict(line.split("=") for line in block.split("\n")) for block in shown.strip().split("\n\n")]
        if any(unit["ActiveState"] != "active" for unit in units):
            return 0.0
        return max(int(unit["ActiveEnterTimestampMonotonic"]) for unit in units) / 1e6

    def cpu(self) -> float:
        return sum(map(_seconds, self.host.ssh(f"systemctl show --value --property CPUUsageNSec {self.units}").split()))

    def down(self) -> None:
        self.host.ssh(f"systemctl stop {self.units}; rm -r {quadlet.DIRECTORY}; systemctl daemon-reload")
        self.host.ssh("podman rm --all --force; podman network prune --force; podman volume prune --force")


class Vessel:
    """Nothing waits for the last of ours, so a watcher in the machine does, and costs our side what it costs."""

    UNIT = "[Service]\nExecStart=/bin/sh /root/watch {count}\n[Install]\nWantedBy=multi-user.target\n"
    WATCH = """\
healthy() { cat /run/vessel/bundles/*/status.json 2>/dev/null | grep -o '"status":"healthy"' | wc -l; }
until [ "$(healthy)" = "$1" ]; do sleep 0.5; done
cut -d ' ' -f 1 /proc/uptime > /run/bench-healthy
"""

    def __init__(self, host: Machine, stack: dict[str, Any]) -> None:
        self.host, self.stack = host, stack

    def up(self) -> None:
        self.host.play(HERE / "vm_stack.yml", stack=self.stack)
        self.host.write("/root/watch", self.WATCH)
        unit = self.UNIT.format(count=len(self.stack["containers"]))
        self.host.write("/etc/systemd/system/bench-watch.service", unit)
        self.host.ssh("systemctl daemon-reload && systemctl enable --quiet --now bench-watch")

    def healthy(self) -> float:
        return float(self.host.ssh("cat /run/bench-healthy 2>/dev/null || echo 0"))

    def cpu(self) -> float:
        units = "vessel.service vessel-restore.service"
        return sum(map(_seconds, self.host.ssh(f"systemctl show --value --property CPUUsageNSec {units}").split()))

    def down(self) -> None:
        self.host.play(HERE / "vm_stack.yml", stack={"name": self.stack["name"], "state": "absent"})


SIDES: dict[str, Callable[[Machine, dict[str, Any]], Side]] = {"quadlet": Quadlet, "vessel.host": Vessel}


def _seconds(nanoseconds: str) -> float:
    """systemd says [not set], or the largest number, for what it does not know."""
    return int(nanoseconds) / 1e9 if nanoseconds.isdigit() and int(nanoseconds) < 1 << 63 else 0.0


def turns(side: Side, host: Machine, count: int) -> list[dict[str, float]]:
    side.up()
    until("a healthy shop", side.healthy, pause=1)
    found = []
    for _turn in range(count):
        boot = reboot(host, PORT, side.healthy)
        found.append({**asdict(boot), "processor": side.cpu()})
        say(f"{type(side).__name__}: {found[-1]}")
    side.down()
    return found


def rows(found: dict[str, list[dict[str, float]]]) -> list[tuple[str, ...]]:
    texts = {
        "shutdown": "from the command to the reset, s",
        "answered": "from the kernel's start to an answer from outside, s",
        "healthy": "from the kernel's start to everything healthy, s",
        "processor": "of that, processor time of its units, s",
    }
    lines: list[tuple[str, ...]] = [("", *found, "ratio" if len(found) > 1 else "")]
    for key, text in texts.items():
        middles = [statistics.median(turn[key] for turn in side) for side in found.values()]
        ratio = f"{middles[0] / middles[1]:.1f}" if len(middles) > 1 and middles[1] else ""
        lines.append((text, *(f"{value:.1f}" for value in middles), ratio))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12, help="containers")
    parser.add_argument("--runs", type=int, default=3, help="reboots of each side; the median counts")
    parser.add_argument("--memory", type=int, default=1024, help="MiB of the machine")
    parser.add_argument("--ours", action="store_true", help="leave podman out")
    arguments = parser.parse_args()
    stack = shop(arguments.count)
    sides = {name: kind for name, kind in SIDES.items() if not (arguments.ours and kind is Quadlet)}
    with tempfile.TemporaryDirectory(prefix="vessel-bench-") as name:
        options = [*START, "--memory", str(arguments.memory)]
        with machine(f"vmbench-reboot-{os.getpid()}", Path(name), *options) as host:
            found = {name: turns(kind(host, stack), host, arguments.runs) for name, kind in sides.items()}
            about = {**this_machine(), "accelerator": host.accelerator, "guest": host.ssh("uname -r; podman --version")}
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({"machine": about, "containers": arguments.count, "turns": found}, indent=2) + "\n")
    print(f"{arguments.count} containers; load of this machine {about['load']:.1f}, {host.accelerator}\n")
    show(rows(found))


if __name__ == "__main__":
    main()
