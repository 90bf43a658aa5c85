# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network across hosts, as it is written: what each host finds itself of one declaration, and what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError
from ansible_collections.vessel.host.plugins.module_utils._network.model import Allow, End
from ansible_collections.vessel.host.plugins.module_utils._network.observe import Snapshot
from ansible_collections.vessel.host.plugins.module_utils._network.rtnl import Link
from ansible_collections.vessel.host.plugins.module_utils._options import vxlan
from ansible_collections.vessel.host.plugins.module_utils._options.network import OPTIONS, complete, to_model
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

PEERS = {f"h{n}": {"address": f"192.0.2.{n}", "ip_range": f"10.90.{n}.0/24"} for n in (1, 2)}
GIVEN = {"driver": "vxlan", "vni": 4711, "subnet": "10.90.0.0/16", "subnet6": "fd90::/64", "peers": PEERS}


def host(number, mtu=1500):
    addresses = {2: {f"192.0.2.{number}/24", f"2001:db8::{number}/64"}}
    return Snapshot({"eth0": Link(2, "eth0", "", True, mtu, "", 0, 0)}, addresses, [])


def spec(given, stored=None, *, whole=False, seen=None):
    parsed = parse_options(OPTIONS, given)
    return complete(parsed, stored, name="shop", tag="", taken=[], whole=whole, seen=seen or host(1))


def test_one_declaration_is_each_hosts_own():
    for number in (1, 2):
        found = spec(GIVEN, seen=host(number))
        assert (found["local"], found["ip_range"]) == (f"192.0.2.{number}", f"10.90.{number}.0/24")
        assert (found["gateway"], found["gateway6"]) == (f"10.90.{number}.1", f"fd90::a5a:{number}01")
        network = to_model(Paths(), "shop", found)
        assert network.peers == (f"192.0.2.{3 - number}",)
        assert network.tunnel == "vslvx-shop"


def test_a_list_of_addresses_and_a_part_of_ones_own():
    found = spec({**GIVEN, "peers": ["192.0.2.2", "192.0.2.1"], "ip_range": "10.90.7.0/24"})
    assert found["peers"]["192.0.2.2"] == {"address": "192.0.2.2", "ip_range": ""}
    assert found["gateway"] == "10.90.7.1"


@pytest.mark.parametrize(("address", "mtu", "fits"), [("192.0.2.1", 1500, 1450), ("2001:db8::1", 9000, 8930)])
def test_the_mtu_is_what_fits_below(address, mtu, fits):
    given = {**GIVEN, "peers": [address], "ip_range": "10.90.7.0/24"}
    stored = spec(given, seen=host(1, mtu))
    assert stored["mtu"] == fits
    # It follows where nobody says otherwise; a smaller one that was given stays.
    assert spec({}, stored, seen=host(1, mtu - 100))["mtu"] == fits - 100
    assert spec(given, stored, whole=True, seen=host(1, mtu + 8))["mtu"] == fits + 8
    smaller = spec({"mtu": 1400}, stored, seen=host(1, mtu))
    assert spec({}, smaller, seen=host(1, mtu))["mtu"] == 1400


def test_a_part_of_the_part_that_peers_know():
    found = spec({**GIVEN, "ip_range": "10.90.1.128/25"})
    assert (found["ip_range"], found["gateway"]) == ("10.90.1.128/25", "10.90.1.129")


def test_at_boot_the_address_may_not_be_there_yet():
    stored = spec(GIVEN)
    assert spec({}, stored, seen=Snapshot({}, {}, [])) == stored


def test_the_own_address_stays_while_it_can_be_and_follows_when_it_is_another():
    two = {2: {"192.0.2.1/24", "198.51.100.1/24"}}
    both = Snapshot({"eth0": Link(2, "eth0", "", True, 1500, "", 0, 0)}, two, [])
    part = {"ip_range": "10.90.7.0/24"}
    with pytest.raises(OptionError, match="say which"):
        spec({**GIVEN, "peers": ["192.0.2.1", "198.51.100.1"], **part}, seen=both)
    stored = spec({**GIVEN, "peers": ["192.0.2.1", "198.51.100.1"], "local": "198.51.100.1", **part}, seen=both)
    assert spec({}, stored, seen=both)["local"] == "198.51.100.1"
    assert spec({"peers": ["192.0.2.1", "192.0.2.9"]}, stored, seen=host(1))["local"] == "192.0.2.1"


def test_a_host_more_moves_nobody():
    stored = spec(GIVEN)
    more = {**PEERS, "h0": {"address": "192.0.2.200", "ip_range": "10.90.0.0/24"}}
    found = spec({"peers": more}, stored)
    assert {key for key in found if found[key] != stored[key]} == {"peers"}


def test_another_drivers_network_has_nothing_of_it():
    found = spec({"driver": "bridge"}, {**spec(GIVEN), "driver": "bridge"})
    assert [found[option.name] for option in vxlan.OPTIONS] == [None, {}, None, None, None]


