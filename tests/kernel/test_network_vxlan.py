# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks across hosts: three namespaces on a wire, each with the engine's half of a network, and what passes."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces

from .fleet_world import Fleet, Flow, underlay
from .network_world import eventually

pytestmark = pytest.mark.root
NET = "shop"
SIZE = 100 * 1000 * 1000


@pytest.fixture(scope="module", params=[False, True], ids=["over IPv4", "over IPv6"])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Hosts 1 and 2 are peers of each other; host 3 is none yet."""
    fleet = Fleet(3, six=request.param)
    try:
        for host in (1, 2):
            fleet.declare(host, NET, 71, peers=[1, 2])
        fleet.declare(3, NET, 71, peers=[1, 2])
        for host, names in ((1, "ab"), (2, "cd"), (3, "e")):
            for name in names:
                fleet.container(name, host, NET)
                for protocol in ("tcp", "udp"):
                    fleet.serve(name, name, 80, protocol, fleet.address(name))
                    fleet.serve(name, name, 80, protocol, fleet.address(name, 6))
        yield fleet
    finally:
        fleet.close()


@pytest.fixture(autouse=True)
def nothing_drifts(fleet: Fleet) -> Iterator[None]:
    yield
    assert [fleet.drift(host, NET) for host in fleet.hosts] == [[], [], []]


def test_what_is_made_is_what_was_declared(fleet: Fleet) -> None:
    shown = fleet.ip("-d", "link", "show", f"vx-{NET}", where="h1")
    assert f"vxlan id 71 local {underlay(1, six=fleet.six)}" in shown
    assert "dstport 4789" in shown
    assert "group " not in shown.partition("vxlan id")[2].partition("dstport")[0]  # no multicast group
    assert f"mtu {1430 if fleet.six else 1450}" in shown


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_containers_of_two_hosts_are_neighbours(fleet: Fleet, family: int, protocol: str) -> None:
    for source, target in (("a", "c"), ("c", "b"), ("a", "b"), ("d", "a")):
        # By its own address: nothing is translated on the way.
        answer = fleet.fetch(source, fleet.address(target, family), protocol=protocol)
        assert answer == f"{target} {fleet.address(source, family)}"


def test_each_host_reaches_the_containers_of_the_other(fleet: Fleet) -> None:
    assert fleet.fetch("h1", fleet.address("c")).startswith("c ")
    assert fleet.fetch("h2", fleet.address("a", 6)).startswith("a ")


@pytest.mark.parametrize("family", [4, 6])
def test_a_full_frame_passes_whole_and_a_larger_one_is_refused_at_once(fleet: Fleet, family: int) -> None:
    mtu = (1430 if fleet.six else 1450) - (48 if family == 6 else 28)
    before = [fragments(fleet, host) for host in (1, 2)]
    assert fleet.echo("a", fleet.address("c", family), mtu)
    assert fleet.echo("c", fleet.address("a", family), mtu)
    assert [fragments(fleet, host) for host in (1, 2)] == before
    with pytest.raises(OSError, match="Message too long"):
        fleet.echo("a", fleet.address("c", family), mtu + 1)


def fragments(fleet: Fleet, host: int) -> list[str]:
    """What the host has made and put together of packets that did not fit."""
    with fleet.on(host):
        with open("/proc/thread-self/net/snmp") as file:
            ip = [line.split() for line in file if line.startswith("Ip:")]
        with open("/proc/thread-self/net/snmp6") as file:
            six = [line.strip() for line in file if line.startswith(("Ip6Frag", "Ip6Reasm"))]
    four = [f"{key} {value}" for key, value in zip(*ip) if key.startswith(("Frag", "Reasm"))]
    return [*four, *six]


def test_one_byte_more_would_not_fit(fleet: Fleet) -> None:
    """The overhead is exact: a network of that MTU is one whose full frames do not pass whole."""
    mtu = 1431 if fleet.six else 1451
    for host in (1, 2):
        fleet.change(host, NET, mtu=mtu)
    for name in "ac":
        fleet.ip("link", "set", "eth0", "mtu", str(mtu), where=name)
        fleet.ip("link", "set", f"ve-{name}", "mtu", str(mtu), where=f"h{fleet.wires[name][0]}")
    before = fragments(fleet, 1)
    passed = fleet.echo("a", fleet.address("c"), mtu - 28)
    assert not passed or fragments(fleet, 1) != before
    for name in "ac":
        fleet.ip("link", "set", "eth0", "mtu", str(mtu - 1), where=name)
        fleet.ip("link", "set", f"ve-{name}", "mtu", str(mtu - 1), where=f"h{fleet.wires[name][0]}")
    for host in (1, 2):
        fleet.change(host, NET, mtu=mtu - 1)


def test_a_hundred_megabytes(fleet: Fleet) -> None:
    with namespaces.inside(fleet.path("c")):
        server = socket.create_server((fleet.address("c"), 9000))
    data, found = bytes(range(256)) * (SIZE // 256), []

    def take() -> None:
        connection, dummy = server.accept()
        digest, size = hashlib.sha256(), 0
        with connection:
            while chunk := connection.recv(1 << 20):
                digest.update(chunk)
                size += len(chunk)
        found.append((size, digest.hexdigest()))

    thread = threading.Thread(target=take)
    thread.start()
    with namespaces.inside(fleet.path("a")):
        client = socket.socket()
    with client, server:
        client.connect((fleet.address("c"), 9000))
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        thread.join()
    assert found == [(len(data), hashlib.sha256(data).hexdigest())]


@pytest.mark.parametrize("family", [4, 6])
def test_a_host_comes_and_goes_and_no_packet_is_lost(fleet: Fleet, family: int) -> None:
    assert not fleet.fetch("e", fleet.address("a"))  # it says that they are its peers, and they do not
    assert not fleet.fetch("a", fleet.address("e"))
    before = fleet.ip("-o", "link", where="h1")
    with Flow(fleet, "a", "c", family) as flow, Flow(fleet, "a", "b", family) as local:
        for host in (1, 2):
            fleet.change(host, NET, peers=[1, 2, 3])
        assert eventually(lambda: fleet.fetch("e", fleet.address("a", family), patience=0.3))
        assert fleet.fetch("c", fleet.address("e", family)).startswith("e ")
        fleet.ip("link", "set", "h3", "down", where="wire")  # what it says before the firewall has changed is learned
        for host in (1, 2):
            fleet.change(host, NET, peers=[1, 2])
        assert underlay(3, six=fleet.six) not in forwarding(fleet, 1)  # nor does anything that was learned
        fleet.ip("link", "set", "h3", "up", where="wire")
        assert not fleet.fetch("e", fleet.address("a", family))
        assert not fleet.fetch("a", fleet.address("e", family))
    assert flow.lost() == []
    assert local.lost() == []
    assert flow.sent > 1000
    assert fleet.ip("-o", "link", where="h1") == before


def forwarding(fleet: Fleet, host: int, net: str = NET) -> str:
    words = ["bridge", "-n", f"{fleet.tag}-h{host}", "fdb", "show", "dev", f"vx-{net}"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def bridge(fleet: Fleet, host: int, *words: str) -> None:
    subprocess.run(["bridge", "-n", f"{fleet.tag}-h{host}", *words], check=True)


DRIFTS = {
    "a peer's entry deleted": ("fdb", "forwarding"),
    "an entry of a stranger": ("stranger", "forwarding"),
    "the link deleted": ("del", "vxlan"),
    "the link down": ("down", "vxlan state"),
    "the link off the bridge": ("nomaster", "master of the vxlan"),
    "another vni": ("vni", "vxlan"),
    "another mtu": ("mtu", "mtu of the vxlan"),
    "the bridge deleted": ("bridge", "bridge"),
    "peers taken out of the rules": ("rules", "set peers_vx-shop"),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_what_others_change_is_seen_and_mended(fleet: Fleet, name: str) -> None:
    how, told = DRIFTS[name]
    link, peer = f"vx-{NET}", underlay(2, six=fleet.six)
    if how == "fdb":
        bridge(fleet, 1, "fdb", "del", "00:00:00:00:00:00", "dev", link, "dst", peer)
    elif how == "stranger":
        bridge(fleet, 1, "fdb", "append", "00:00:00:00:00:00", "dev", link, "dst", underlay(9, six=fleet.six))
    elif how == "del":
        fleet.ip("link", "del", link, where="h1")
    elif how == "bridge":
        fleet.ip("link", "del", f"br-{NET}", where="h1")
    elif how == "vni":
        fleet.ip("link", "del", link, where="h1")
        fleet.ip("link", "add", link, "type", "vxlan", "id", "99", "dstport", "4789", "local",
                 underlay(1, six=fleet.six), where="h1")  # fmt: skip
    elif how == "rules":
        fleet.nft(1, "flush", "set", "inet", "fleet", f"peers_{link}")
    else:
        words = {"mtu": ("mtu", "1300"), "nomaster": ("nomaster",), "down": ("down",)}[how]
        fleet.ip("link", "set", link, *words, where="h1")
    assert told in fleet.drift(1, NET)
    fleet.mend(1, NET)
    if how == "bridge":
        for container in "ab":
            where, wire = fleet.wires[container]
            fleet.attach(container, where, NET, wire.endpoint.ipv4, wire.endpoint.ipv6)
    assert fleet.drift(1, NET) == []
    assert fleet.fetch("a", fleet.address("c"), patience=3.0).startswith("c ")
    assert fleet.fetch("c", fleet.address("b"), patience=3.0).startswith("b ")


@pytest.mark.parametrize("six", [True, False], ids=["IPv6 too", "IPv4 alone"])
def test_a_container_that_moves_is_found_at_once(fleet: Fleet, six: bool) -> None:
    """It is silent at its new place, and the others know another host for it."""
    net, names = f"net{72 + six}", (f"x{six:d}", f"y{six:d}")
    fleet.everywhere(net, 72 + six, six=six)
    for host, name in zip((1, 2), names):
        fleet.container(name, host, net)
        fleet.serve(name, name, 80, host="0.0.0.0")
    source, target = names
    assert fleet.fetch(source, fleet.address(target)).startswith(target)
    mac = fleet.wires[target][1].endpoint.mac

    def found(words: str) -> bool:
        return words in forwarding(fleet, 1, net)

    for host in (3, 2):
        fleet.move(target, host)
        known = f"{mac} dst {underlay(host, six=fleet.six)}"
        assert eventually(partial(found, known))  # before it has said anything itself
        assert fleet.fetch(source, fleet.address(target), patience=5.0).startswith(target)


def test_packets_of_the_network_from_no_peer_are_dropped(fleet: Fleet) -> None:
    """A frame in VXLAN, made by hand: who sent it is learned from a peer's, and not from another's."""
    source = bytes.fromhex("024200000009")
    packet = b"\x08\0\0\0" + (71).to_bytes(3, "big") + b"\0" + b"\xff" * 6 + source + b"\x08\x06" + bytes(46)
    for host in (3, 2):
        with namespaces.inside(fleet.path(f"h{host}")):
            sock = socket.socket(socket.AF_INET6 if fleet.six else socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.sendto(packet, (underlay(1, six=fleet.six), 4789))
        assert eventually(lambda: source.hex(":") in forwarding(fleet, 1), 1.0) is (host == 2)


def test_a_network_of_one_host_again(fleet: Fleet) -> None:
    before = fleet.networks[1, NET]
    fleet.change(1, NET, driver="bridge")
    assert f"vx-{NET}" not in fleet.ip("link", where="h1")
    assert fleet.fetch("a", fleet.address("b")).startswith("b ")
    assert not fleet.fetch("a", fleet.address("c"))
    fleet.networks[1, NET] = before
    fleet.mend(1, NET)
    assert fleet.fetch("a", fleet.address("c"), patience=3.0).startswith("c ")
