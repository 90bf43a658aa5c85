# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who of a network may talk to whom: tables of what passes, on one host and across two, and who tries to get around."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest
from ansible_collections.vessel.host.plugins.module_utils._kernel import namespaces
from ansible_collections.vessel.host.plugins.module_utils._network import nftables, policy

from .fleet_world import TABLE, Fleet, Flow
from .network_world import eventually

pytestmark = pytest.mark.root
NET = "shop"
ALLOW = [
    {"from": {"role": "web"}, "to": "db", "ports": [5432]},
    {"from": {"role": "web"}, "to": {"role": "cache"}, "ports": ["6379-6380"], "protocol": "udp"},
    {"to": "web1", "ports": [80]},
    {"from": ["db", "10.71.2.0/24", "fd00:71::a47:200/120"], "to": "web1", "protocol": "icmp"},
    {"from": "all", "to": "sink"},
]
# name: (host, labels)
CONTAINERS = {
    "web1": (1, {"role": "web"}),
    "db": (1, {"role": "db"}),
    "odd": (1, {"role": "odd"}),
    "all": (1, {}),
    "web2": (2, {"role": "web"}),
    "cache": (2, {"role": "cache", "tier": "back"}),
    "sink": (2, {}),
}
OPEN = {
    *((web, "db", "tcp", 5432) for web in ("web1", "web2")),
    *((web, "cache", "udp", port) for web in ("web1", "web2") for port in (6379, 6380)),
    *((name, "web1", "tcp", 80) for name in CONTAINERS),
    *(("all", "sink", protocol, port) for protocol, port in (("tcp", 80), ("tcp", 5432), ("udp", 6379), ("udp", 6380))),
    *(("all", "sink", protocol, 81) for protocol in ("tcp", "udp")),
}
PINGS = {("db", "web1"), ("web2", "web1"), ("cache", "web1"), ("sink", "web1"), ("all", "sink")}
PORTS = (("tcp", 80), ("tcp", 81), ("tcp", 5432), ("udp", 81), ("udp", 6379), ("udp", 6380))
PATIENCE = 0.15


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    fleet = Fleet(2)
    try:
        for host in (1, 2):
            fleet.declare(host, NET, 71)
        for name, (host, labels) in CONTAINERS.items():
            fleet.container(name, host, NET, **labels)
            for protocol, port in PORTS:
                for family in (4, 6):
                    fleet.serve(name, name, port, protocol, fleet.address(name, family))
        for host in (1, 2):
            names = {
                name: {"addresses": [fleet.address(name), fleet.address(name, 6)], "labels": labels}
                for name, (dummy, labels) in CONTAINERS.items()
            }
            fleet.change(host, NET, names=names)
        settle(fleet)
        yield fleet
    finally:
        fleet.close()


@pytest.fixture(autouse=True)
def the_same_again(fleet: Fleet) -> Iterator[None]:
    for host in (1, 2):
        fleet.change(host, NET, allow=ALLOW)
    yield
    assert [fleet.drift(host, NET) for host in (1, 2)] == [[], []]


def settle(fleet: Fleet) -> None:
    """Everybody knows everybody's MAC, so that what is told apart by patience is the policy's."""
    asked = [(*pair, "udp", 81) for pair in itertools.permutations(CONTAINERS, 2)]
    for family in (4, 6):
        assert fleet.reached(asked, family, 5.0) == set(asked)


def passes(fleet: Fleet, source: str, target: str, protocol: str, port: int, family: int) -> bool:
    return bool(fleet.fetch(source, fleet.address(target, family), port, protocol, patience=PATIENCE))


@pytest.mark.parametrize("family", [4, 6])
def test_who_reaches_whom(fleet: Fleet, family: int) -> None:
    """Each pair of containers, each port: what is allowed and nothing else."""
    pairs = list(itertools.permutations(CONTAINERS, 2))
    asked = [(*pair, protocol, port) for pair in pairs for protocol, port in PORTS]
    assert fleet.reached(asked, family, 1.0) == {entry for entry in OPEN if entry[0] != entry[1]}
    echoes = {
        (source, target)
        for source, target in pairs
        if fleet.echo(source, fleet.address(target, family), patience=PATIENCE)
    }
    assert echoes == PINGS