# fmt: off
WRONG = [
    ({"vni": None}, "vni: is missing; a network of the driver vxlan needs it"),
    ({"subnet": None}, "subnet: is missing"),
    ({"local": "::ffff:192.0.2.1"}, "local: '::ffff:192.0.2.1' is an IPv4 address in the words of IPv6; use 192.0.2.1"),
    ({"peers": ["192.0.2.77"]}, "local: is missing: none of the addresses of peers is this host's"),
    ({"peers": ["192.0.2.1", "192.0.2.2"]}, "ip_range: is missing: which part of"),
    ({"peers": {"h1": "192.0.2.1", "h9": "2001:db8::9"}}, "peers.h9.address: '2001:db8::9' is not of the same kind"),
    ({"mtu": 1451}, "mtu: 1451 does not fit into eth0, whose MTU is 1500: VXLAN adds 50 bytes; use 1450 or less"),
    ({"peers": {"h1": {**PEERS["h1"], "ip_range": "10.0.0.0/24"}}}, "peers.h1.ip_range: '10.0.0.0/24' is not in"),
    ({"peers": {"a": "192.0.2.1", "b": "192.0.2.1"}}, "peers.b.address: '192.0.2.1' is the address of a too"),
    ({"peers": {"h1": PEERS["h1"], "h2": {**PEERS["h2"], "ip_range": "10.90.0.0/22"}}}, "overlaps"),
    ({"ip_range": "10.90.7.0/24"}, "ip_range: '10.90.7.0/24' is not in 10.90.1.0/24, which peers say of this host"),
    ({"gateway": "10.90.2.1"}, "gateway: '10.90.2.1' is in 10.90.2.0/24, the part of h2; leave it out, or take one of"),
    ({"peers": ["host2"]}, "peers.host2.address: 'host2' is not an IP address"),
    ({"vni": 1 << 24}, "vni: 16777216 is out of range"),
    ({"device": "eth7"}, "device: 'eth7' is no link of this host"),
    ({"subnet6": "fd90::/112"}, "use a /96 or larger"),
    ({"driver": "bridge"}, "is for the driver vxlan alone"),
    ({"allow": [{"from": {}}]}, "allow[0].from: {} names no label"),
    ({"allow": [{"ports": [80], "protocol": "icmp"}]}, "allow[0].ports: "),
    ({"allow": [{"ports": ["90-80"]}]}, "allow[0].ports[0]: '90-80' is a range that ends before it begins"),
    ({"allow": [{"ports": ["http"]}]}, "allow[0].ports[0]: 'http' is not a port"),
    ({"allow": [{"to": "10.0.0.1/8"}]}, "allow[0].to[0]: '10.0.0.1/8' has host bits set"),
    ({"names": {"localhost": "10.0.0.1"}}, "stands for something else in every hosts file"),
    ({"names": {"db": "nowhere"}}, "names.db[0]: 'nowhere' is not an IP address"),
]
# fmt: on


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for dummy, message in WRONG])
def test_what_is_wrong_is_told(change, message):
    given = {key: value for key, value in {**GIVEN, **change}.items() if value is not None}
    with pytest.raises(OptionError) as caught:
        spec(given)
    assert message in str(caught.value)


# names and allow


def test_forms_of_names():
    given = {"a": "10.0.0.1", "b": ["10.0.0.2", "fd00::0:2"], "c": {"addresses": ["10.0.0.3"], "labels": {"x": 1}}}
    assert parse_options(OPTIONS, {"names": given})["names"] == {
        "a": {"addresses": ["10.0.0.1"], "labels": {}},
        "b": {"addresses": ["10.0.0.2", "fd00::2"], "labels": {}},
        "c": {"addresses": ["10.0.0.3"], "labels": {"x": "1"}},
    }


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        ({"to": "db", "ports": [80]}, Allow(End(), End(("db",)), ("tcp",), ((80, 80),))),
        ({"from": {"a": 1}, "protocol": "udp"}, Allow(End(labels=(("a", "1"),)), End(), ("udp",))),
        ({"from": ["b", "10.1.0.0/24"], "to": "10.0.0.1/32"},
         Allow(End(("10.1.0.0/24", "b")), End(("10.0.0.1",)), ("tcp", "udp", "sctp", "icmp"))),
        ({"ports": ["80-90", 7], "protocol": "sctp"}, Allow(End(), End(), ("sctp",), ((7, 7), (80, 90)))),
    ],
)  # fmt: skip
def test_forms_of_allow(entry, meant):
    found = to_model(Paths(), "shop", spec({**GIVEN, "allow": [entry]}))
    assert found.allow == (meant,)


def test_nothing_is_allowed_by_an_empty_list_and_everything_by_an_empty_entry():
    assert to_model(Paths(), "shop", spec({**GIVEN, "allow": []})).allow == ()
    assert to_model(Paths(), "shop", spec({**GIVEN, "allow": [{"to": "db"}, {}]})).allow is None
    assert to_model(Paths(), "shop", spec(GIVEN)).allow is None
