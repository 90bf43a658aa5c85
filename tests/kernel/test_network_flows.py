# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A flow of UDP that does not pause: it reaches whoever has the port now, by packets that are sent."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._network import conntrack
from ansible_collections.vessel.host.plugins.module_utils._network.dump import Reader
from ansible_collections.vessel.host.plugins.module_utils._network.model import Port
from ansible_collections.vessel.host.plugins.module_utils._network.nftables import Target

from .network_world import HOST, HOST6, OUTSIDE, World

pytestmark = pytest.mark.root
PORT = Port("0.0.0.0", 5300, 53, "udp")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    try:
        world.network("one", 61)
        for name in ("a", "b"):
            world.container(name, "one", serves=())
            for host in ("0.0.0.0", "::1"):
                world.serve(name, name, 53, "udp", host if host == "0.0.0.0" else world.address(name, family=6))
        world.serve("host", "host", 5300, "udp", HOST)
        world.serve("outside", "outside", 5300, "udp", OUTSIDE)
        yield world
    finally:
        world.close()


def sender(world: World, where: str, address: str) -> socket.socket:
    """A socket there that always sends from one port, to the published one."""
    with namespaces.inside(world.path(where)):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(0.5)
        sock.connect((address, PORT.host_port))
        return sock


@pytest.fixture(params=[HOST, HOST6], ids=["IPv4", "IPv6"])
def flow(world: World, request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with sender(world, "outside", request.param) as sock:
        yield sock


def who(sock: socket.socket) -> str:
    try:
        sock.send(b"?")
        return sock.recv(100).decode().split()[0]
    except OSError:
        return ""


def rules(world: World, *targets: Target) -> list[Target]:
    """Rules with these ports alone; those before."""
    before, world.targets = world.targets, list(targets)
    world.firewall()
    return before


def let_go(before: list[Target], after: list[Target]) -> int:
    with Reader() as reader:
        local = {address.partition("/")[0] for found in reader.addresses().values() for address in found}
    return conntrack.let_go(before, after, local)


def of(world: World, name: str, port: Port = PORT) -> list[Target]:
    return [Target(port, world.address(name, family=family)) for family in (4, 6)]


def lead(world: World, *targets: Target) -> int:
    """As firewall.sync does; how many flows were ended."""
    return let_go(rules(world, *targets), world.targets)


def test_a_port_that_goes_to_another_container_takes_its_flows_along(world: World, flow: socket.socket) -> None:
    lead(world, *of(world, "a"))
    assert who(flow) == "a"
    before = rules(world, *of(world, "b"))
    assert who(flow) == "a"  # the rules alone do not end it
    assert let_go(before, world.targets) == 1
    assert who(flow) == "b"
    assert lead(world, *of(world, "b")) == 0
    assert who(flow) == "b"


def test_a_port_that_nobody_has_any_more_leads_nowhere(world: World, flow: socket.socket) -> None:
    lead(world, *of(world, "a"))
    assert who(flow) == "a"
    assert lead(world) == 1
    assert who(flow) == ("host" if flow.family == socket.AF_INET else "")


def test_a_port_that_comes_takes_the_flows_from_the_host(world: World) -> None:
    lead(world)
    with sender(world, "outside", HOST) as sock:
        assert who(sock) == "host"
        assert lead(world, *of(world, "a")) >= 1  # those of the tests before have not timed out yet
        assert who(sock) == "a"


def test_flows_of_others_go_on(world: World) -> None:
    """Those to an address on which the port did not change, and those that the host itself has with somebody else."""
    here = of(world, "a", Port(HOST, 5300, 53, "udp"))[:1]
    lead(world, *here)
    with sender(world, "outside", HOST) as sock, sender(world, "host", OUTSIDE) as own:
        assert (who(sock), who(own)) == ("a", "outside")
        assert lead(world, *here, *of(world, "b", Port("127.0.0.1", 5300, 53, "udp"))[:1]) == 0
        assert (who(sock), who(own)) == ("a", "outside")


def test_the_oldest_library_that_is_supported(world: World) -> None:
    """Debian's, where this host has it: its interpreter, the same module."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.vessel.host.plugins.module_utils._network import conntrack\n"
        "from ansible_collections.vessel.host.plugins.module_utils._network.model import Port\n"
        "from ansible_collections.vessel.host.plugins.module_utils._network.nftables import Target\n"
        "port = Port('0.0.0.0', 5300, 53, 'udp')\n"
        "print(conntrack.let_go([Target(port, sys.argv[2])], [], {sys.argv[3]}))\n"
    )
    from .module_runner import COLLECTIONS

    lead(world, *of(world, "a"))
    with sender(world, "outside", HOST) as sock:
        assert who(sock) == "a"
        rules(world)
        assert who(sock) == "a"
        command = ["/usr/bin/python3", "-c", program, str(COLLECTIONS), world.address("a"), HOST]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        assert int(done.stdout) >= 1
        assert who(sock) == "host"
