# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our nftables table: what is asked for is what is read back, and what others do to it is seen."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from ansible_collections.vessel.host.plugins.module_utils._errors import VesselError
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._network import nft_compare, nft_replace, nftables
from ansible_collections.vessel.host.plugins.module_utils._network.model import Network, Port
from ansible_collections.vessel.host.plugins.module_utils._network.nftables import Target

from .network_world import eventually

pytestmark = pytest.mark.root
TABLE = "vessels"
NETWORKS = [
    Network("one", "br-one", subnet="10.61.0.0/24", gateway="10.61.0.1", subnet6="fd00:61::/64", gateway6="fd00:61::1"),
    Network("two", "br-two", subnet="10.62.0.0/24", gateway="10.62.0.1", internal=True),
    Network("three", "br-three", subnet="10.63.0.0/24", gateway="10.63.0.1", isolate=True),
]
TARGETS = [
    Target(Port("0.0.0.0", 8080, 80), "10.61.0.2"),
    Target(Port("0.0.0.0", 8080, 80), "fd00:61::2"),
    Target(Port("127.0.0.1", 53, 53, "udp"), "10.61.0.3"),
    Target(Port("2001:db8::1", 443, 8443, "sctp"), "fd00:61::4"),
]


@pytest.fixture
def alone():
    """A network namespace for the test's thread, with our table in it."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    namespaces.unshare(namespaces.CLONE_NEWNET)
    try:
        put()
        yield
    finally:
        namespaces.setns(home, namespaces.CLONE_NEWNET)
        os.close(home)


def nft(*words):
    subprocess.run(["nft", *words], check=True)


def put(targets=None, networks=None, owner=""):
    wanted = nftables.render(TABLE, networks or NETWORKS, TARGETS if targets is None else targets, owner=owner)
    nftables.apply(nft_replace.replacement(wanted, nftables.read(TABLE)))


def names(networks=None, targets=None):
    commands = nftables.render(TABLE, networks or NETWORKS, TARGETS if targets is None else targets)
    return [found.what for found in nft_compare.differences(commands, nftables.read(TABLE))]


def test_what_is_read_is_what_was_asked_for(alone):
    assert names() == []
    first = nftables.digest(nftables.read(TABLE))
    put()
    assert nftables.digest(nftables.read(TABLE)) == first
    assert names(targets=TARGETS[::-1]) == []


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("flush table inet vessels", "rules of forward"),
        ("delete table inet vessels", "table"),
        ("flush chain inet vessels postrouting", "rules of postrouting"),
        ("add rule inet vessels forward counter accept", "rules of forward"),
        ("insert rule inet vessels forward ip saddr 10.0.0.1 drop", "rules of forward"),
        ("add chain inet vessels foreign", "chain foreign"),
        ("delete element inet vessels ip_any_port { tcp . 8080 }", "port 8080/tcp"),
        ("add element inet vessels ip_any_address { tcp . 9999 : 10.9.9.9 }", "port 9999/tcp"),
        ("delete element inet vessels ip6_one_address { 2001:db8::1 . sctp . 443 }", "port 443/sctp on 2001:db8::1"),
        ("delete element inet vessels bridges { br-two }", "set bridges"),
        ("flush table inet vessels; delete map inet vessels ip_any_port; add map inet vessels ip_any_port"
         " { type inet_proto . inet_service : inet_service; flags interval; elements = { tcp . 1-9 : 1 }; }",
         "map ip_any_port"),
        ("flush table inet vessels; delete map inet vessels ip_any_port; add map inet vessels ip_any_port"
         " { type inet_proto . inet_service : ipv4_addr . inet_service; elements = { tcp . 1 : 1.2.3.4 . 1 }; }",
         "map ip_any_port"),
        ("flush table inet vessels; delete map inet vessels ip_any_port; add map inet vessels ip_any_port"
         " { type ipv4_addr . ipv4_addr : ipv4_addr; elements = { 1.2.3.4 . 1.2.3.4 : 1.2.3.4 }; }",
         "map ip_any_port"),
    ],
)  # fmt: skip
def test_what_others_change_is_seen_and_replaced(alone, command, named):
    nft(*command.split())
    assert named in names()
    put()
    assert names() == []


def handles():
    """What the kernel calls the table, and chains and maps in it, for as long as they are the same ones."""
    text = subprocess.run(["nft", "-a", "-j", "list", "table", "inet", TABLE], capture_output=True, check=True).stdout
    objects = [pair for item in json.loads(text)["nftables"] for pair in item.items()]
    return {body["name"]: body["handle"] for kind, body in objects if kind in ("table", "chain", "map", "set")}


def test_what_stays_is_not_made_anew(alone):
    """A chain that is would refuse connections for a moment."""
    before = handles()
    put(TARGETS[1:], NETWORKS[:1])
    assert names(NETWORKS[:1], TARGETS[1:]) == []
    assert handles() == before
    assert len(before) == 15


@pytest.mark.parametrize(
    ("commands", "other"),
    [
        ("flush chain inet vessels input; delete chain inet vessels input;"
         " add chain inet vessels input { type filter hook input priority 5; policy drop; }", "input"),
        ("flush table inet vessels; delete map inet vessels ip_any_port;"
         " add map inet vessels ip_any_port { type inet_proto : inet_service; }", "ip_any_port"),
        ("flush table inet vessels; delete set inet vessels bridges;"
         " add set inet vessels bridges { type ifname; timeout 1s; }", "bridges"),
        ("flush table inet vessels; delete set inet vessels bridges;"
         " add set inet vessels bridges { type ifname; flags interval; auto-merge; }", "bridges"),
        ("flush table inet vessels; delete set inet vessels bridges;"
         " add set inet vessels bridges { type ifname; size 3; limit rate 1/second; }", "bridges"),
        ("add chain inet vessels foreign; add map inet vessels jumps { type ifname : verdict; };"
         " add element inet vessels jumps { lo : jump foreign }; add rule inet vessels input iifname vmap @jumps", ""),
        ("add counter inet vessels foreign", TABLE),
    ],
    ids=["chain", "map", "forgets", "intervals", "limited", "foreign", "foreign kind"],
)  # fmt: skip
def test_what_is_something_else_is_made_anew(alone, commands, other):
    before = handles()
    nft(commands)
    put()
    assert names() == []
    after = handles()
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} == {other} - {""}
    assert not any("counter" in item for item in nftables.read(TABLE))


def test_a_table_that_sleeps_is_woken(alone):
    """nft 1.0.6 tells rubbish of one in JSON, of this one a text that ends before its end."""
    nft("add table inet vessels { flags dormant; }")
    assert TABLE in nftables.tables()
    put()
    assert names() == []
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    assert "dormant" not in listed


def test_a_table_that_a_process_owns_is_told_as_such(alone):
    nft("delete", "table", "inet", TABLE)
    with subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as owner:
        owner.stdin.write(f"add table inet {TABLE} {{ flags owner; }}\n")
        owner.stdin.flush()
        assert eventually(lambda: TABLE in nftables.tables())
        with pytest.raises(VesselError, match=r"Operation not permitted \(a table with the flag owner"):
            put()
        owner.stdin.close()
    put()
    assert names() == []


def test_a_changed_declaration_is_named_by_what_it_changes(alone):
    assert names(targets=TARGETS[1:]) == ["port 8080/tcp"]
    (found,) = nft_compare.differences(nftables.render(TABLE, NETWORKS, TARGETS[1:]), nftables.read(TABLE))
    assert (found.before, found.after) == ("10.61.0.2:80", "missing")
    moved = [Target(Port("0.0.0.0", 8080, 81), "10.61.0.9"), *TARGETS[1:]]
    (found,) = nft_compare.differences(nftables.render(TABLE, NETWORKS, moved), nftables.read(TABLE))
    assert (found.before, found.after) == ("10.61.0.2:80", "10.61.0.9:81")
    assert "rules of forward" in names(networks=NETWORKS[:1])


def test_rules_are_told_in_nft_s_words(alone):
    nft("add", "rule", "inet", "vessels", "forward", "ip", "saddr", "10.0.0.1", "tcp", "dport", "81", "counter", "drop")
    (found,) = nft_compare.differences(nftables.render(TABLE, NETWORKS, TARGETS), nftables.read(TABLE))
    assert found.what == "rules of forward"
    assert found.after == []
    (rule,) = found.before
    assert rule.startswith("ip saddr 10.0.0.1 tcp dport 81 ")
    assert rule.endswith(" drop")
    (found,) = nft_compare.differences(nftables.render(TABLE, NETWORKS[:2], TARGETS), nftables.read(TABLE))[-1:]
    assert found.what == "set bridges"
    assert found.before == ["br-three"]


def test_what_is_published_is_read_back_with_whose_it_is(alone):
    put(owner="the installation at /" + "x" * 200)
    read = nftables.read(TABLE)
    found = {(*target.port.key, target.port.container_port, target.address) for target in nft_compare.targets(read)}
    assert found == {(*target.port.key, target.port.container_port, target.address) for target in TARGETS}
    assert nft_compare.owner(read).startswith("the installation at /xxx")
    assert TABLE in nftables.tables()


def test_rules_do_not_grow_with_containers(alone):
    many = [Target(Port("0.0.0.0", 10000 + n, 80), f"10.61.{n // 250}.{2 + n % 250}") for n in range(1000)]
    put(many)
    read = nftables.read(TABLE)
    assert names(targets=many) == []
    assert sum("rule" in item for item in read) < 40


def test_foreign_tables_are_not_touched(alone):
    nft("add", "table", "inet", "foreign")
    nft("add", "chain", "inet", "foreign", "mine", "{ type filter hook forward priority 0; policy drop; }")
    put()
    nftables.delete(TABLE)
    nftables.delete(TABLE)
    assert nftables.read(TABLE) == []
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    assert "policy drop" in listed
    assert "table inet vessels" not in listed


def test_all_or_nothing_and_the_error_is_nfts_own(alone):
    before = nftables.digest(nftables.read(TABLE))
    with pytest.raises(VesselError, match=r"^nft -j -f -: Could not process rule: File exists"):
        put([*TARGETS, Target(Port("0.0.0.0", 8080, 81), "10.61.0.9")])
    assert nftables.digest(nftables.read(TABLE)) == before