@pytest.mark.parametrize("family", [4, 6])
def test_the_gateway_is_open_and_the_host_reaches_all(fleet: Fleet, family: int) -> None:
    network = fleet.networks[1, NET]
    assert fleet.echo("odd", network.gateway if family == 4 else network.gateway6)
    assert fleet.fetch("h1", fleet.address("db", family), 5432)


def test_nothing_is_allowed_when_nothing_is(fleet: Fleet) -> None:
    for host in (1, 2):
        fleet.change(host, NET, allow=[])
    assert not passes(fleet, "web1", "db", "tcp", 5432, 4)
    assert not passes(fleet, "all", "sink", "udp", 81, 6)
    assert not fleet.echo("db", fleet.address("web1"), patience=PATIENCE)


def test_all_is_allowed_by_an_entry_that_says_nothing_and_by_no_policy(fleet: Fleet) -> None:
    for allow in ([{}], None):
        for host in (1, 2):
            fleet.change(host, NET, allow=allow)
        for family in (4, 6):
            assert passes(fleet, "odd", "db", "tcp", 81, family)
            assert passes(fleet, "odd", "cache", "udp", 81, family)
            assert fleet.echo("odd", fleet.address("db", family))
    assert "bridge" not in fleet.nft(1, "list", "tables")


def test_the_second_time_nothing_is_written(fleet: Fleet) -> None:
    first = nftables.digest(fleet.read(1))
    fleet.mend(1, NET)
    assert nftables.digest(fleet.read(1)) == first


def test_labels_all_of_which_must_be_there(fleet: Fleet) -> None:
    for labels, seen in (({"role": "cache", "tier": "back"}, True), ({"role": "cache", "tier": "front"}, False)):
        fleet.change(2, NET, allow=[{"to": labels, "ports": [81]}])
        assert passes(fleet, "odd", "cache", "tcp", 81, 4) is seen


def test_an_address_without_a_name(fleet: Fleet) -> None:
    fleet.change(2, NET, allow=[{"from": fleet.address("odd"), "to": "cache", "ports": [81]}])
    assert passes(fleet, "odd", "cache", "tcp", 81, 4)
    assert not passes(fleet, "odd", "cache", "tcp", 81, 6)
    assert not passes(fleet, "db", "cache", "tcp", 81, 4)


# changed while flows go on


def test_a_changed_rule_cuts_and_opens_at_once_and_others_lose_nothing(fleet: Fleet) -> None:
    allow = [*ALLOW, {"from": "web1", "to": ["db", "cache"], "ports": [7777], "protocol": "udp"}]
    for host in (1, 2):
        fleet.change(host, NET, allow=allow)
    with Flow(fleet, "web1", "db") as near, Flow(fleet, "web1", "cache", 6) as far:
        for number in range(5):
            for host in (1, 2):
                more = {"from": "odd", "to": "db", "ports": [81]}
                fleet.change(host, NET, allow=[*([more] if number % 2 == 0 else []), *allow])
            assert passes(fleet, "odd", "db", "tcp", 81, 4) is (number % 2 == 0)
    assert (near.lost(), far.lost()) == ([], [])
    assert near.sent > 100


def test_a_connection_is_cut_with_its_rule(fleet: Fleet) -> None:
    with namespaces.inside(fleet.path("db")):
        server = socket.create_server((fleet.address("db"), 5433))
    with namespaces.inside(fleet.path("web1")):
        client = socket.socket()
    client.settimeout(1.0)
    fleet.change(1, NET, allow=[{"from": "web1", "to": "db", "ports": [5433]}])
    with server, client:
        client.connect((fleet.address("db"), 5433))
        connection, dummy = server.accept()
        with connection:
            connection.settimeout(0.5)
            for sender, receiver in ((client, connection), (connection, client)):
                sender.send(b"!")
                assert receiver.recv(1) == b"!"
            fleet.change(1, NET, allow=[])
            client.send(b"?")
            with pytest.raises(TimeoutError):
                connection.recv(1)
            fleet.change(1, NET, allow=[{"from": "web1", "to": "db", "ports": [5433]}])
            assert connection.recv(1) == b"?"  # sent once more by TCP


