# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network changes under its containers, and their processes do not notice; judged from inside."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .module_runner import quartet, run_module

pytestmark = pytest.mark.root
# Several runs of these tests may share a host.
BASE = f"10.{208 + os.getpid() % 47}"
PORT = 20000 + os.getpid() % 10000
SIX = f"fd55:{os.getpid() % 9000 + 1}:40::"
SUBNET, OTHER = f"{BASE}.40.0/24", f"{BASE}.41.0/24"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    top = str(tmp_path_factory.mktemp("live") / "vessel")
    args = {"root": top, "name": "bb", "source": "template", "template": "busybox", "cmd": "sleep 1000"}
    run_module("image", args)
    yield top
    install.remove(Paths.at(top))
    assert top not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def pair(root):
    """Two containers on one network."""
    run_module("network", {"root": root, "name": "shop", "subnet": SUBNET})
    for name in ("one", "two"):
        result = run_module("container", {"root": root, "name": name, "image": "bb", "networks": [{"name": "shop"}]})
        assert not result.get("failed"), result["msg"]
    before = identities(root)
    yield root
    assert identities(root) == before
    for name in ("one", "two"):
        run_module("container", {"root": root, "name": name, "state": "absent"})
    run_module("network", {"root": root, "name": "shop", "state": "absent"})


def facts(root):
    return {one["name"]: one for one in run_module("container_info", {"root": root})["containers"]}


def identities(root):
    return {name: (one["pid"], one["started_at"]) for name, one in facts(root).items()}


def inside(root, name, *command):
    pid = facts(root)[name]["pid"]
    done = subprocess.run(["nsenter", "-t", str(pid), "-n", *command], capture_output=True, text=True, check=False)
    return done


def address(root, name):
    return facts(root)[name]["networks"][0]["ipv4_address"]


def reaches(root, name, target):
    return inside(root, name, "ping", "-c1", "-W2", target).returncode == 0


def link(root, name):
    return json.loads(inside(root, name, "ip", "-j", "addr", "show", "eth0").stdout)[0]


def routes(root, name):
    return [route["dst"] for route in json.loads(inside(root, name, "ip", "-j", "route").stdout)]


def change(root, **args):
    return quartet("network", {"root": root, "name": "shop", **args})[-1]["network"]


def test_a_new_subnet_readdresses_and_renames(pair):
    network = change(pair, subnet=OTHER)
    for name in ("one", "two"):
        seen = [entry["local"] for entry in link(pair, name)["addr_info"] if entry["family"] == "inet"]
        assert seen == [address(pair, name)]
        assert ipaddress.ip_address(seen[0]) in ipaddress.ip_network(OTHER)
    assert {entry["ipv4_address"] for entry in network["containers"]} == {
        address(pair, name) for name in ("one", "two")
    }
    assert reaches(pair, "one", address(pair, "two"))
    assert reaches(pair, "one", network["gateway"])
    hosts = Path(f"/proc/{facts(pair)['one']['pid']}/root/etc/hosts").read_text()
    assert f"{address(pair, 'two')}\ttwo" in hosts
    assert f"{BASE}.40." not in hosts


def test_a_new_subnet_must_hold_fixed_addresses(pair):
    fixed = [{"name": "shop", "ipv4_address": f"{BASE}.40.77"}]
    run_module("container", {"root": pair, "name": "one", "networks": fixed})
    for check in (True, False):
        failed = run_module("network", {"root": pair, "name": "shop", "subnet": OTHER}, check=check)
        assert f"{BASE}.40.77, the fixed address of the container one" in failed["msg"]
    wider = run_module("network", {"root": pair, "name": "shop", "subnet": f"{BASE}.40.0/23"})
    assert wider["changed"], wider
    assert facts(pair)["one"]["networks"][0]["ipv4_address"] == f"{BASE}.40.77"


