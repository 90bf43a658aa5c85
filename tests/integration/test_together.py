# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of one declaration that share what may be shared: an alias, a port on two addresses, a condition."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces

from .options_box import Box, answers, until
from .warm import NET, PORT, WarmPlace

pytestmark = pytest.mark.root
ONE = [{"name": "one"}]
PLAIN = {"image": "bb", "networks": ONE}


@pytest.fixture
def crew(shared: WarmPlace) -> Iterator[WarmPlace]:
    yield shared
    shared.task("stack", name="crew", state="absent")


def stack(containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "crew", "containers": containers, "prune": True, **more}


def called(box: Box, name: str) -> list[str]:
    """The addresses that the box's hosts file has for the name, in order."""
    lines = [line.split() for line in box.read("/etc/hosts").splitlines()]
    return [address for address, *names in lines if name in names]


def test_a_shared_alias_leads_to_all_in_the_order_of_names(crew: WarmPlace) -> None:
    pooled = {"image": "bb", "networks": [{"name": "one", "aliases": ["pool"]}]}
    asker = {**PLAIN, "capabilities": ["NET_RAW"]}
    crew.quartet("stack", stack({"bb2": pooled, "aa1": pooled, "asks": asker}))
    first, second, asks = (Box(crew, name) for name in ("aa1", "bb2", "asks"))
    assert called(asks, "pool") == [*first.addresses(), *second.addresses()]
    assert f"({first.addresses()[0]})" in asks.sh("ping -c 1 -W 2 pool")
    crew.quartet("stack", stack({"bb2": pooled, "asks": asker}))
    assert called(asks, "pool") == second.addresses()
    assert f"({second.addresses()[0]})" in asks.sh("ping -c 1 -W 2 pool")


def test_who_joins_another_starts_after_it(crew: WarmPlace) -> None:
    """Without a word about it, and although its name comes first."""
    joins = {"image": "bb", "pid_mode": "container:z", "network_mode": "container:z"}
    crew.quartet("stack", stack({"a": joins, "z": PLAIN}))
    a, z = Box(crew, "a"), Box(crew, "z")
    assert [os.readlink(f"/proc/{a.pid}/ns/{kind}") for kind in ("pid", "net")] == [
        os.readlink(f"/proc/{z.pid}/ns/{kind}") for kind in ("pid", "net")
    ]


def test_a_name_goes_from_an_alias_to_a_container_in_one_task(crew: WarmPlace) -> None:
    crew.task("stack", **stack({"a": {"image": "bb", "networks": [{"name": "one", "aliases": ["b"]}]}}))
    crew.quartet("stack", stack({"a": PLAIN, "b": PLAIN}))
    assert called(Box(crew, "a"), "b") == Box(crew, "b").addresses()


def test_one_port_on_two_addresses_of_the_host(crew: WarmPlace) -> None:
    def serves(address: str) -> dict[str, Any]:
        return {**PLAIN, "command": "httpd -f -p 80", "published_ports": [f"{address}:{PORT + 9}:80"]}

    crew.quartet("stack", stack({"a": serves("127.0.0.1"), "b": serves("127.0.0.2")}))
    assert until(lambda: answers(PORT + 9, "127.0.0.1") and answers(PORT + 9, "127.0.0.2"))


def test_datagrams_go_where_their_port_goes(crew: WarmPlace) -> None:
    """Who sends without a pause, from one port, reaches the container that has the published one now."""
    owners = ("a", "b")

    def declared(owner: str) -> dict[str, Any]:
        ports = {name: [f"{PORT + 8}:53/udp"] if name == owner else [] for name in owners}
        return stack({name: {**PLAIN, "published_ports": ports[name]} for name in owners})

    crew.task("stack", **declared("a"))
    with contextlib.ExitStack() as ends:
        for name in owners:
            ends.callback(answering(Box(crew, name)).close)
        sender = ends.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sender.settimeout(0.5)
        sender.connect(("127.0.0.1", PORT + 8))
        for owner in ("a", "b", "a"):
            crew.task("stack", **declared(owner))
            assert said(sender) == owner
            crew.task("stack", **declared(""))
            assert said(sender) == ""


def answering(box: Box) -> socket.socket:
    """A server in the container's network that tells its name to whoever asks."""
    with namespaces.inside(f"/proc/{box.pid}/ns/net"):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", 53))
    sock.settimeout(0.1)  # closing it wakes nobody

    def serve() -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                with contextlib.suppress(TimeoutError):
                    sock.sendto(box.name.encode(), sock.recvfrom(100)[1])

    threading.Thread(target=serve, daemon=True).start()
    return sock


def said(sock: socket.socket) -> str:
    try:
        sock.send(b"?")
        return sock.recv(100).decode().strip()
    except OSError:
        return ""


def test_what_another_stack_has_too_stays(crew: WarmPlace) -> None:
    crew.task("stack", **stack({"a": PLAIN, "both": PLAIN}, networks={"shared": {"subnet": f"{NET}9.0/24"}}))
    on_shared = {"image": "bb", "networks": [{"name": "shared"}]}
    crew.task("stack", name="mates", containers={"b": on_shared, "both": PLAIN})
    before = [Box(crew, name).process for name in ("b", "both")]
    for gone in ({"containers": {}, "prune": True}, {"state": "absent"}):
        crew.task("stack", **stack({"a": PLAIN}, networks={"shared": {"subnet": f"{NET}9.0/24"}}))
        said = crew.quartet("stack", {"name": "crew", **gone})[1]["actions"]
        assert [action for action in said if "forget" not in action] == ["container a: remove"]
    assert [Box(crew, name).process for name in ("b", "both")] == before
    assert crew.task("network_info", name="shared")["networks"][0]["present"]
    crew.quartet("stack", {"name": "mates", "state": "absent"})
    crew.task("network", name="shared", state="absent")


def test_containers_that_wait_for_one_another_in_a_circle_are_refused(crew: WarmPlace) -> None:
    joined = {"a": {"image": "bb", "network_mode": "container:b"}}
    for option, value in (("network_mode", "container:a"), ("pid_mode", "container:a"), ("depends_on", ["a"])):
        body = {"image": "bb", "network_mode": "none", option: value}
        for check in (True, False):
            said = crew.task("stack", check=check, fails=True, **stack({**joined, "b": body}))
            assert said["msg"].startswith(f"containers.b.{option}: ")
            assert said["msg"].endswith("is a cycle: a -> b -> a")


def test_a_stack_with_conditions_stops_and_starts_again(crew: WarmPlace) -> None:
    well = {**PLAIN, "healthcheck": {"test": "true", "interval": "100ms"}}
    containers = {"a": {**PLAIN, "depends_on": {"b": "healthy"}}, "b": well}
    crew.task("stack", **stack(containers))
    crew.quartet("stack", stack(containers, state="stopped", wait_timeout="2s"))
    assert {Box(crew, name).status["status"] for name in containers} == {"exited"}
    crew.quartet("stack", stack(containers))