def test_an_answer_to_a_datagram_outlives_a_change(fleet: Fleet) -> None:
    """Asked before, answered after: on one host, and from another."""
    for target, host in (("db", 1), ("cache", 2)):
        allow = [{"from": "web1", "to": target, "ports": [5353], "protocol": "udp"}]
        for each in (1, 2):
            fleet.change(each, NET, allow=allow)
        with namespaces.inside(fleet.path(target)):
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with namespaces.inside(fleet.path("web1")):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with server, client:
            server.bind((fleet.address(target), 5353))
            server.settimeout(1.0)
            client.settimeout(1.0)
            client.sendto(b"?", (fleet.address(target), 5353))
            peer = server.recvfrom(1)[1]
            for each in (1, 2):
                fleet.change(each, NET, allow=[*allow, {"to": "odd"}])
            server.sendto(b"!", peer)
            assert client.recv(1) == b"!", host


# who tries to get around


def test_an_answer_to_nothing_does_not_pass(fleet: Fleet) -> None:
    """From the port that is open to it, the server asks its client: not by a datagram, not by a connection."""
    for kind, port, server, protocol in (
        (socket.SOCK_DGRAM, 6379, "cache", "udp"),
        (socket.SOCK_STREAM, 5432, "db", "tcp"),
    ):
        target = "web2"
        with namespaces.inside(fleet.path(server)):
            sock = socket.socket(socket.AF_INET, kind)
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.settimeout(PATIENCE)
            sock.bind((fleet.address(server), port + 10))
            for host in (1, 2):
                allow = [{"from": target, "to": server, "ports": [port + 10], "protocol": protocol}]
                fleet.change(host, NET, allow=allow)
            assert sock.connect_ex((fleet.address(target), 81)) == (0 if protocol == "udp" else errno.EAGAIN)
            if protocol == "udp":
                sock.send(b"?")
                with pytest.raises(TimeoutError):
                    sock.recv(1)


def frames(fleet: Fleet, name: str) -> socket.socket:
    with namespaces.inside(fleet.path(name)):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind(("eth0", 3))
    sock.settimeout(0.5)
    return sock


def mac(fleet: Fleet, name: str) -> bytes:
    return bytes.fromhex(fleet.wires[name][1].endpoint.mac.replace(":", ""))


def datagram(source: str, target: str, port: int, payload: bytes = b"?") -> bytes:
    udp = struct.pack("!HHHH", 9, port, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                       socket.inet_aton(source), socket.inet_aton(target))  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def heard(fleet: Fleet, target: str, frame: bytes, sender: str, marker: bytes) -> bool:
    """Does the target's link get what the sender's sends?"""
    with frames(fleet, target) as ear, frames(fleet, sender) as mouth:
        mouth.send(frame)
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            try:
                if marker in ear.recv(2000):
                    return True
            except TimeoutError:
                return False
    return False


def all_heard(ear: socket.socket) -> Iterator[bytes]:
    """Until it is quiet."""
    with contextlib.suppress(TimeoutError):
        while True:
            yield ear.recv(2000)


def test_who_forges_is_not_heard(fleet: Fleet) -> None:
    """odd may not ask db anything; web1 may ask cache."""
    own, victim, port = fleet.address("odd"), fleet.address("web1"), 6379
    target, to = fleet.address("cache"), mac(fleet, "cache")

    def sent(sender: str, source_mac: bytes, source: str) -> bool:
        marker = f"from {sender} as {source} {source_mac.hex()}".encode()
        frame = to + source_mac + b"\x08\x00" + datagram(source, target, port, marker)
        return heard(fleet, "cache", frame, sender, marker)

    assert sent("web1", mac(fleet, "web1"), victim)  # the frame is right
    assert not sent("odd", mac(fleet, "odd"), own)
    assert not sent("odd", mac(fleet, "odd"), victim)
    assert not sent("odd", mac(fleet, "web1"), victim)
    assert not sent("web1", mac(fleet, "odd"), victim)


