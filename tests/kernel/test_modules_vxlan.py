# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same task on each of two hosts, which are namespaces with an installation each; judged from inside containers."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vessel.host.plugins.module_utils._cli import install
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._paths import Paths

from .fleet_world import Fleet, underlay
from .module_runner import run_module
from .network_world import eventually

pytestmark = pytest.mark.root
NUMBER = os.getpid() % 250
PEERS = {f"h{n}": {"address": underlay(n), "ip_range": f"10.{NUMBER}.{n}.0/24"} for n in (1, 2)}
THIRD = {"h3": {"address": underlay(3), "ip_range": f"10.{NUMBER}.3.0/24"}}
NETWORK = {
    "name": "shop",
    "driver": "vxlan",
    "vni": 4711,
    "subnet": f"10.{NUMBER}.0.0/16",
    "subnet6": f"fd00:{NUMBER}::/64",
    "peers": PEERS,
}
TIMEOUT = "<urlopen error timed out>"
OTHER = {
    **NETWORK,
    "name": "other",
    "subnet": "10.251.0.0/16",
    "subnet6": "fd77::/64",
    "ip_range": "10.251.1.0/24",
    "peers": ["192.0.2.1"],
}


class Hosts:
    """Two hosts, each with an installation at a root of its own."""

    def __init__(self, top: Path) -> None:
        self.fleet = Fleet(3)
        self.roots = {host: str(top / f"h{host}") for host in (1, 2)}
        self.pids: dict[str, int] = {}

    def task(self, host: int, module: str, check: bool = False, **args: Any) -> dict[str, Any]:
        with self.fleet.on(host):
            result = run_module(module, {"root": self.roots[host], **args}, check=check)
        return result

    def done(self, host: int, module: str, **args: Any) -> dict[str, Any]:
        """Twice, of which the second time changes nothing."""
        results = [self.task(host, module, **args) for dummy in range(2)]
        for result in results:
            assert not result.get("failed"), result["msg"]
        assert [result["changed"] for result in results] == [True, False], results
        return results[0]

    def facts(self, host: int, name: str) -> dict[str, Any]:
        return next(one for one in self.task(host, "container_info")["containers"] if one["name"] == name)

    def names(self, name: str) -> list[list[str]]:
        """The lines of the hosts file that the container sees."""
        text = Path(f"/proc/{self.pids[name]}/root/etc/hosts").read_text()
        return [line.split() for line in text.splitlines()]

    def asks(self, host: int, name: str, target: str, port: int = 80) -> str:
        """What is served there, by the target's name or its address."""
        found = [line[0] for line in self.names(name) if target in line[1:]]
        if not found and not target[0].isdigit():
            return "no such name"
        with namespaces.inside(Paths.at(self.roots[host]).netns(name)):
            return fetch(found[0] if found else target, port)

    def close(self) -> None:
        for host, root in self.roots.items():
            self.task(host, "stack", name="all", state="absent")
            with self.fleet.on(host):
                install.remove(Paths.at(root))
            assert root not in Path("/proc/self/mountinfo").read_text()
        self.fleet.close()


def fetch(address: str, port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=1.0) as page:
            return str(page.read().decode().strip())
    except OSError as error:
        return str(error)


def container(name: str) -> dict[str, Any]:
    serve = "for p in 80 81; do httpd -p $p -h /www; done; sleep 1000"
    return {
        "image": "bb",
        "command": ["sh", "-c", f"mkdir -p /www; echo {name} > /www/index.html; {serve}"],
        "networks": [{"name": "shop"}],
        "labels": {"role": name},
        "stop_timeout": "1s",
    }


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path_factory.mktemp("hosts"))
    try:
        for host, names in ((1, ("web", "odd")), (2, ("db", "cache"))):
            stack = {
                "images": {"bb": {"source": "template", "template": "busybox"}},
                "networks": {"shop": {key: value for key, value in NETWORK.items() if key != "name"}},
                "containers": {name: container(name) for name in names},
            }
            hosts.done(host, "stack", name="all", **stack)
            for one in hosts.task(host, "container_info")["containers"]:
                hosts.pids[one["name"]] = one["pid"]
        yield hosts
    finally:
        hosts.close()


def test_each_host_gives_addresses_of_its_own_part(hosts: Hosts) -> None:
    for host, name in ((1, "web"), (1, "odd"), (2, "db")):
        (network,) = hosts.facts(host, name)["networks"]
        four, six = (ipaddress.ip_address(network[key]) for key in ("ipv4_address", "ipv6_address"))
        assert four in ipaddress.ip_network(f"10.{NUMBER}.{host}.0/24")
        assert int(six) & 0xFFFFFFFF == int(four)
        assert six in ipaddress.ip_network(NETWORK["subnet6"])
    (info,) = hosts.task(1, "network_info", name="shop")["networks"]
    assert (info["local"], info["mtu"], info["ip_range"]) == (underlay(1), 1450, f"10.{NUMBER}.1.0/24")
    assert info["gateway"] == f"10.{NUMBER}.1.1"
    assert set(info["members"]) == {"web", "odd"}


