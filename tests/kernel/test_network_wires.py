# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces, bridges and veths: made, changed by hand, named, mended in place, gone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import DependencyError, KernelError
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._network import bridge, observe, rtnl, sandbox, veth
from ansible_collections.vessel.host.plugins.module_utils._network.dump import Reader
from ansible_collections.vessel.host.plugins.module_utils._network.model import Port

from .network_world import HOST, World, eventually

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]


@pytest.fixture
def world():
    world = World()
    try:
        world.network("one", 61)
        world.container("a", "one")
        world.container("b", "one")
        world.firewall()
        yield world
    finally:
        world.close()


def identity(world, name):
    return sandbox.identity(world.path(name))


def test_nothing_to_do_is_said_of_what_was_just_made(world):
    assert world.drift("a") == []
    assert bridge.differences(world.networks["one"], observe.Snapshot.take(world.rtnl)) == []


INSIDE = {
    "addresses of eth0": ("addr", "del", "10.61.0.11/24", "dev", "eth0"),
    "addresses of eth0 ": ("addr", "add", "10.61.0.99/24", "dev", "eth0"),
    "default route": ("route", "del", "default"),
    "mtu of eth0": ("link", "set", "eth0", "mtu", "1400"),
    "mac address of eth0": ("link", "set", "eth0", "address", "02:00:00:00:00:99"),
    "link eth0": ("link", "set", "eth0", "down"),
}
OUTER = {
    "link ve0-a": ("link", "set", "ve0-a", "down"),
    "mtu of ve0-a": ("link", "set", "ve0-a", "mtu", "1300"),
    "master of ve0-a": ("link", "set", "ve0-a", "nomaster"),
    "link eth0": ("link", "del", "ve0-a"),
}


@pytest.mark.parametrize(
    ("where", "what", "command"),
    [("a", what, command) for what, command in INSIDE.items()]
    + [("host", what, command) for what, command in OUTER.items()],
)
def test_what_is_changed_by_hand_is_named_and_mended(world, where, what, command):
    assert world.fetch("b", world.address("a")).startswith("a ")
    before = identity(world, "a")
    world.ip(*command, where=where)
    assert what.strip() in world.drift("a")
    world.attach("a")
    assert world.drift("a") == []
    assert identity(world, "a") == before
    assert eventually(lambda: world.fetch("b", world.address("a")).startswith("a "))
    assert eventually(lambda: world.fetch("b", world.address("a", family=6)).startswith("a "))


def test_a_link_that_took_the_name_inside_makes_room(world):
    world.ip("link", "del", "ve0-a")
    world.ip("link", "add", "eth0", "type", "bridge", where="a")
    assert world.drift("a") == ["link eth0"]
    world.attach("a")
    assert world.drift("a") == []


def test_an_inner_end_that_was_renamed_comes_back(world):
    world.ip("link", "set", "eth0", "down", where="a")
    world.ip("link", "set", "eth0", "name", "other", where="a")
    assert world.drift("a") == ["link eth0"]
    world.attach("a")
    assert world.drift("a") == []


def test_a_second_network_comes_and_goes_while_it_runs(world):
    network = world.network("two", 62)
    first = world.wires["a"][0]
    second = veth.Wire(
        replace(first.endpoint, network="two", ifname="eth1", peer="ve1-a", ipv4="10.62.0.9/24", ipv6="", mac=""),
        network,
        default=False,
    )
    world.wires["a"].append(second)
    world.attach("a")
    assert world.drift("a") == []
    # A link that has just come up may lose the first question for its address; it is asked again after a second.
    assert world.fetch("host", "10.62.0.9", patience=5.0).startswith("a ")
    with namespaces.inside(world.path("a")):
        assert Path("/proc/sys/net/ipv6/conf/eth1/disable_ipv6").read_text() == "1\n"
    veth.detach(world.rtnl, [second.endpoint])
    veth.detach(world.rtnl, [second.endpoint])
    assert "eth1" not in world.ip("link", where="a")
    assert world.fetch("b", world.address("a")).startswith("a ")