def test_who_takes_anothers_address_gets_nowhere(fleet: Fleet) -> None:
    """Its own stack, its own link: with the capability it can have any address, and any MAC."""
    address = fleet.address("web1")
    fleet.ip("addr", "add", f"{address}/16", "dev", "eth0", where="odd")
    try:
        with namespaces.inside(fleet.path("odd")):
            sock = socket.socket()
        with sock:
            sock.settimeout(PATIENCE)
            sock.bind((address, 0))
            with pytest.raises(OSError, match="timed out"):
                sock.connect((fleet.address("db"), 5432))
        assert passes(fleet, "web1", "db", "tcp", 5432, 4)  # and who has it keeps it
    finally:
        fleet.ip("addr", "del", f"{address}/16", "dev", "eth0", where="odd")
    before = fleet.wires["odd"][1].endpoint.mac
    fleet.ip("link", "set", "eth0", "address", fleet.wires["web1"][1].endpoint.mac, where="odd")
    try:
        assert not passes(fleet, "odd", "web1", "tcp", 80, 4)
    finally:
        fleet.ip("link", "set", "eth0", "address", before, where="odd")
    assert passes(fleet, "odd", "web1", "tcp", 80, 4)


def test_arp_is_answered_for_ones_own_address_alone(fleet: Fleet) -> None:
    own, other = socket.inet_aton(fleet.address("odd")), socket.inet_aton(fleet.address("web1"))
    asked = socket.inet_aton(fleet.address("db"))

    def sent(source: bytes, claimed: bytes, ip: bytes) -> bool:
        arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 2, claimed, ip, mac(fleet, "db"), asked)
        frame = mac(fleet, "db") + source + b"\x08\x06" + arp
        return heard(fleet, "db", frame, "odd", arp)

    me, web = mac(fleet, "odd"), mac(fleet, "web1")
    assert sent(me, me, own)
    assert not sent(me, me, other)
    assert not sent(me, web, own)
    assert not sent(web, me, own)


def test_who_claims_anothers_address_gets_nothing_that_is_for_it(fleet: Fleet) -> None:
    """A neighbour's advertisement comes from one's own address and may name any; so db believes that web1 is at odd."""
    target, own, asked = (socket.inet_pton(socket.AF_INET6, fleet.address(n, 6)) for n in ("web1", "odd", "db"))
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + target + b"\x02\x01" + mac(fleet, "odd")
    body = body[:2] + struct.pack("!H", checksum(own + asked + struct.pack("!II", len(body), 58) + body)) + body[4:]
    packet = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + own + asked + body
    assert passes(fleet, "db", "web1", "tcp", 80, 6)
    with frames(fleet, "odd") as odd:
        odd.send(mac(fleet, "db") + mac(fleet, "odd") + b"\x86\xdd" + packet)
        known = fleet.ip("-6", "neigh", "show", fleet.address("web1", 6), where="db")
        assert fleet.wires["odd"][1].endpoint.mac in known
        assert not passes(fleet, "db", "web1", "tcp", 80, 6)
        assert target not in b"".join(all_heard(odd))
    fleet.ip("neigh", "flush", "dev", "eth0", where="db")
    assert eventually(lambda: passes(fleet, "db", "web1", "tcp", 80, 6))


@pytest.mark.parametrize("family", [4, 6])
def test_the_host_routes_nothing_back(fleet: Fleet, family: int) -> None:
    """By the gateway's MAC a packet would be routed into the network again, past the receiver's rules; so would one
    of another host."""
    network = fleet.networks[1, NET]
    gateway = network.gateway if family == 4 else network.gateway6
    words = ("-6",) if family == 6 else ()
    for sender, target in (("odd", "db"), ("sink", "db")):
        address = fleet.address(target, family)
        length = 32 if family == 4 else 128
        fleet.ip(*words, "route", "add", f"{address}/{length}", "via", gateway, where=sender)
        try:
            assert not passes(fleet, sender, target, "tcp", 5432, family)
            assert not passes(fleet, sender, target, "udp", 81, family)
        finally:
            fleet.ip(*words, "route", "del", f"{address}/{length}", where=sender)


def test_other_protocols_and_broadcasts_do_not_pass(fleet: Fleet) -> None:
    marker = b"marked" * 9
    own = mac(fleet, "all")
    other = own + b"\x88\xb5" + marker  # a local experiment's ethertype
    assert not heard(fleet, "sink", mac(fleet, "sink") + other, "all", marker)
    broadcast = datagram(fleet.address("all"), "10.71.255.255", 81, marker)
    assert not heard(fleet, "db", b"\xff" * 6 + own + b"\x08\x00" + broadcast, "all", marker)


