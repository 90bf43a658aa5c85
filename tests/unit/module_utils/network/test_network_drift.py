# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said to differ, from snapshots; the kernel tests see the same things mended."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.vessel.host.plugins.module_utils._network import nft_compare, nftables, veth
from ansible_collections.vessel.host.plugins.module_utils._network.dump import Link, Route
from ansible_collections.vessel.host.plugins.module_utils._network.model import Endpoint, Network, Port
from ansible_collections.vessel.host.plugins.module_utils._network.nftables import Target
from ansible_collections.vessel.host.plugins.module_utils._network.observe import Snapshot
from ansible_collections.vessel.host.plugins.module_utils._network.veth import Wire

NETWORK = Network("n", "br", subnet="10.89.0.0/24", gateway="10.89.0.1")
ENDPOINT = Endpoint("c", "n", "eth0", "ve", "10.89.0.2/24", mac="02:42:0a:59:00:02")
WIRE = Wire(ENDPOINT, NETWORK, default=True)
BRIDGE = Link(7, "br", "bridge", True, 1500, "", 0, 0)
PEER = Link(8, "ve", "veth", True, 1500, "", 7, 2)
LINK = Link(2, "eth0", "veth", True, 1500, "02:42:0a:59:00:02", 0, 8)
WAY = Route("default", "10.89.0.1", 2)


def found(peer=PEER, link=LINK, addresses=("10.89.0.2/24",), routes=(WAY,), wire=WIRE):
    host = Snapshot({each.name: each for each in (BRIDGE, peer) if each}, {}, [])
    inside = Snapshot({link.name: link} if link else {}, {2: set(addresses)}, list(routes))
    return [(item.what, item.before, item.after) for item in veth.differences(wire, host, inside)]


def test_as_declared_nothing_differs():
    assert found() == []


@pytest.mark.parametrize("changed", [{"peer": None}, {"link": None}, {"link": replace(LINK, peer=99)}])
def test_half_a_pair_is_none(changed):
    assert found(**changed) == [("link eth0", "absent", "ve")]


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"peer": replace(PEER, up=False)}, ("link ve", "down", "up")),
        ({"peer": replace(PEER, master=0)}, ("master of ve", 0, "br")),
        ({"peer": replace(PEER, mtu=1400)}, ("mtu of ve", 1400, 1500)),
        ({"link": replace(LINK, up=False)}, ("link eth0", "down", "up")),
        ({"link": replace(LINK, mtu=1400)}, ("mtu of eth0", 1400, 1500)),
        ({"link": replace(LINK, mac="02:00")}, ("mac address of eth0", "02:00", "02:42:0a:59:00:02")),
        ({"addresses": ()}, ("addresses of eth0", [], ["10.89.0.2/24"])),
        ({"addresses": ("10.89.0.2/16",)}, ("addresses of eth0", ["10.89.0.2/16"], ["10.89.0.2/24"])),
        ({"routes": ()}, ("default route", [], ["10.89.0.1"])),
        ({"wire": replace(WIRE, default=False)}, ("default route", ["10.89.0.1"], [])),
        ({"wire": replace(WIRE, network=replace(NETWORK, internal=True))}, ("default route", ["10.89.0.1"], [])),
    ],
)
def test_each_thing_is_named_with_before_and_after(changed, difference):
    assert found(**changed) == [difference]


def as_read(commands):
    return [command["add"] for command in commands[1:]]


def test_rules_as_asked_for_are_no_difference():
    commands = nftables.render("t", [NETWORK], [Target(Port("0.0.0.0", 80, 80), "10.89.0.2")])
    assert nft_compare.differences(commands, as_read(commands)) == []
    assert [item.what for item in nft_compare.differences(commands, [])] == ["table"]


def test_a_protocol_by_its_number_is_none_either():
    """As nft tells it on a host without /etc/protocols."""
    ports = [Port("0.0.0.0", 80, 80), Port("127.0.0.1", 53, 53, "udp"), Port("0.0.0.0", 36412, 36412, "sctp")]
    targets = [Target(port, "10.89.0.2") for port in ports]
    commands = nftables.render("t", [NETWORK], targets)
    text = json.dumps(as_read(commands)).replace('"tcp"', "6").replace('"udp"', "17").replace('"sctp"', "132")
    assert "17" in text
    assert nft_compare.differences(commands, json.loads(text)) == []
    assert sorted(nft_compare.targets(json.loads(text)), key=str) == sorted(targets, key=str)


def test_an_element_and_a_rule_are_named_by_their_place():
    before = nftables.render("t", [NETWORK], [Target(Port("0.0.0.0", 80, 80), "10.89.0.2")])
    after = nftables.render("t", [replace(NETWORK, internal=True)], [Target(Port("0.0.0.0", 81, 80), "10.89.0.2")])
    names = [item.what for item in nft_compare.differences(after, as_read(before))]
    assert names == ["port 80/tcp", "port 81/tcp", "rules of forward", "rules of postrouting"]