def test_names_of_other_hosts(hosts: Hosts) -> None:
    members: dict[str, Any] = {}
    for host in (1, 2):
        members.update(hosts.task(host, "network_info", name="shop")["networks"][0]["members"])
    assert hosts.asks(1, "web", "db") == "no such name"
    for host in (1, 2):
        hosts.done(host, "network", name="shop", names=members)
    assert hosts.asks(1, "web", "db") == "db"
    assert hosts.asks(2, "cache", "web") == "web"
    # Once as oneself, and once as one of the network, by each address.
    assert sum("web" in line[1:] for line in hosts.names("web")) == 4
    # One alone, and live: who is called so is somebody else now.
    for host in (1, 2):
        hosts.done(host, "network", name="shop", names={**members, "store": members["db"]["addresses"][0]})
    assert hosts.asks(1, "web", "store") == "db"
    assert hosts.asks(2, "cache", "store") == "db"  # where it is, too


def test_a_change_by_hand_is_mended(hosts: Hosts) -> None:
    link = Paths.at(hosts.roots[1]).link("br", "shop").replace("br", "vx", 1)
    before = hosts.facts(1, "web")
    for command in (
        f"bridge fdb del 00:00:00:00:00:00 dev {link} dst {underlay(2)}",
        f"ip link del {link}",
    ):
        with hosts.fleet.on(1):
            subprocess.run(command.split(), check=True)
        result = hosts.done(1, "network", name="shop")
        assert any("mend forwarding" in action or "mend vxlan" in action for action in result["actions"]), result
        assert hosts.asks(1, "web", "db") == "db"
    after = hosts.facts(1, "web")
    assert (before["pid"], before["started_at"]) == (after["pid"], after["started_at"])


def test_a_peer_more_is_one_change(hosts: Hosts) -> None:
    result = hosts.done(1, "network", name="shop", peers={**PEERS, **THIRD})
    assert [action for action in result["actions"] if action.startswith("network")] == [
        "network shop: set peers (live)"
    ]
    assert hosts.task(1, "network", check=True, name="shop", peers=PEERS)["actions"] == result["actions"]
    hosts.done(1, "network", name="shop", peers=PEERS)


def test_a_step_that_fails_leaves_the_network_as_it_was(hosts: Hosts, tmp_path: Path) -> None:
    """nft fails behind what the kernel has taken already."""
    nft = tmp_path / "nft"
    nft.write_text(
        '#!/bin/sh\ncase "$*" in *-f*) echo "Error: told to fail" >&2; exit 1;; esac\nexec /usr/sbin/nft "$@"\n'
    )
    nft.chmod(0o755)
    args = {"name": "shop", "peers": {**PEERS, **THIRD}, "vni": 4712, "allow": []}
    with hosts.fleet.on(1):
        path = f"{tmp_path}:{os.environ['PATH']}"
        failed = run_module("network", {"root": hosts.roots[1], **args}, environ={"PATH": path})
    assert "told to fail" in failed["msg"]
    assert not hosts.task(1, "network", name="shop", vni=4711, peers=PEERS)["changed"]
    assert hosts.asks(1, "web", "db") == "db"


def test_policy_by_labels_of_both_hosts(hosts: Hosts) -> None:
    allow = [{"from": {"role": "web"}, "to": {"role": "db"}, "ports": [80]}, {"to": "web", "ports": ["80-81"]}]
    for host in (1, 2):
        hosts.done(host, "network", name="shop", allow=allow)
    assert hosts.asks(1, "web", "db") == "db"
    assert hosts.asks(1, "web", "db", 81) == TIMEOUT
    assert hosts.asks(1, "odd", "db") == TIMEOUT
    assert hosts.asks(1, "odd", "web", 81) == "web"
    assert hosts.asks(2, "cache", "web", 81) == "web"
    assert hosts.asks(2, "cache", "db") == TIMEOUT
    # A label is changed while it runs, and counts.
    assert hosts.task(2, "container", name="cache", labels={"role": "db"})["changed"]
    names = hosts.task(2, "network_info", name="shop")["networks"][0]["members"]
    assert names["cache"]["labels"] == {"role": "db"}
    assert hosts.asks(1, "web", "cache") == "cache"
    # A newcomer is under it from its first packet on.
    hosts.pids["new"] = hosts.task(2, "container", name="new", **container("new"))["container"]["pid"]
    assert hosts.asks(2, "new", "db") == TIMEOUT
    assert hosts.asks(2, "new", "web") == "web"
    hosts.task(2, "container", name="new", state="absent")
    with hosts.fleet.on(2):
        subprocess.run(["nft", "flush", "chain", "bridge", Paths.at(hosts.roots[2]).nft_table, "to"], check=True)
    assert hosts.asks(2, "cache", "db", 81) == "db"
    assert "firewall" in " ".join(hosts.done(2, "network", name="shop")["actions"])
    assert hosts.asks(2, "cache", "db", 81) == TIMEOUT
    for host in (1, 2):
        hosts.done(host, "network", name="shop", allow=[{}])
    assert hosts.asks(1, "odd", "db", 81) == "db"


