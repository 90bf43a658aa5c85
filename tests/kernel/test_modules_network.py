# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks as a task declares them, judged by what the kernel shows."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess

import pytest
from ansible_collections.vessel.host.plugins.module_utils._converge import store
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import quartet, run_module

pytestmark = pytest.mark.root
# Several runs of these tests may share a host.
BASE = f"10.{208 + os.getpid() % 47}"
SIX = f"fd55:{os.getpid() % 9000 + 1}::"
SUBNET, OTHER = f"{BASE}.5.0/24", f"{BASE}.6.0/24"


def named(value):
    """A test has one name in all of the processes that share the run."""
    return value.replace(BASE, "10.x").replace(SIX, "fd55:x::") if isinstance(value, str) else None


def show(*args, check=True):
    done = subprocess.run(["ip", "-j", "-d", *args], capture_output=True, text=True, check=check)
    return json.loads(done.stdout or "[]")


def bridge_of(root, name="shop"):
    return Paths.at(root).link("br", name)


def addresses(link):
    return sorted(f"{a['local']}/{a['prefixlen']}" for a in show("addr", "show", link)[0]["addr_info"])


def table(root):
    command = ["nft", "list", "table", "inet", Paths.at(root).nft_table]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def sysctl(path):
    with open(f"/proc/sys/net/{path}") as file:
        return file.read().strip()


@pytest.fixture
def root(tmp_path):
    yield str(tmp_path / "vessel")
    for network in run_module("network_info", {"root": str(tmp_path / "vessel")})["networks"]:
        run_module("network", {"root": str(tmp_path / "vessel"), "name": network["name"], "state": "absent"})


@pytest.fixture
def shop(root):
    run_module("network", {"root": root, "name": "shop", "subnet": SUBNET})
    return bridge_of(root)


def test_a_network_is_made_once_and_goes(root):
    args = {"root": root, "name": "shop", "subnet": SUBNET}
    results = quartet("network", args)
    assert results[0]["actions"] == ["network shop: create", f"firewall {Paths.at(root).nft_table}: update"]
    link = show("link", "show", bridge_of(root))[0]
    assert (link["linkinfo"]["info_kind"], link["mtu"], "UP" in link["flags"]) == ("bridge", 1500, True)
    assert addresses(bridge_of(root)) == [f"{BASE}.5.1/24"]
    assert "masquerade" in table(root)
    quartet("network", {"root": root, "name": "shop", "state": "absent"})
    assert show("link", "show", bridge_of(root), check=False) == []
    assert table(root) == ""
    assert not os.path.exists(root) or os.listdir(root) == []


def test_a_subnet_that_is_chosen_stays(root):
    first = quartet("network", {"root": root, "name": "one"})[-1]["network"]
    second = quartet("network", {"root": root, "name": "two"})[-1]["network"]
    nets = [ipaddress.ip_network(network["subnet"]) for network in (first, second)]
    assert not nets[0].overlaps(nets[1])
    again = run_module("network", {"root": root, "name": "one", "labels": {"a": "b"}})
    assert again["network"]["subnet"] == first["subnet"]


@pytest.mark.parametrize(
    ("option", "value", "seen"),
    [
        ("mtu", 1400, lambda link, root: show("link", "show", link)[0]["mtu"] == 1400),
        ("subnet", OTHER, lambda link, root: addresses(link) == [f"{BASE}.6.1/24"]),
        ("gateway", f"{BASE}.5.254", lambda link, root: addresses(link) == [f"{BASE}.5.254/24"]),
        ("ipv6", True, lambda link, root: len(addresses(link)) == 2 or len(addresses(link)) == 3),
        ("subnet6", f"{SIX}/64", lambda link, root: f"{SIX}1/64" in addresses(link)),
        ("internal", True, lambda link, root: "drop" in table(root) and "masquerade" in table(root)),
        ("isolate", True, lambda link, root: table(root).count("drop") == 5),
        ("ip_range", f"{BASE}.5.128/25", lambda link, root: True),
        ("labels", {"tier": "db"}, lambda link, root: True),
    ],
    ids=named,
)
def test_an_option_of_an_existing_network(root, shop, option, value, seen):
    index = show("link", "show", shop)[0]["ifindex"]
    results = quartet("network", {"root": root, "name": "shop", option: value})
    assert f"network shop: set {option} (live)" in results[0]["actions"]
    assert results[-1]["network"][option] == value
    assert seen(shop, root)
    assert show("link", "show", shop)[0]["ifindex"] == index


