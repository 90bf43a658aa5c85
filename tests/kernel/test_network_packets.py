# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reaches whom, by packets that are sent: between containers, from the host, from a machine outside."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._network.model import Port

from .network_world import HOST, HOST6, OUTSIDE, OUTSIDE6, World

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def world():
    world = World()
    try:
        world.network("one", 61)
        world.network("two", 62)
        world.network("alone", 63, isolate=True)
        world.network("inner", 64, internal=True)
        world.container("a", "one")
        world.container("b", "one")
        world.container("c", "two", "one")
        world.container("d", "alone")
        world.container("e", "inner")
        world.container("f", "inner")
        world.serve("a", "a", 53, "udp", "0.0.0.0")
        world.serve("outside", "outside", 80)
        world.serve("host", "host", 8888, host="127.0.0.1")
        world.publish("a", Port("0.0.0.0", 8080, 80))
        world.publish("a", Port("127.0.0.1", 8081, 80))
        world.publish("b", Port("10.61.0.1", 8082, 80))
        world.publish("a", Port("0.0.0.0", 5353, 53, "udp"))
        world.publish("c", Port("::", 8083, 80))
        world.publish("e", Port("0.0.0.0", 8084, 80))
        world.firewall()
        yield world
    finally:
        world.close()


@pytest.mark.parametrize("family", [4, 6])
def test_neighbours_see_each_other_as_they_are(world, family):
    answer = world.fetch("a", world.address("b", family=family))
    assert answer == f"b {world.address('a', family=family)}"


def test_second_network_is_a_second_way_and_the_first_has_the_default_route(world):
    assert world.fetch("a", world.address("c", "one")) == f"c {world.address('a')}"
    assert world.fetch("c", world.address("b")) == f"b {world.address('c', 'one')}"
    assert "default via 10.62.0.1 dev eth0" in world.ip("route", where="c")
    assert world.ip("route", where="c").count("default") == 1


def test_networks_reach_each_other_unless_isolated(world):
    assert world.fetch("a", world.address("c", "two")).startswith("c ")
    assert world.fetch("a", world.address("d")) == ""
    assert world.fetch("d", world.address("a")) == ""
    assert world.fetch("d", world.address("a", family=6)) == ""


@pytest.mark.parametrize("address", ["127.0.0.1", HOST, "10.61.0.1", "10.62.0.1", HOST6, "fd00:61::1"])
def test_published_port_on_every_address_of_the_host(world, address):
    assert world.fetch("host", address, 8080).startswith("a ")


def test_from_loopback_a_container_sees_the_bridge(world):
    assert world.fetch("host", "127.0.0.1", 8080) == "a 10.61.0.1"


def test_published_port_from_outside_and_who_asks_is_seen(world):
    assert world.fetch("outside", HOST, 8080) == f"a {OUTSIDE}"
    assert world.fetch("outside", HOST6, 8080) == f"a {OUTSIDE6}"


def test_datagrams_are_led_on_too(world):
    assert world.fetch("outside", HOST, 5353, "udp") == f"a {OUTSIDE}"
    assert world.fetch("host", "127.0.0.1", 5353, "udp").startswith("a ")
    assert world.fetch("outside", HOST, 5353, "tcp") == ""


def test_port_on_one_address_is_on_no_other(world):
    assert world.fetch("host", "127.0.0.1", 8081).startswith("a ")
    assert world.fetch("host", HOST, 8081) == ""
    assert world.fetch("outside", HOST, 8081) == ""
    assert world.fetch("host", "10.61.0.1", 8082).startswith("b ")
    assert world.fetch("host", HOST, 8082) == ""


def test_port_on_ipv6_alone(world):
    assert world.fetch("host", HOST6, 8083).startswith("c ")
    assert world.fetch("outside", HOST6, 8083).startswith("c ")
    assert world.fetch("host", HOST, 8083) == ""


@pytest.mark.parametrize("who", ["a", "b", "c"])
@pytest.mark.parametrize("address", [HOST, "10.61.0.1", HOST6])
def test_containers_reach_a_published_port_their_own_too(world, who, address):
    assert world.fetch(who, address, 8080).startswith("a ")


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_not_published_is_not_reached_from_outside(world, family):
    assert world.fetch("outside", world.address("b", family=family)) == ""


def test_containers_go_out_as_the_host(world):
    assert world.fetch("a", OUTSIDE) == f"outside {HOST}"
    assert world.fetch("a", OUTSIDE6) == f"outside {HOST6}"
    assert world.fetch("d", OUTSIDE) == f"outside {HOST}"


def test_internal_network_is_for_those_on_it(world):
    assert world.fetch("e", world.address("f")).startswith("f ")
    assert world.fetch("e", world.address("f", family=6)).startswith("f ")
    assert world.fetch("host", world.address("e")).startswith("e ")
    world.ip("route", "add", "default", "via", "10.64.0.1", where="e")  # even if it knew a way
    try:
        assert world.fetch("e", OUTSIDE) == ""
        assert world.fetch("e", world.address("a")) == ""
        assert world.fetch("a", world.address("e")) == ""
        assert world.fetch("outside", world.address("e")) == ""
        assert world.fetch("outside", HOST, 8084) == ""
    finally:
        world.ip("route", "del", "default", where="e")


@pytest.fixture
def through_loopback(world):
    """Machines that send what is for 127.0.0.1 to this host, as no honest one does."""
    changed = []

    def prepare(where: str, gateway: str) -> None:
        with namespaces.inside(world.path(where)), open("/proc/sys/net/ipv4/conf/all/route_localnet", "w") as file:
            file.write("1")
        world.ip("addr", "del", "127.0.0.1/8", "dev", "lo", where=where)
        world.ip("route", "add", "127.0.0.1/32", "via", gateway, where=where)
        changed.append(where)

    yield prepare
    for where in changed:
        world.ip("route", "del", "127.0.0.1/32", where=where)
        world.ip("addr", "add", "127.0.0.1/8", "dev", "lo", where=where)


def test_port_on_loopback_is_not_reached_by_a_neighbour_that_sends_there(world, through_loopback):
    through_loopback("outside", HOST)
    assert world.fetch("outside", "127.0.0.1", 8081) == ""
    assert world.fetch("outside", "127.0.0.1", 8080) == ""


def test_services_on_the_hosts_loopback_are_not_reached_by_a_container(world, through_loopback):
    assert world.fetch("host", "127.0.0.1", 8888).startswith("host ")
    through_loopback("b", "10.61.0.1")
    assert world.fetch("b", "127.0.0.1", 8888) == ""


def test_a_network_that_becomes_internal_cuts_its_connections(world):
    from dataclasses import replace

    with namespaces.inside(world.path("d")):
        import socket

        connection = socket.create_connection((OUTSIDE, 80), 1)
    before = world.networks["alone"]
    try:
        assert connection.recv(100).startswith(b"outside")
        world.networks["alone"] = replace(before, internal=True)
        world.firewall()
        assert world.fetch("d", OUTSIDE) == ""
    finally:
        connection.close()
        world.networks["alone"] = before
        world.firewall()