def test_mtu_and_addresses_of_a_network_change_under_its_containers(world):
    before = world.networks["one"]
    world.networks["one"] = replace(before, mtu=1400, gateway="10.61.0.254")
    differences = bridge.differences(world.networks["one"], observe.Snapshot.take(world.rtnl))
    assert [found.what for found in differences] == ["mtu", "addresses"]
    world.mend_bridge("one")
    for name in ("a", "b"):
        world.wires[name] = [replace(wire, network=world.networks["one"]) for wire in world.wires[name]]
        assert {"mtu of eth0", "default route"} < set(world.drift(name))
        world.attach(name)
        assert world.drift(name) == []
    assert bridge.differences(world.networks["one"], observe.Snapshot.take(world.rtnl)) == []
    assert world.fetch("a", world.address("b")).startswith("b ")


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("bridge", ("link", "del", "br-one")),
        ("bridge state", ("link", "set", "br-one", "down")),
        ("addresses", ("addr", "del", "10.61.0.1/24", "dev", "br-one")),
        ("mtu", ("link", "set", "br-one", "mtu", "1450")),
    ],
)
def test_a_bridge_that_is_changed_by_hand_is_mended(world, what, command):
    world.ip(*command)
    network = world.networks["one"]
    assert what in [found.what for found in bridge.differences(network, observe.Snapshot.take(world.rtnl))]
    world.mend_bridge("one")
    assert bridge.differences(network, observe.Snapshot.take(world.rtnl)) == []
    for name in ("a", "b"):
        world.attach(name)
    assert eventually(lambda: world.fetch("host", world.address("a")).startswith("a "))


@pytest.mark.parametrize("name", ["net/ipv4/ip_forward", "net/ipv4/conf/br-one/route_localnet"])
def test_a_switch_that_is_turned_by_hand_is_turned_back(world, name):
    Path(f"/proc/sys/{name}").write_text("0")
    network = world.networks["one"]
    found = bridge.differences(network, observe.Snapshot.take(world.rtnl))
    assert [(item.what, item.before, item.after) for item in found] == [(f"sysctl {name}", "0", "1")]
    world.mend_bridge("one")
    assert Path(f"/proc/sys/{name}").read_text() == "1\n"


def test_an_address_that_another_gets_is_reached_at_once(world):
    """The host and the neighbours have the former owner's MAC in their tables."""
    address = world.address("a")
    assert world.fetch("host", address).startswith("a ")
    assert world.fetch("b", address).startswith("a ")
    former = world.wires["a"][0].endpoint.ipv4
    world.remove("a")
    world.container("z", "one", number=int(address.rpartition(".")[2]))
    assert world.wires["z"][0].endpoint.ipv4 == former
    assert eventually(lambda: world.fetch("host", address).startswith("z "), 2)
    assert eventually(lambda: world.fetch("b", address).startswith("z "), 2)


def test_neighbours_hear_of_a_new_mac(world):
    address = world.address("a")
    assert world.fetch("host", address).startswith("a ")
    assert world.fetch("b", address).startswith("a ")
    wire = world.wires["a"][0]
    world.wires["a"] = [replace(wire, endpoint=replace(wire.endpoint, mac="02:42:00:00:00:77"))]
    world.attach("a")
    assert eventually(lambda: world.fetch("host", address).startswith("a "), 2)
    assert eventually(lambda: world.fetch("b", address).startswith("a "), 2)
    assert world.drift("a") == []


def test_namespace_is_one_that_others_find_and_know(world):
    path = world.path("new")
    try:
        sandbox.create(path)
        first = sandbox.identity(path)
        sandbox.create(path)
        assert sandbox.identity(path) == first != 0
        name = os.path.basename(path)
        assert name in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        assert "LOOPBACK,UP" in world.ip("link", where="new")
        with namespaces.inside(path):
            assert Path("/proc/sys/net/ipv4/ping_group_range").read_text().split() == ["0", "2147483647"]
    finally:
        sandbox.delete(path)
    sandbox.delete(path)
    assert not os.path.lexists(path)


def test_a_namespace_that_lost_its_pin_is_pinned_again(world):
    path, server = world.path("a"), world.servers[0]
    before = identity(world, "a")
    subprocess.run(["umount", "-l", path], check=True)
    assert identity(world, "a") == 0
    sandbox.create(path, f"/proc/{server}/ns/net")
    assert identity(world, "a") == before
    assert world.drift("a") == []


def test_another_namespace_in_its_place_makes_room(world):
    path, server = world.path("a"), world.servers[0]
    before = identity(world, "a")
    subprocess.run(["umount", "-l", path], check=True)
    sandbox.create(path)
    assert identity(world, "a") not in (0, before)
    sandbox.create(path, f"/proc/{server}/ns/net")
    assert identity(world, "a") == before