def test_ipv6_goes_again(root, shop):
    run_module("network", {"root": root, "name": "shop", "ipv6": True})
    quartet("network", {"root": root, "name": "shop", "ipv6": False})
    assert addresses(shop) == [f"{BASE}.5.1/24"]
    assert sysctl(f"ipv6/conf/{shop}/disable_ipv6") == "1"


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda link, t: ["ip", "link", "del", link], "mend bridge (live)"),
        (lambda link, t: ["ip", "link", "set", link, "down"], "mend bridge state (live)"),
        (lambda link, t: ["ip", "addr", "flush", "dev", link], "mend addresses (live)"),
        (lambda link, t: ["ip", "addr", "add", f"{BASE}.5.9/24", "dev", link], "mend addresses (live)"),
        (lambda link, t: ["ip", "link", "set", link, "mtu", "1300"], "mend mtu (live)"),
        (lambda link, t: ["sysctl", "-qw", f"net.ipv4.conf.{link}.route_localnet=0"], "mend sysctl"),
        (lambda link, t: ["nft", "flush", "table", "inet", t], "mend"),
        (lambda link, t: ["nft", "delete", "table", "inet", t], "mend"),
        (lambda link, t: ["nft", "add", "rule", "inet", t, "forward", "accept"], "mend"),
    ],
)
def test_drift_is_named_and_mended(root, shop, break_it, told):
    before = table(root)
    subprocess.run(break_it(shop, Paths.at(root).nft_table), check=True)
    results = quartet("network", {"root": root, "name": "shop"})
    assert any(told in action for action in results[0]["actions"]), results[0]["actions"]
    assert addresses(shop) == [f"{BASE}.5.1/24"]
    assert table(root) == before


def test_foreign_tables_are_not_touched(root):
    foreign = "vesseltestforeign"
    subprocess.run(["nft", "add", "table", "inet", foreign], check=True)
    try:
        run_module("network", {"root": root, "name": "shop", "subnet": SUBNET})
        run_module("network", {"root": root, "name": "shop", "state": "absent"})
        assert foreign in subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run(["nft", "delete", "table", "inet", foreign], check=True)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"name": "new", "subnet": f"{BASE}.5.128/25"}, f"subnet: '{BASE}.5.128/25' overlaps {BASE}.5.0/24 of the"),
        ({"name": "new", "subnet": f"{BASE}.7.1/24"}, f"subnet: '{BASE}.7.1/24' is not a subnet"),
        ({"name": "new", "subnet": f"{BASE}.7.0/33"}, f"subnet: '{BASE}.7.0/33' is not a subnet"),
        ({"name": "new", "subnet": "fd55::/64"}, "subnet: 'fd55::/64' is not an IPv4 subnet; give it as subnet6"),
        ({"name": "new", "subnet": 10.213}, "subnet: 10.213 is a number that YAML may have rounded"),
        ({"name": "new", "subnet": "127.0.0.0/8"}, "subnet: '127.0.0.0/8' is not for hosts"),
        ({"name": "new", "subnet": f"{BASE}.7.0/31"}, f"subnet: '{BASE}.7.0/31' is too small"),
        ({"name": "new", "subnet": f"{BASE}.7.0/24", "gateway": f"{BASE}.8.1"}, f"gateway: '{BASE}.8.1' is not in the"),
        ({"name": "new", "subnet": f"{BASE}.7.0/24", "gateway": f"{BASE}.7.255"}, f"gateway: '{BASE}.7.255' is the"),
        ({"name": "new", "subnet": f"{BASE}.7.0/24", "ip_range": f"{BASE}.8.0/25"}, f"ip_range: '{BASE}.8.0/25' is"),
        ({"name": "new", "ipv6": False, "subnet6": "fd55::/64"}, "subnet6: 'fd55::/64' needs ipv6: true"),
        ({"name": "new", "ipv6": True, "mtu": 1000}, "mtu: 1000 is too small for IPv6; use 1280 or more"),
        ({"name": "new", "mtu": 12}, "mtu: 12 is out of range; use 68 to 65535"),
        ({"name": "new", "driver": "macvlan"}, "driver: 'macvlan' is not one of bridge"),
        ({"name": "new", "internal": "perhaps"}, "internal: 'perhaps' is not a boolean"),
        ({"name": "a/b"}, "name: 'a/b' is not a name"),
    ],
    ids=named,
)  # fmt: skip
def test_bad_input_is_refused_and_leaves_nothing(root, shop, args, sentence):
    before = [sorted(os.walk(root)), addresses(shop), table(root)]
    result = run_module("network", {"root": root, **args})
    assert result["msg"].startswith(sentence), result["msg"]
    assert [sorted(os.walk(root)), addresses(shop), table(root)] == before
    assert show("link", "show", bridge_of(root, args["name"]), check=False) == []


def test_a_network_that_the_host_is_on_is_refused(root):
    subprocess.run(["ip", "link", "add", "vesseltest0", "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", f"{BASE}.9.1/24", "dev", "vesseltest0"], check=True)
        subprocess.run(["ip", "link", "set", "vesseltest0", "up"], check=True)
        result = run_module("network", {"root": root, "name": "new", "subnet": f"{BASE}.9.0/25"})
        assert f"overlaps the route {BASE}.9.0/24 of this host" in result["msg"]
    finally:
        subprocess.run(["ip", "link", "del", "vesseltest0"], check=True)


def test_a_used_network_stays(root, shop):
    store.write_spec(Paths.at(root), "containers", "web", {"networks": [{"name": "shop"}], "network_mode": None})
    try:
        result = run_module("network", {"root": root, "name": "shop", "state": "absent"})
        assert result["msg"].startswith("network shop is in use by web")
        assert addresses(shop) == [f"{BASE}.5.1/24"]
    finally:
        store.remove_spec(Paths.at(root), "containers", "web")


def test_a_bridge_that_a_killed_run_left_goes_with_absent(root, shop):
    store.remove_spec(Paths.at(root), "networks", "shop")
    quartet("network", {"root": root, "name": "shop", "state": "absent"})
    assert show("link", "show", shop, check=False) == []
