# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two tasks that make networks at once, each in a process of its own: both have planned before either does anything.

The test holds the lock that both wait for with their plans made, and lets go when the kernel shows both waiting.
"""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._converge import networks, store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import run_module

pytestmark = pytest.mark.root
BASE = f"10.202.{os.getpid() % 60 * 4}"  # several runs of these tests may share a host


@pytest.fixture
def roots(tmp_path):
    """Two installations, with a network of the same name each."""
    roots = [str(tmp_path / name) for name in ("one", "two")]
    yield roots
    for root in roots:
        for network in run_module("network_info", {"root": root})["networks"]:
            run_module("network", {"root": root, "name": network["name"], "state": "absent"})


def waiting(path: str) -> int:
    """How many processes wait for the lock (proc_locks(5))."""
    inode = f":{os.stat(path).st_ino} "
    return sum("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def at_once(*tasks: dict[str, Any], module: str = "network") -> list[dict[str, Any]]:
    """The results of tasks that have all made their plans when the first of them begins to make its network."""
    results: list[dict[str, Any]] = [{} for task in tasks]

    def run(number: int) -> None:
        results[number] = run_module(module, tasks[number], timeout=60)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(tasks))]
    with store.lock(Paths(), "host", networks.KIND):
        before = waiting(Paths().lock("host", networks.KIND))
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while waiting(Paths().lock("host", networks.KIND)) < before + len(tasks):
            assert time.monotonic() < deadline, "they do not wait for one another"
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("places", [(0, 0), (0, 1)], ids=["one installation", "two"])
def test_of_two_that_overlap_one_is_made(roots, places):
    tasks = [
        {"root": roots[place], "name": name, "subnet": subnet}
        for place, name, subnet in zip(places, ("a", "b"), (f"{BASE}.0/22", f"{BASE}.0/24"))
    ]
    results = at_once(*tasks)
    failed = [result["msg"] for result in results if result.get("failed")]
    assert len(failed) == 1
    assert failed[0].startswith("subnet: ")
    assert "overlaps" in failed[0]
    for task, result in zip(tasks, results):
        made = not result.get("failed")
        link = Paths.at(task["root"]).link("br", task["name"])
        assert os.path.isdir(f"/sys/class/net/{link}") == made
        assert (store.read_spec(Paths.at(task["root"]), "networks", task["name"]) is not None) == made


def test_of_two_that_take_what_is_free_each_gets_another_one(roots):
    results = at_once(*({"root": root, "name": "a"} for root in roots))
    subnets = [ipaddress.ip_network(result["network"]["subnet"]) for result in results]
    assert not subnets[0].overlaps(subnets[1])
    for result, subnet in zip(results, subnets):
        assert result["network"]["addresses"] == [f"{subnet[1]}/{subnet.prefixlen}"]


def test_of_two_stacks_whose_containers_bring_a_network_each_is_on_its_own(roots):
    container = {"image": "bb", "command": ["sleep", "1000"], "stop_signal": "KILL"}
    try:
        for root in roots:
            run_module("image", {"root": root, "name": "bb", "source": "template", "template": "busybox"})
        results = at_once(
            *({"root": root, "name": "s", "containers": {"c": container}} for root in roots), module="stack"
        )
        assert [result.get("msg") for result in results] == [None, None]
        for root, result in zip(roots, results):
            subnet = ipaddress.ip_network(store.read_spec(Paths.at(root), "networks", "default")["subnet"])
            assert ipaddress.ip_address(result["containers"]["c"]["addresses"][0]) in subnet
    finally:
        for root in roots:
            run_module("stack", {"root": root, "name": "s", "state": "absent"})
            install.remove(Paths.at(root))


def test_a_change_is_looked_at_again_too(roots):
    run_module("network", {"root": roots[0], "name": "a", "subnet": f"{BASE}.0/25"})
    wanted = f"{BASE}.128/25"
    results = at_once(*({"root": root, "name": name, "subnet": wanted} for root, name in zip(roots, ("a", "b"))))
    assert sorted(bool(result.get("failed")) for result in results) == [False, True]
    spec = store.read_spec(Paths.at(roots[0]), "networks", "a")
    assert spec["subnet"] == (f"{BASE}.0/25" if results[0].get("failed") else wanted)


def test_the_network_that_two_containers_bring_is_one(roots):
    """Both have planned it, as two tasks that make the first containers of a host do."""
    paths = Paths.at(roots[0])
    first, second = (networks.plan(paths, {"name": "default"}) for dummy in range(2))
    first.apply()
    made = store.read_spec(paths, "networks", "default")
    second.apply()
    assert store.read_spec(paths, "networks", "default") == made
    second.steps[0].undo()  # it is not the second one's to take away
    assert networks.info(paths, "default")["present"]
