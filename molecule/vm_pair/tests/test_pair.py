# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network of containers across two machines, asked from its containers; also after one has lost its power."""

from __future__ import annotations

import json
import os

import pytest
import testinfra

SIZE = 4 << 20
WEB6, DB6 = "fd00:90::a5a:10a", "fd00:90::a5a:20a"


def machine(end):
    name = f"{os.environ['VESSEL_VM_NAME']}-{end}"
    return testinfra.get_host(f"ssh://{name}", ssh_config=f"{os.environ['VESSEL_VM_MACHINES']}/{name}/ssh_config")


@pytest.fixture(scope="module")
def alpha():
    return machine("alpha")


@pytest.fixture(scope="module")
def beta():
    return machine("beta")


def inside(machine, container, words):
    """What a command in the container says; it must succeed."""
    done = machine.run(f"vessel exec {container} {words}")
    assert done.rc == 0, done
    return done.stdout.strip()


def test_each_has_its_part(alpha, beta):
    for machine, names in ((alpha, ["stranger", "web"]), (beta, ["db"])):
        found = json.loads(machine.check_output("vessel ps --json"))
        assert {one["name"]: one["status"] for one in found} == dict.fromkeys(names, "running")
        assert machine.check_output("systemctl is-system-running") == "running"


def test_names_and_packets_go_both_ways(alpha, beta):
    assert inside(alpha, "web", "timeout 30 wget -q -O - http://db/") == "db"
    assert inside(beta, "db", "timeout 30 wget -q -O - http://web/") == "web"


def test_ipv6_both_ways(alpha, beta):
    assert inside(alpha, "web", f"timeout 30 wget -q -O - http://[{DB6}]/") == "db"
    assert inside(beta, "db", f"timeout 30 wget -q -O - http://[{WEB6}]/") == "web"


def test_packets_as_large_as_the_network_says(alpha, beta):
    """The wire's 1500 less VXLAN's 50, less the headers of IP and ICMP; a byte more is no packet of this network."""
    for machine, container in ((alpha, "web"), (beta, "db")):
        assert " mtu 1450 " in inside(machine, container, "ip link show eth0")
    assert "1 packets received" in inside(alpha, "web", f"ping -c 1 -w 30 -s {1450 - 28} db")
    assert "1 packets received" in inside(alpha, "web", f"ping -6 -c 1 -w 30 -s {1450 - 48} {DB6}")
    sent = json.loads(alpha.check_output("ip -json -statistics link show eth1"))[0]
    assert sent["mtu"] == 1500
    assert sent["stats64"]["tx"]["dropped"] == sent["stats64"]["tx"]["errors"] == 0


@pytest.mark.parametrize("url", ["http://db/big", f"http://[{DB6}]/big"])
def test_many_packets_arrive_as_they_were_sent(alpha, beta, url):
    there = inside(beta, "db", "md5sum /www/big").split()[0]
    assert inside(alpha, "web", f"sh -c 'timeout 120 wget -q -O - {url} | md5sum'").split()[0] == there
    assert inside(beta, "db", "sh -c 'wc -c </www/big'") == str(SIZE)


@pytest.mark.parametrize(
    ("end", "who", "url"),
    [
        ("alpha", "web", "http://db:81/"),  # another port
        ("alpha", "stranger", "http://db/"),  # another one of the same host
        ("alpha", "stranger", f"http://[{DB6}]/"),
        ("beta", "db", "http://web:81/"),
        ("beta", "db", "http://stranger/"),
    ],
)
def test_what_is_not_allowed_does_not_pass(request, end, who, url):
    """It is dropped: there is neither an answer nor a refusal, until one waits no longer."""
    done = request.getfixturevalue(end).run(f"vessel exec {who} timeout 5 wget -q -O - {url}")
    assert (done.rc, done.stdout) == (143, ""), done


def test_what_does_not_pass_is_there(alpha, beta):
    """Else nothing was refused."""
    assert inside(beta, "db", "timeout 30 wget -q -O - http://localhost:81/") == "db"
    assert inside(alpha, "stranger", "timeout 30 wget -q -O - http://localhost/") == "stranger"
