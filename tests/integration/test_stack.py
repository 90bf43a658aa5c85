# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role stack over hosts that are installations of their own: who has what, what moves how, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .roots import Roots

pytestmark = pytest.mark.root
BODY = {"image": "bb", "network_mode": "none", "command": ["sleep", "1000"], "stop_signal": "KILL"}
AGENT = {"agent": {**BODY}}


class Hosts(Roots):
    def run(self, *options: str, fails: bool = False, words: dict[str, Any] | None = None, **variables: Any) -> str:
        return self.done(self.play("stack", *options, words=words, **{"stack_wait": 4, **variables}), fails=fails)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path, ("a", "b"))
    try:
        yield hosts
    finally:
        hosts.remove()


def counts(said: str) -> list[int]:
    return [int(number) for number in re.findall(r"changed=(\d+)", said)]


def alone(directory: Path) -> dict[str, Any]:
    """One that ends with 3 where another of it is up: it has something to itself."""
    script = "mkdir /share/taken || exit 3; trap 'rmdir /share/taken; exit 0' TERM; sleep 1000 & wait"
    return {**BODY, "command": ["sh", "-c", script], "stop_signal": "TERM", "volumes": [f"{directory}:/share"]}


@pytest.mark.timeout(600)
def test_each_host_has_its_part_and_what_moves_is_there_before_it_goes(hosts: Hosts, tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    services: dict[str, Any] = {
        "web": {"constraints": ["name == 'a'"], "container": BODY},
        "top": {"constraints": ["name == 'b'"], "container": BODY},
        "db": {"constraints": ["name == 'a'"], "container": alone(share)},
    }
    given: dict[str, Any] = {"stack_name": "shop", "stack_containers": AGENT, "stack_services": services}
    said = hosts.run("--check", **given)
    assert counts(said) == [1, 1]
    assert hosts.running() == {"a": [], "b": []}

    hosts.run(**given)
    assert hosts.running() == {"a": ["agent", "db-1", "web-1"], "b": ["agent", "top-1"]}
    before = {host: hosts.pids(host) for host in hosts.hosts}
    assert counts(hosts.run(**given)) == [0, 0]
    assert {host: hosts.pids(host) for host in hosts.hosts} == before

    # It can't be there twice, and nobody said so: where it was it stays, and so does all else that was to go.
    services["db"]["constraints"] = ["name == 'b'"]
    services["top"]["replicas"] = 0
    said = hosts.run(**given, fails=True)
    assert "db-1 ended with 3, 4 seconds after it was declared" in said
    assert "Unknown error" not in said
    assert "db: 0 of 1 are well, and 1 must be. What was to go from a is still there" in said
    assert hosts.pids("a") == before["a"]
    assert hosts.pids("b") == before["b"]

    # Said so, it is stopped there and started here.
    hosts.run(**given, stack_stop_first=["db"])
    assert hosts.running() == {"a": ["agent", "web-1"], "b": ["agent", "db-1"]}
    assert hosts.declared("a")["containers"] == ["agent", "web-1"]
    assert hosts.pids("a")["web-1"] == before["a"]["web-1"]

    # One that does not come up where it goes is back where it was, whatever the play says of hosts that fail.
    services["db"] = {"constraints": ["name == 'a'"], "container": {**services["db"]["container"], "env": {"NEW": "1"}}}
    services["db"]["container"]["command"] = ["sh", "-c", "exit 4"]
    said = hosts.run(**given, stack_stop_first=["db"], fails=True, words={"any_errors_fatal": True})
    assert "db-1 did not come up on a and is on b again: db-1 ended with 4" in said
    assert hosts.running()["b"] == ["agent", "db-1"]

    # It can't be made where it goes: where it was it stays, though nobody waits.
    services = {"web": {"constraints": ["name == 'b'"], "container": {**BODY, "image": "none", "pull": "never"}}}
    given["stack_services"] = services
    said = hosts.done(hosts.play("stack", stack_wait=0, **given), fails=True)
    assert "web: 0 of 1 are well, and 1 must be. What was to go from a is still there" in said
    assert hosts.running()["a"] == ["agent", "web-1"]
    services["web"]["container"] = BODY
    hosts.done(hosts.play("stack", stack_wait=0, **given))
    assert hosts.running() == {"a": ["agent"], "b": ["agent", "web-1"]}

    hosts.run(stack_name="shop", stack_state="absent")
    assert [hosts.declared(host) for host in hosts.hosts] == [{"containers": [], "stacks": []}] * 2


def test_what_is_refused_is_refused_before_anything_is_done(hosts: Hosts) -> None:
    said = hosts.run(stack_containers=AGENT, fails=True)
    assert "stack_name: is missing" in said
    compose = {"name": "shop", "services": {"web": {"image": "bb", "network_mode": "none", "command": "sleep 1000"}}}
    said = hosts.run(stack_compose=compose, stack_services={"web": {"container": BODY}}, fails=True)
    assert "those of stack_compose have none" in said
    # A host without nft: both say so, and neither has anything.
    lame = {"environment": {"PATH": "/nowhere"}}
    said = hosts.run(stack_name="shop", stack_containers=AGENT, words=lame, fails=True)
    assert "a can have no containers yet: nftables can't be used: the program nft is not installed" in said
    assert [hosts.declared(host) for host in hosts.hosts] == [{"containers": [], "stacks": []}] * 2

    # What is about services is about some of these, and can be read.
    services = {"web": {"container": BODY}}
    for words, told in (
        ({"stack_stop_first": ["wep"]}, "stack_stop_first: wep: is no service of stack_services, which are web"),
        ({"stack_min_available": {"wep": 1}}, "stack_min_available: wep: is no service of stack_services"),
        ({"stack_wait": -5}, "stack_wait: -5 is less than nothing"),
        ({"stack_min_available": {"web": "150%"}}, "minimums.web: '150%' is neither a number of replicas"),
    ):
        assert told in hosts.run(stack_name="shop", stack_services=services, fails=True, **words)
    assert [hosts.declared(host) for host in hosts.hosts] == [{"containers": [], "stacks": []}] * 2
    # A command line has strings.
    words = {"stack_wait": "4", "stack_stop_first": "web", "stack_prune": "false"}
    hosts.done(hosts.play("stack", stack_name="shop", stack_services=services, **words))
    hosts.done(hosts.play("stack", stack_name="shop", stack_state="absent"))

    hosts.run(stack_compose=compose)
    assert hosts.running() == {"a": ["shop-web-1"], "b": ["shop-web-1"]}
