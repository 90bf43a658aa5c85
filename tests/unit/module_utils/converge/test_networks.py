# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from a network's options, and what is refused before anything is done."""

from __future__ import annotations

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import networks, store
from ansible_collections.vessel.host.plugins.module_utils._errors import InUseError, OptionError
from ansible_collections.vessel.host.plugins.module_utils._network.observe import Snapshot
from ansible_collections.vessel.host.plugins.module_utils._network.rtnl import Link, Route
from ansible_collections.vessel.host.plugins.module_utils._options.network import OPTIONS, complete, to_model
from ansible_collections.vessel.host.plugins.module_utils._options.record import parse_options
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

EMPTY = Snapshot({}, {}, [])


@pytest.fixture
def paths(tmp_path):
    return Paths.at(str(tmp_path))


def whole(given, stored=None, *, whole=False, taken=()):
    parsed = parse_options(OPTIONS, given)
    return complete(parsed, stored, name="shop", tag="", taken=list(taken), whole=whole, seen=EMPTY)


def test_a_subnet_alone():
    spec = whole({"subnet": "10.90.0.0/24"})
    assert (spec["gateway"], spec["ip_range"], spec["subnet6"], spec["mtu"]) == ("10.90.0.1", "", "", 1500)


def test_nothing_at_all_gets_a_subnet_that_nobody_has():
    first = whole({})["subnet"]
    assert whole({}, taken=[first])["subnet"] != first


def test_what_is_stored_stays_unless_the_declaration_is_whole():
    stored = whole({"subnet": "10.90.0.0/24", "gateway": "10.90.0.9", "internal": True, "mtu": 1400})
    assert whole({}, stored) == stored
    again = whole({}, stored, whole=True)
    assert again["subnet"] == "10.90.0.0/24"  # one that was chosen would else move at each run
    assert (again["gateway"], again["internal"], again["mtu"]) == ("10.90.0.1", False, 1500)


def test_a_gateway_of_the_old_subnet_does_not_bind_the_new_one():
    stored = whole({"subnet": "10.90.0.0/24", "gateway": "10.90.0.9", "ip_range": "10.90.0.128/25"})
    spec = whole({"subnet": "10.91.0.0/24"}, stored)
    assert (spec["gateway"], spec["ip_range"]) == ("10.91.0.1", "")


@pytest.mark.parametrize(
    ("given", "subnet6", "gateway6"),
    [
        ({"subnet6": "fd55::/64"}, "fd55::/64", "fd55::1"),
        ({"subnet6": "fd55:0::/64", "gateway6": "fd55::ff"}, "fd55::/64", "fd55::ff"),
        ({"ipv6": False}, "", ""),
    ],
)
def test_ipv6(given, subnet6, gateway6):
    spec = whole({"subnet": "10.90.0.0/24", **given})
    assert (spec["ipv6"], spec["subnet6"], spec["gateway6"]) == (bool(subnet6), subnet6, gateway6)


def test_the_unique_local_subnet_follows_from_the_name():
    assert whole({"ipv6": True})["subnet6"] == whole({"ipv6": True})["subnet6"]


def test_two_networks_of_one_plan_do_not_get_the_same_subnet(paths):
    others = {}
    for name in ("one", "two"):
        networks.plan(paths, {"name": name}, seen=EMPTY, others=others)
    assert others["one"].subnet != others["two"].subnet


def test_a_plan_does_nothing(paths, tmp_path):
    assert networks.plan(paths, {"name": "shop"}, seen=EMPTY, others={}).describe() == ["network shop: create"]
    assert list(tmp_path.iterdir()) == []


def test_each_changed_option_is_told_with_its_cost(paths):
    stored = whole({"subnet": "10.90.0.0/24"})
    store.write_spec(paths, "networks", "shop", stored)
    network = to_model(paths, "shop", stored)
    link = Link(7, network.link, "bridge", True, 1500, "", 0, 0)
    seen = Snapshot({network.link: link}, {7: {"10.90.0.1/24"}}, [])
    plan = networks.plan(paths, {"name": "shop", "mtu": 1400, "labels": {"a": "b"}}, seen=seen)
    told = [text for text in plan.describe() if "sysctl" not in text]
    assert told == ["network shop: set mtu (live)", "network shop: set labels (live)"]
    assert plan.diff()["before"]["network shop"]["mtu (live)"] == 1500


@pytest.mark.parametrize(
    ("route", "refused"),
    [
        (Route("10.90.0.0/16", "", 3), True),
        (Route("10.90.0.128/25", "", 3), True),
        (Route("10.0.0.0/8", "192.0.2.1", 3), False),  # behind a gateway, a closer network may shadow it
        (Route("default", "", 3), False),
        (Route("10.91.0.0/24", "", 3), False),
    ],
)
def test_a_network_that_the_host_is_on(paths, route, refused):
    seen = Snapshot({}, {}, [route])
    desired = {"name": "shop", "subnet": "10.90.0.0/24"}
    if not refused:
        assert networks.plan(paths, desired, seen=seen, others={})
        return
    with pytest.raises(OptionError, match=r"^subnet: '10\.90\.0\.0/24' overlaps the route"):
        networks.plan(paths, desired, seen=seen, others={})


@pytest.mark.parametrize(
    ("spec", "used"),
    [
        ({"networks": [{"name": "default"}], "network_mode": None}, True),
        ({"networks": None, "network_mode": None}, True),  # the one that everybody is on
        ({"networks": None, "network_mode": "host"}, False),
        ({"networks": [], "network_mode": None}, False),
        ({"networks": [{"name": "other"}], "network_mode": None}, False),
    ],
)
def test_absent_is_refused_while_a_container_is_on_it(paths, spec, used):
    store.write_spec(paths, "networks", "default", whole({"subnet": "10.90.0.0/24"}))
    store.write_spec(paths, "containers", "web", spec)
    desired = {"name": "default", "state": "absent"}
    if not used:
        assert networks.plan(paths, desired, seen=EMPTY).describe() == ["network default: remove"]
        return
    with pytest.raises(InUseError, match="network default is in use by web"):
        networks.plan(paths, desired, seen=EMPTY)
