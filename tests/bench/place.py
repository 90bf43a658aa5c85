# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What placing costs: 10,000 containers on 1,000 hosts, of several shapes, anew and again.

    .venv/bin/python tests/bench/place.py

Each line has the seconds on the clock, the processor time (which is the figure on a machine that others use), how many
were placed, and how many of those that ran had to move. Time includes reading the data and writing the reasons.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT / "collection"))

from ansible_collections.vessel.host.plugins.plugin_utils.place.placement import place

HOSTS = 1000
CONTAINERS = 10_000
Data = dict[str, dict[str, Any]]


def hosts(number: int = HOSTS, *, seed: int = 1) -> Data:
    """Of three sizes, in 20 zones of 50; every tenth has a GPU and a taint, every third an SSD."""
    chance = random.Random(seed)
    found: Data = {}
    for index in range(number):
        cpus, memory = chance.choice(((8, "32g"), (16, "64g"), (32, "64g")))
        found[f"h{index:04}"] = {
            "cpus": cpus,
            "memory": memory,
            "labels": {"zone": f"z{index % 20:02}", "disk": "ssd" if index % 3 == 0 else "hdd"},
            **({"taints": ["gpu=yes:NoSchedule"], "devices": {"gpu": 4}} if index % 10 == 0 else {}),
        }
    return found


def plain(services: int, replicas: int, *, strategy: str = "spread", seed: int = 2) -> Data:
    chance = random.Random(seed)
    return {
        f"s{index:05}": {
            "replicas": replicas,
            "cpus": chance.choice((0.1, 0.25, 0.5, 1, 2)),
            "memory": chance.choice(("64m", "256m", "1g", "4g")),
            "strategy": strategy,
        }
        for index in range(services)
    }


def ruled(services: int, replicas: int, *, seed: int = 3) -> Data:
    """As plain ones, and each rule at every fifth to tenth service."""
    chance = random.Random(seed)
    found = plain(services, replicas, seed=seed)
    names = list(found)
    for index, service in enumerate(found.values()):
        rules: list[dict[str, Any]] = [
            {"constraints": ["labels.disk == 'ssd'"]},
            {"spread": [{"topology": "zone", "max_skew": 1}]},
            {"anti_affinity": [names[index]]},
            {"ports": [8000 + index % 50]},
            {"tolerations": [{"key": "gpu"}], "devices": {"gpu": 1}},
            {"affinity": [{"service": names[index - 1], "topology": "zone"}]} if index % 10 == 1 else {},
            {"preferences": [{"constraint": "cpus > `16`", "weight": 10}]},
            {"priority": chance.randrange(3)},
        ]
        for rule in rules:
            if chance.random() < 0.2:
                service.update(rule)
    return found


def running(placed: dict[str, Any], there: Data) -> Data:
    """The hosts, with what was placed running there."""
    return {name: {**host, "running": sorted(placed["containers"][name])} for name, host in there.items()}


def measure(title: str, services: Data, there: Data) -> dict[str, Any]:
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    result = place(services, there)
    clock, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    placed = sum(len(names) for names in result["containers"].values())
    numbers = f"{placed:>7} placed {len(result['unplaced']):>6} not {len(result['moves']):>5} moved"
    print(f"{title:<44} {clock:6.2f} s {cpu:6.2f} s CPU {numbers}", flush=True)
    return result


def main() -> None:
    there = hosts()
    shapes = {
        f"{CONTAINERS // 20} services of 20": plain(CONTAINERS // 20, 20),
        f"{CONTAINERS // 20} services of 20, packed": plain(CONTAINERS // 20, 20, strategy="pack"),
        f"{CONTAINERS} services of 1": plain(CONTAINERS, 1),
        f"{CONTAINERS} services of 1, packed": plain(CONTAINERS, 1, strategy="pack"),
        f"{CONTAINERS // 20} services of 20, with rules": ruled(CONTAINERS // 20, 20),
        f"10 services of {CONTAINERS // 10}, with rules": ruled(10, CONTAINERS // 10),
    }
    for title, services in shapes.items():
        placed = measure(title, services, there)
        again = running(placed, there)
        measure("  again, with all of it there", services, again)
        for name in list(again)[:10]:
            again[name]["drain"] = True
        measure("  and ten hosts drained", services, again)
    measure("half as many hosts as are needed", plain(CONTAINERS // 20, 20), hosts(200))
    measure("a fifth, services of 1", plain(CONTAINERS, 1), hosts(80))
    large = {name: {**body, "cpus": 64} for name, body in plain(CONTAINERS, 1).items()}
    measure("hosts too small for all services of 1", large, there)


if __name__ == "__main__":
    main()
