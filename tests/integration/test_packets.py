# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets: who reaches whom, by name, by address and through published ports; judged by fetching a page."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .place import Place

pytestmark = pytest.mark.root

PAGE = ["sh", "-c", "mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www"]
PORT, LOCAL, UDP = 28741, 28742, 28743
STACK = {
    "name": "wires",
    "networks": {
        "one": {"subnet": "10.76.1.0/24", "subnet6": "fd76:1::/64"},
        "two": {"subnet": "10.76.2.0/24"},
        "alone": {"subnet": "10.76.3.0/24", "isolate": True},
        "inner": {"subnet": "10.76.4.0/24", "internal": True},
    },
    "containers": {
        "a": {
            "image": "bb",
            "command": PAGE,
            "networks": [{"name": "one", "ipv4_address": "10.76.1.50", "aliases": ["web", "www"]}],
            "published_ports": [f"{PORT}:80", f"127.0.0.1:{LOCAL}:80"],
        },
        "b": {"image": "bb", "command": PAGE, "networks": [{"name": "one"}, {"name": "two"}]},
        "c": {"image": "bb", "command": PAGE, "networks": [{"name": "two"}]},
        "d": {"image": "bb", "command": PAGE, "networks": [{"name": "alone"}]},
        "e": {"image": "bb", "command": PAGE, "networks": [{"name": "inner"}]},
        "f": {"image": "bb", "command": PAGE, "networks": [{"name": "inner"}]},
        "g": {"image": "bb", "command": PAGE, "network_mode": "none"},
        "joined": {"image": "bb", "network_mode": "container:a", "depends_on": ["a"]},
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(str(tmp_path_factory.mktemp("wires") / "vessel"))
    place.busybox()
    place.task("stack", **STACK)
    again = place.task("stack", **STACK)
    assert not again["changed"], again["actions"]
    yield place
    place.task("stack", name="wires", state="absent")
    place.remove()


@pytest.fixture(scope="module")
def outside(place):
    """Another machine: a namespace behind a link of the host, which routes to all the containers through the host."""
    name, link = f"{place.paths.prefix}-outside", f"vo{place.paths.tag}"
    commands = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name],
        ["ip", "addr", "add", "198.51.100.1/24", "dev", link],
        ["ip", "link", "set", link, "up"],
        ["ip", "-n", name, "addr", "add", "198.51.100.2/24", "dev", "eth0"],
        ["ip", "-n", name, "link", "set", "eth0", "up"],
        ["ip", "-n", name, "route", "add", "10.76.0.0/16", "via", "198.51.100.1"],
    ]
    for command in commands:
        subprocess.run(command, check=True)
    yield ["ip", "netns", "exec", name]
    subprocess.run(["ip", "link", "delete", link], check=True)
    subprocess.run(["ip", "netns", "delete", name], check=True)


def fetch(url: str, prefix: list[str] | None = None) -> str:
    """The page, which is the name of who serves it; empty when nobody answers."""
    command = [*(prefix or []), "curl", "-fsg", "--max-time", "2", url]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def of(place: Place, name: str) -> list[str]:
    """Run what follows in the container's network."""
    return ["nsenter", "-t", str(place.facts(name)["pid"]), "-n"]


def address(place: Place, name: str, network: int = 0, key: str = "ipv4_address") -> str:
    return str(place.facts(name)["networks"][network][key])


def test_neighbours_reach_one_another(place):
    assert fetch(f"http://{address(place, 'b')}/", of(place, "a")) == "b"
    assert fetch("http://10.76.1.50/", of(place, "b")) == "a"
    assert fetch(f"http://{address(place, 'c')}/", of(place, "b")) == "c"


def test_neighbours_reach_one_another_by_ipv6(place):
    found = address(place, "a", key="ipv6_address")
    assert found.startswith("fd76:1:")
    assert fetch(f"http://[{found}]/", of(place, "b")) == "a"


def test_names_of_neighbours_alone_are_known(place):
    hosts = place.sh("b", "cat /etc/hosts")
    lines = {
        name: line.split()[0] for line in hosts.splitlines() for name in line.split()[1:] if ":" not in line.split()[0]
    }
    assert lines["a"] == lines["web"] == lines["www"] == "10.76.1.50"
    assert lines["c"] == address(place, "c")
    assert "d" not in lines
    assert "a" not in place.sh("c", "cat /etc/hosts").split()


def test_published_port_from_this_host(place):
    assert fetch(f"http://127.0.0.1:{PORT}/") == "a"
    assert fetch(f"http://127.0.0.1:{LOCAL}/") == "a"
    assert fetch(f"http://10.76.1.1:{PORT}/") == "a"


def test_port_on_one_address_is_on_that_one_alone(place, outside):
    assert fetch(f"http://198.51.100.1:{LOCAL}/", outside) == ""
    assert fetch(f"http://10.76.1.1:{LOCAL}/") == ""