def test_the_hosts_own_namespace_is_nobodys(world):
    path = world.path("new")
    try:
        sandbox.create(path, "/proc/self/ns/net")
        assert sandbox.identity(path) != os.stat("/proc/thread-self/ns/net").st_ino
    finally:
        sandbox.delete(path)


def test_what_a_killed_process_left_of_a_namespace_is_swept(world):
    path = world.path("left")
    Path(path).touch()
    assert not sandbox.exists(path)
    assert sandbox.identity(path) == 0
    try:
        sandbox.create(path)
        assert sandbox.exists(path)
    finally:
        sandbox.delete(path)
    assert not os.path.lexists(path)


def test_the_kernels_refusal_names_operation_object_and_errno(world):
    with pytest.raises(KernelError, match=r"set link 99999.*\[ENODEV\]") as caught:
        world.rtnl.set_link(99999, state="up")
    assert caught.value.errno == 19
    assert world.rtnl.link("nosuch") is None
    world.rtnl.delete_link("nosuch")


def test_dump_is_what_ip_says(world):
    world.ip("route", "add", "10.99.0.0/16", "nexthop", "via", "10.61.0.11", "nexthop", "via", "10.61.0.12")
    with Reader() as reader:
        links, routes = reader.links(), reader.routes()
        one = links["br-one"]
        assert reader.link("br-one") == one
        assert (one.kind, one.up, one.mtu) == ("bridge", True, 1500)
        assert (links["ve0-a"].kind, links["ve0-a"].master) == ("veth", one.index)
        assert reader.addresses()[one.index] == {"10.61.0.1/24", "fd00:61::1/64"}
    assert rtnl.Route("10.61.0.0/24", "", one.index) in routes
    assert rtnl.Route("10.99.0.0/16", "10.61.0.11", one.index) in routes
    inside = observe.within(world.path("a"))
    assert inside.gateways("eth0") == {"10.61.0.1", "fd00:61::1"}


def test_a_writer_stays_in_the_namespace_in_which_it_was_made(world):
    with namespaces.inside(world.path("a")):
        writer = rtnl.Rtnl()
    with writer:
        link = writer.link("eth0")
        assert link is not None
        writer.add_address(link.index, "10.61.0.200/24")
    assert "10.61.0.200" in world.ip("addr", where="a")


def test_asking_needs_no_library_and_changing_says_which(world, monkeypatch):
    monkeypatch.setattr(rtnl, "_library", [])
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    with rtnl.Rtnl() as one:
        assert "br-one" in one.links()
        with pytest.raises(DependencyError, match=r"pyroute2 can't be used.*install python3-pyroute2"):
            one.add_bridge("br-x", 1500, "02:42:00:00:00:01")


def test_a_published_port_leads_to_the_new_place_after_a_new_attachment(world):
    world.publish("a", Port("0.0.0.0", 8080, 80))
    world.firewall()
    assert world.fetch("outside", HOST, 8080).startswith("a ")
    world.ip("link", "del", "ve0-a")
    assert world.fetch("outside", HOST, 8080) == ""
    world.attach("a")
    assert eventually(lambda: world.fetch("outside", HOST, 8080).startswith("a "))


def test_the_systems_own_python_and_library_do_it_too():
    """Debian's pyroute2 is 0.7.2, PyPI's is newer; both have been the interpreter that Ansible finds."""
    if sys.executable == "/usr/bin/python3" or not os.access("/usr/bin/python3", os.X_OK):
        pytest.skip("there is no other Python")
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'collection')!r})\n"
        "from ansible_collections.vessel.host.tests.kernel.network_world import World\n"
        "world = World()\n"
        "try:\n"
        "    world.network('one', 61); world.container('a', 'one'); world.container('b', 'one')\n"
        "    world.firewall()\n"
        "    assert world.fetch('a', world.address('b')).startswith('b '), 'no answer'\n"
        "    assert world.fetch('a', world.address('b', family=6)).startswith('b '), 'no answer by IPv6'\n"
        "    assert world.drift('a') == [], world.drift('a')\n"
        "    world.ip('link', 'del', 've0-a'); world.attach('a')\n"
        "    assert world.drift('a') == [], world.drift('a')\n"
        "finally:\n"
        "    world.close()\n"
        "import pyroute2; print(pyroute2.__file__)\n"
    )
    done = subprocess.run(["/usr/bin/python3", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("/usr/lib/python3/")