def test_published_ports_are_for_the_outside(hosts: Hosts) -> None:
    hosts.task(1, "container", name="web", published_ports=["8088:80"])
    assert hosts.asks(1, "odd", underlay(1), 8088) == "web"
    hosts.done(1, "network", name="shop", allow=[])
    assert hosts.asks(1, "odd", underlay(1), 8088) == TIMEOUT
    with hosts.fleet.on(2):
        assert fetch(underlay(1), 8088) == "web"
    hosts.done(1, "network", name="shop", allow=[{}])


def test_after_a_reboot_it_is_there_before_its_underlay(hosts: Hosts) -> None:
    """What the kernel had is gone, and the host's address comes later than the restoring does."""
    paths = Paths.at(hosts.roots[1])
    bridge = paths.link("br", "shop")
    with hosts.fleet.on(1):
        subprocess.run(["ip", "addr", "del", f"{underlay(1)}/24", "dev", "eth0"], check=True)
        subprocess.run(["ip", "link", "del", bridge.replace("br", "vx", 1)], check=True)
        result = hosts.task(1, "network", name="shop")
        assert "mend vxlan" in " ".join(result["actions"])
        subprocess.run(["ip", "addr", "add", f"{underlay(1)}/24", "dev", "eth0"], check=True)
    assert not hosts.task(1, "network", name="shop")["changed"]
    assert hosts.asks(1, "web", "db") == "db"


def test_what_a_boot_brings_back_is_made_once(hosts: Hosts) -> None:
    paths = Paths.at(hosts.roots[2])
    bridge = paths.link("br", "shop")
    vessel = f"{paths.bin}/vessel"
    with hosts.fleet.on(2):
        subprocess.run([vessel, "shutdown"], check=True, timeout=60)
        for link in (bridge, bridge.replace("br", "vx", 1)):
            subprocess.run(["ip", "link", "del", link], check=True)
        done = subprocess.run([vessel, "restore"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    hosts.pids.update({name: hosts.facts(2, name)["pid"] for name in ("db", "cache")})
    assert eventually(lambda: hosts.asks(1, "web", "db") == "db")


def test_a_vni_is_one_networks(hosts: Hosts) -> None:
    failed = hosts.task(1, "network", **OTHER)
    assert failed["msg"].startswith("vni: 4711 is that of the network shop")


def test_a_vni_that_a_link_of_others_has_is_told_of_with_its_name(hosts: Hosts) -> None:
    """Another installation's, or a link that is none of ours; the kernel says File exists and means that one."""
    words = ["type", "vxlan", "id", "4712", "dstport", "4789", "local", underlay(1)]
    with hosts.fleet.on(1):
        subprocess.run(["ip", "link", "add", "theirs", *words], check=True)
    try:
        failed = hosts.task(1, "network", **{**OTHER, "vni": 4712})
        assert failed["msg"] == (
            "vni: 4712 is that of the link theirs of this host, with the same UDP port, 4789; choose another"
        )
        assert [one["name"] for one in hosts.task(1, "network_info")["networks"]] == ["shop"]
    finally:
        with hosts.fleet.on(1):
            subprocess.run(["ip", "link", "del", "theirs"], check=True)


def test_a_local_address_that_no_link_has_is_told(hosts: Hosts) -> None:
    (told,) = hosts.done(1, "network", **{**OTHER, "vni": 9, "allow": [], "local": "192.0.2.99"})["warnings"]
    assert "network other: local: no link of this host has 192.0.2.99, and so the" in str(told)
    assert "warnings" not in hosts.done(1, "network", **{**OTHER, "vni": 9, "allow": [], "local": underlay(1)})
    hosts.done(1, "network", name="other", state="absent")


def test_it_goes_and_leaves_nothing(hosts: Hosts) -> None:
    hosts.done(1, "network", **{**OTHER, "vni": 9, "allow": []})
    hosts.done(1, "network", name="other", state="absent")
    with hosts.fleet.on(1):
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert links.count("vslvx") == 1