def test_a_gateway_is_nobody_elses_address(pair):
    """One that declares its address keeps it; another gets a new one."""
    fixed = [{"name": "shop", "ipv4_address": f"{BASE}.40.77"}]
    run_module("container", {"root": pair, "name": "one", "networks": fixed})
    for check in (True, False):
        failed = run_module("network", {"root": pair, "name": "shop", "gateway": f"{BASE}.40.77"}, check=check)
        assert f"is {BASE}.40.77, the fixed address of the container one" in failed["msg"]
    taken = address(pair, "two")
    change(pair, gateway=taken)
    assert address(pair, "two") != taken
    assert reaches(pair, "two", taken)
    assert reaches(pair, "one", address(pair, "two"))


def test_a_new_subnet_must_have_room(pair):
    for check in (True, False):
        failed = run_module("network", {"root": pair, "name": "shop", "subnet": f"{BASE}.41.0/30"}, check=check)
        assert failed["msg"].startswith(f"subnet: '{BASE}.41.0/30' has 1 addresses, and 2 containers")
    assert run_module("network", {"root": pair, "name": "shop", "subnet": f"{BASE}.41.0/29"})["changed"]
    assert reaches(pair, "one", address(pair, "two"))


def test_the_mtu_follows_inside(pair):
    change(pair, mtu=1400)
    assert [link(pair, name)["mtu"] for name in ("one", "two")] == [1400, 1400]


def test_a_gateway_that_moves_is_the_new_default_route(pair):
    change(pair, gateway=f"{BASE}.40.254")
    listed = json.loads(inside(pair, "one", "ip", "-j", "route", "show", "default").stdout)
    assert [route["gateway"] for route in listed] == [f"{BASE}.40.254"]
    assert reaches(pair, "one", f"{BASE}.40.254")


def test_internal_takes_the_default_route_and_gives_it_back(pair):
    assert "default" in routes(pair, "one")
    change(pair, internal=True)
    assert "default" not in routes(pair, "one")
    assert reaches(pair, "one", address(pair, "two"))
    change(pair, internal=False)
    assert "default" in routes(pair, "one")


def test_ipv6_comes_and_goes(pair):
    change(pair, subnet6=f"{SIX}/64")
    six = [entry["local"] for entry in link(pair, "one")["addr_info"] if entry["family"] == "inet6"]
    assert f"{SIX}2" in six or f"{SIX}3" in six
    other = facts(pair)["two"]["networks"][0]["ipv6_address"]
    assert reaches(pair, "one", other)
    change(pair, ipv6=False)
    assert "fd55" not in inside(pair, "one", "ip", "addr").stdout


def test_it_stays_while_they_are_on_it_and_force_detaches_them(pair):
    gone = {"root": pair, "name": "shop", "state": "absent"}
    assert run_module("network", gone)["msg"].startswith("network shop is in use by one, two")
    results = quartet("network", {**gone, "force": True})
    assert results[0]["actions"][:2] == ["container one: set networks (live)", "container two: set networks (live)"]
    assert facts(pair)["one"]["networks"] == []
    assert "eth0" not in inside(pair, "one", "ip", "link").stdout


def test_a_new_address_has_the_published_port(root):
    args = {"root": root, "name": "web", "image": "bb", "networks": [{"name": "shop"}],
            "published_ports": [f"127.0.0.1:{PORT}:80"], "command": "httpd -f -p 80 -h /etc"}  # fmt: skip
    run_module("network", {"root": root, "name": "shop", "subnet": SUBNET})
    try:
        assert not run_module("container", args).get("failed")
        assert fetch() == 0
        change(root, subnet=OTHER)
        assert fetch() == 0
        assert run_module("container", args)["changed"] is False
    finally:
        run_module("container", {"root": root, "name": "web", "state": "absent"})
        run_module("network", {"root": root, "name": "shop", "state": "absent"})


def fetch():
    command = [
        "curl",
        "-sf",
        "--retry",
        "5",
        "--retry-connrefused",
        "--retry-delay",
        "1",
        "-m",
        "10",
        "-o",
        "/dev/null",
    ]
    return subprocess.run([*command, f"http://127.0.0.1:{PORT}/passwd"], check=False).returncode