def test_a_router_advertisement_reaches_nobody(fleet: Fleet) -> None:
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"advertised"
    source = socket.inet_pton(socket.AF_INET6, fleet.address("odd", 6))
    target = socket.inet_pton(socket.AF_INET6, "ff02::1")
    packet = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + target + body
    frame = bytes.fromhex("333300000001") + mac(fleet, "odd") + b"\x86\xdd" + packet
    assert not heard(fleet, "db", frame, "odd", b"advertised")


def test_a_large_datagram_comes_in_pieces(fleet: Fleet) -> None:
    for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        with namespaces.inside(fleet.path("web1")):
            sock = socket.socket(kind, socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(1.0)
            sock.connect((fleet.address("cache", family), 6379))
            sock.send(bytes(5000))
            assert sock.recv(100).startswith(b"cache")


DRIFTS = {
    "flush chain bridge fleet br-shop": "rules of br-shop",
    "delete table bridge fleet": "set senders",
    "delete element bridge fleet receivers { ve-db }": "map receivers",
    "insert rule bridge fleet to accept": "rules of to",
    "add chain bridge fleet foreign": "chain foreign",
    "flush set bridge fleet who_ip": "set who_ip",
}


@pytest.mark.parametrize("command", DRIFTS)
def test_what_others_change_is_seen_and_replaced(fleet: Fleet, command: str) -> None:
    fleet.nft(1, *command.split())
    assert DRIFTS[command] in fleet.drift(1, NET)
    fleet.firewall(1)
    assert fleet.drift(1, NET) == []
    assert not passes(fleet, "odd", "db", "tcp", 5432, 4)
    assert passes(fleet, "web1", "db", "tcp", 5432, 4)


def test_rules_do_not_grow_with_containers(fleet: Fleet) -> None:
    few = sum("rule" in item for item in policy.render(TABLE, [fleet.networks[1, NET]], []))
    members = [
        policy.Member(NET, f"ve{n}", f"02:42:00:00:{n >> 8:02x}:{n & 255:02x}", (f"10.71.{n >> 8}.{n & 255}",), (), {})
        for n in range(1000)
    ]
    commands = policy.render(TABLE, [fleet.networks[1, NET]], members)
    assert sum("rule" in item for item in commands) == few
    with fleet.on(2):
        started = time.monotonic()
        nftables.apply(policy.render("thousand", [fleet.networks[1, NET]], members))
        read = nftables.read("thousand", policy.FAMILY)
        taken = time.monotonic() - started
        nftables.delete("thousand", policy.FAMILY)
    assert sum(len(item["set"].get("elem", ())) for item in read if "set" in item) > 3000
    assert taken < 5.0


def test_without_the_helper_modules(fleet: Fleet) -> None:
    """br_netfilter leads bridged packets through the rules of routed ones; the policy is the same where it does not."""
    keys = ("iptables", "ip6tables", "arptables")
    with fleet.on(1):
        for key in keys:
            with open(f"/proc/sys/net/bridge/bridge-nf-call-{key}", "w") as file:
                file.write("0")
    try:
        for family in (4, 6):
            assert passes(fleet, "web1", "db", "tcp", 5432, family)
            assert passes(fleet, "web1", "cache", "udp", 6379, family)
            assert not passes(fleet, "odd", "db", "tcp", 5432, family)
            assert not passes(fleet, "odd", "db", "udp", 81, family)
            assert not fleet.echo("odd", fleet.address("db", family), patience=PATIENCE)
        test_the_host_routes_nothing_back(fleet, 4)
        test_a_large_datagram_comes_in_pieces(fleet)
        test_who_forges_is_not_heard(fleet)
    finally:
        with fleet.on(1):
            for key in keys:
                with open(f"/proc/sys/net/bridge/bridge-nf-call-{key}", "w") as file:
                    file.write("1")


def test_the_table_is_gone_with_the_policy(fleet: Fleet) -> None:
    fleet.change(1, NET, allow=None)
    with fleet.on(1):
        listed = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    assert "bridge" not in listed
