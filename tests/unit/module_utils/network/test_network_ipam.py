# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which subnet, which address, which MAC."""

from __future__ import annotations

import time

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import OptionError, VesselError
from ansible_collections.vessel.host.plugins.module_utils._network import ipam
from ansible_collections.vessel.host.plugins.module_utils._network.model import Network


def test_lowest_free_address_that_is_nobodys():
    taken = {"10.89.0.2", "10.89.0.3", "10.89.0.5"}
    assert ipam.allocate("10.89.0.0/24", "", "10.89.0.1", taken, "n") == "10.89.0.4/24"
    assert ipam.allocate("10.89.0.0/24", "10.89.0.128/25", "10.89.0.1", taken, "n") == "10.89.0.128/24"
    assert ipam.allocate("10.89.0.0/24", "10.89.0.0/29", "10.89.0.4", taken, "n") == "10.89.0.1/24"
    assert ipam.allocate("fd00::/64", "", "fd00::1", set(), "n") == "fd00::2/64"


def test_every_address_is_given_once_and_then_it_is_said():
    taken = ipam.Taken()
    given = []
    for dummy in range(5):
        given.append(ipam.allocate("10.89.0.0/29", "", "10.89.0.3", taken, "shop"))
        taken.add(given[-1].partition("/")[0])
    assert given == ["10.89.0.1/29", "10.89.0.2/29", "10.89.0.4/29", "10.89.0.5/29", "10.89.0.6/29"]
    with pytest.raises(VesselError, match=r"network shop has no free address left in 10.89.0.0/29 \(give it a larger"):
        ipam.allocate("10.89.0.0/29", "", "10.89.0.3", taken, "shop")


def test_an_address_that_is_given_back_is_given_again():
    taken = ipam.Taken({"10.89.0.2", "10.89.0.3"})
    assert ipam.allocate("10.89.0.0/24", "", "10.89.0.1", taken, "n") == "10.89.0.4/24"
    taken.discard("10.89.0.2")
    assert ipam.allocate("10.89.0.0/24", "", "10.89.0.1", taken, "n") == "10.89.0.2/24"
    taken.add("10.89.0.2")
    taken.remove("10.89.0.3")
    assert ipam.allocate("10.89.0.0/24", "", "10.89.0.1", taken, "n") == "10.89.0.3/24"


def test_thousands_cost_no_more_each():
    taken = ipam.Taken()
    began = time.process_time()
    for dummy in range(4000):
        taken.add(ipam.allocate("10.89.0.0/16", "", "10.89.0.1", taken, "n").partition("/")[0])
    assert time.process_time() - began < 1.0
    assert len(taken) == 4000


def test_free_subnet_avoids_what_it_is_told_of():
    assert ipam.free_subnet([]) == "10.192.0.0/20"
    assert ipam.free_subnet(["10.192.0.0/20", "10.192.20.0/24", "fd00::/64", "0.0.0.0/0"]) == "10.192.32.0/20"
    with pytest.raises(VesselError, match=r"every /20 of 10.192.0.0/12 overlaps .* \(give a subnet\)"):
        ipam.free_subnet(["10.0.0.0/8"])


def test_ipv6_subnet_follows_from_the_name():
    assert ipam.unique_local_subnet("/shop") == ipam.unique_local_subnet("/shop") != ipam.unique_local_subnet("/other")
    assert ipam.unique_local_subnet("/shop").startswith("fd")
    assert ipam.unique_local_subnet("/shop").endswith("::/64")


def test_mac_follows_from_the_address():
    assert ipam.mac_address("10.89.0.2/24") == "02:42:0a:59:00:02"
    assert ipam.mac_address("fd00::2") == ipam.mac_address("fd00::2/64") != ipam.mac_address("fd00::3")
    assert ipam.mac_address("fd00::2").startswith("02:42:")


def test_overlap_names_the_other():
    other = Network("shop", "br", subnet="10.89.0.0/16", subnet6="fd00::/64")
    ipam.check_overlap("subnet", "10.90.0.0/24", [other], ["10.91.0.0/24", "default"])
    with pytest.raises(OptionError, match=r"^subnet: '10.89.3.0/24' overlaps 10.89.0.0/16 of the network shop"):
        ipam.check_overlap("subnet", "10.89.3.0/24", [other], [])
    with pytest.raises(OptionError, match=r"overlaps the route 10.91.0.0/25 of this host; choose another subnet"):
        ipam.check_overlap("subnet", "10.91.0.0/24", [other], ["10.91.0.0/25"])
    with pytest.raises(OptionError, match="overlaps fd00::/64"):
        ipam.check_overlap("subnet6", "fd00::/60", [other], [])