def test_published_port_from_another_machine(place, outside):
    assert fetch(f"http://198.51.100.1:{PORT}/", outside) == "a"


def test_what_is_not_published_is_not_reached_from_another_machine(place, outside):
    for name in ("a", "b", "c", "d", "e"):
        assert fetch(f"http://{address(place, name)}/", outside) == ""
    assert fetch(f"http://{address(place, 'c')}/", of(place, "b")) == "c"


def test_published_port_from_a_container(place):
    """Out by the host's address and back in: its own, a neighbour's, and one of another network (hairpin)."""
    for name in ("a", "b", "c"):
        assert fetch(f"http://10.76.1.1:{PORT}/", of(place, name)) == "a"


def test_containers_go_out_by_the_hosts_address(place, outside, tmp_path):
    (tmp_path / "index.html").write_text("the world")
    serve = ["python3", "-u", "-m", "http.server", "-d", str(tmp_path), "-b", "198.51.100.2", "8000"]
    server = subprocess.Popen([*outside, *serve], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        subprocess.run(["curl", "-fs", "--retry", "20", "--retry-connrefused", "http://198.51.100.2:8000/"], check=True)
        assert fetch("http://198.51.100.2:8000/", of(place, "c")) == "the world"
        assert fetch("http://198.51.100.2:8000/", of(place, "e")) == ""
    finally:
        server.terminate()
        seen = server.communicate(timeout=10)[1]
    assert address(place, "c") not in seen
    assert "198.51.100.1" in seen


def test_isolated_network(place):
    assert fetch(f"http://{address(place, 'd')}/", of(place, "a")) == ""
    assert fetch("http://10.76.1.50/", of(place, "d")) == ""
    assert fetch(f"http://{address(place, 'c')}/", of(place, "a")) == "c"


def test_internal_network(place):
    assert fetch(f"http://{address(place, 'f')}/", of(place, "e")) == "f"
    assert fetch("http://10.76.1.50/", of(place, "e")) == ""
    assert "default" not in place.sh("e", "ip route")


def test_no_network_is_loopback_alone(place):
    assert place.sh("g", "ls /sys/class/net") == "lo"
    assert fetch("http://127.0.0.1/", of(place, "g")) == "g"


def test_joined_network_is_the_same(place):
    mine, theirs = (place.facts(name)["pid"] for name in ("joined", "a"))
    assert Path(f"/proc/{mine}/ns/net").stat().st_ino == Path(f"/proc/{theirs}/ns/net").stat().st_ino


def test_ports_change_without_a_restart(place):
    before = place.process("a")
    place.task("container", name="a", published_ports=[f"127.0.0.1:{LOCAL}:80"])
    assert fetch(f"http://127.0.0.1:{PORT}/") == ""
    place.task("container", name="a", published_ports=[f"{PORT}:80", f"127.0.0.1:{LOCAL}:80"])
    assert fetch(f"http://127.0.0.1:{PORT}/") == "a"
    assert place.process("a") == before


def test_free_host_port_is_chosen_and_kept(place):
    place.task("container", name="b", published_ports=["80"])
    chosen = place.facts("b")["published_ports"]
    port = chosen[0].split(":")[1]
    assert fetch(f"http://127.0.0.1:{port}/") == "b"
    assert not place.task("container", name="b", published_ports=["80"])["changed"]
    place.task("container", name="b", restart=True)
    assert place.facts("b")["published_ports"] == chosen
    place.task("container", name="b", published_ports=[])


def test_subnet_changes_under_running_containers(place):
    before = {name: place.process(name) for name in ("b", "c")}
    place.task("network", name="two", subnet="10.76.9.0/24")
    assert address(place, "c").startswith("10.76.9.")
    assert fetch(f"http://{address(place, 'c')}/", of(place, "b")) == "c"
    assert not place.task("network", name="two", subnet="10.76.9.0/24", check=True)["changed"]
    assert {name: place.process(name) for name in before} == before
    assert address(place, "c") in place.sh("b", "cat /etc/hosts")


def test_a_stopped_container_has_no_port(place):
    place.task("container", name="a", state="stopped")
    rules = subprocess.run(
        ["nft", "list", "table", "inet", place.paths.nft_table], capture_output=True, text=True, check=True
    )
    assert str(PORT) not in rules.stdout
    place.task("container", name="a", state="started")
    assert fetch(f"http://127.0.0.1:{PORT}/") == "a"


def test_networks_of_a_stopped_container_change_too(place):
    place.task("container", name="c", state="stopped")
    place.task("container", name="c", state="stopped", networks=[{"name": "one"}])
    assert not place.task("container", name="c", state="stopped", networks=[{"name": "one"}])["changed"]
    place.task("container", name="c", state="started")
    assert place.sh("c", "ls /sys/class/net | grep -c eth") == "1"
    assert fetch(f"http://{address(place, 'c')}/", of(place, "b")) == "c"
