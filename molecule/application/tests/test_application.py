# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a rollout, the loss of a host and the way back: who runs where, what was kept, and what Prometheus has seen."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.request

import pytest

PLACE = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
OPTIONS = (
    f"-F none -i {PLACE}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile={PLACE}/known_hosts -o ConnectTimeout=5"
)
HOSTS = {f"host{number}": f"10.86.0.1{number}" for number in range(1, 9)}
EDGE = HOSTS["host1"]
PLACED = {"balancer-1", "db-1", "redis-1", "prometheus-1", *(f"web-{number}" for number in range(1, 7))}


def ssh(name: str, *command: str) -> str:
    """What a command on a host of the fleet prints."""
    words = ["ssh", "-q", *OPTIONS.split(), f"root@{HOSTS[name]}", *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def running() -> dict[str, dict[str, dict]]:
    """What runs on each host that is there, by name."""
    found = {}
    for name in HOSTS:
        with contextlib.suppress(subprocess.CalledProcessError):
            found[name] = {
                container["name"]: container for container in json.loads(ssh(name, "vessel", "ps", "--json"))
            }
    return found


def test_one_host_was_lost(running):
    assert len(running) == len(HOSTS) - 1


def test_each_replica_runs_once(running):
    names = [name for containers in running.values() for name in containers]
    assert sorted(set(names) - {"exporter", "registry"}) == sorted(PLACED)
    assert names.count("exporter") == len(running)
    assert len(names) == len(PLACED) + len(running) + 1
    assert {container["status"] for containers in running.values() for container in containers.values()} == {"running"}


def test_all_replicas_are_of_the_first_version():
    for _dummy in range(20):
        with urllib.request.urlopen(f"http://{EDGE}/", timeout=30) as answer:
            assert "<title>A vessel at sea</title>" in answer.read().decode()
            assert answer.headers["X-Application-Version"] == "1"


def test_redis_has_moved_with_its_data(running):
    where = next(name for name, containers in running.items() if "redis-1" in containers)
    witness = ssh(where, "vessel", "exec", "redis-1", "redis-cli", "get", "witness").strip()
    assert witness in {f"from {name}" for name in HOSTS if name not in running}


def test_prometheus_has_asked_all_that_are_there(running):
    answer = json.loads(ssh("host1", "curl", "-s", "http://10.90.0.13:9090/api/v1/query?query=up"))
    seen = {one["metric"]["host"]: one["value"][1] for one in answer["data"]["result"]}
    assert seen == {name: "1" if name in running else "0" for name in HOSTS}
