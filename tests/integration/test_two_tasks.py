# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two tasks that make containers at once: both have planned before either has an address or a port."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import store

from ..kernel.module_runner import run_module
from .options_box import Box
from .warm import NET, PORT, WarmPlace

pytestmark = pytest.mark.root
PLAIN = {"image": "bb", "networks": [{"name": "one"}]}


@pytest.fixture
def place(shared: WarmPlace) -> Iterator[WarmPlace]:
    yield shared
    for name in ("a", "b"):
        shared.task("container", name=name, state="absent")


def at_once(place: WarmPlace, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of tasks for containers a, b, …: the lock on addresses is held until all wait for it."""
    results: list[dict[str, Any]] = [{} for body in bodies]

    def run(number: int) -> None:
        args = {"root": place.root, "name": "abc"[number], **bodies[number]}
        results[number] = run_module("container", args, timeout=60)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(bodies))]
    with store.lock(place.paths, "endpoints", "all"):
        inode = f":{Path(place.paths.lock('endpoints', 'all')).stat().st_ino} "
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while sum("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines()) < 2:
            assert time.monotonic() < deadline, "they do not wait for one another"
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize(
    ("option", "body"),
    [
        ("published_ports", {"published_ports": [f"{PORT + 8}:80"]}),
        ("networks[0].ipv4_address", {"networks": [{"name": "one", "ipv4_address": f"{NET}1.88"}]}),
    ],
)
def test_of_two_that_want_the_same_one_gets_it(place: WarmPlace, option: str, body: dict[str, Any]) -> None:
    place.task("container", name="first", **PLAIN)  # the supervisor runs, so that both are as quick
    results = at_once(place, *[{**PLAIN, **body}] * 2)
    place.task("container", name="first", state="absent")
    assert sorted(bool(result.get("failed")) for result in results) == [False, True]
    for name, result in zip("ab", results):
        if result.get("failed"):
            assert result["msg"].startswith(f"{option}: ")
            assert not place.home("containers", name).exists()
        else:
            assert Box(place, name).pid
            assert not place.task("container", check=True, name=name)["changed"]


def test_two_that_want_any_get_two(place: WarmPlace) -> None:
    results = at_once(place, *[{**PLAIN, "published_ports": ["80"]}] * 2)
    assert [result.get("msg") for result in results] == [None, None]
    assert len({result["container"]["published_ports"][0] for result in results}) == 2
    assert len({result["container"]["networks"][0]["ipv4_address"] for result in results}) == 2
