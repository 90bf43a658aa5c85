# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who of a network may talk to whom: a table of the bridge family, for containers of one network are neighbours and
no packet between them is routed.

A packet is judged where it is delivered, by the host of the receiver; other hosts are trusted to say who sends. On a
sender's own host it is seen to that a container sends from the addresses alone that it was given, by its port on the
bridge, which it can't change.

There is no connection tracking here: a bridge has it only by a module that not every kernel brings, or through
br_netfilter, which would let the host's firewall at foreign bridges. So what answers a TCP connection is known by not
being a first segment, and what answers a datagram by one that went the other way shortly before (``_flows``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .model import Allow, End, Network
from .nft_words import ACCEPT, DROP, Json, Table, address, concat, field, key, match, meta, prefix

FAMILY = "bridge"
_FAMILIES = ("ip", "ip6")
_TYPES = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
# How long an answer to a datagram may take, in seconds: what connection tracking gives a flow that is answered.
_PATIENCE = 120
_FLOWS_MAX = 65536
# Before br_netfilter (0) leads packets elsewhere.
_PRIORITY = -300
# Who asks who has an address, and who answers; a router is nobody here. Then reports of multicast, which bind nobody.
_NEIGHBOURS = ["nd-neighbor-solicit", "nd-neighbor-advert"]
_LOCAL6 = [*_NEIGHBOURS, "mld-listener-report", "mld-listener-done", "mld2-listener-report"]
# What a host says of a packet that it could not deliver. The receiver looks whether it ever sent such a one.
_ERRORS = {
    "icmp": ["destination-unreachable", "time-exceeded", "parameter-problem"],
    "icmpv6": ["destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem"],
}
_ECHO = {"ip": "icmp", "ip6": "icmpv6"}
_SYN = {"&": [field("tcp", "flags"), ["syn", "ack"]]}


@dataclass(frozen=True)
class Member:
    """A container on a network: its link on the bridge, and what it is known by. Addresses without lengths."""

    network: str
    port: str
    mac: str
    addresses: tuple[str, ...]
    names: tuple[str, ...]
    labels: Mapping[str, str]


def render(table: str, networks: Iterable[Network], members: Iterable[Member]) -> list[Json]:
    """The commands that add the table; none when no network asks for it."""
    asking = {network.name: network for network in networks if network.allow is not None}
    if not asking:
        return []
    present = [member for member in members if member.network in asking]
    new = Table(FAMILY, table)
    for family, kind in _TYPES.items():  # before all else, where they stand when they are kept
        key_type = [kind, kind, "inet_proto", "inet_service", "inet_service"]
        new.set(_flows(family), key_type, size=_FLOWS_MAX, flags=["timeout"], timeout=_PATIENCE)
    for family, kind in _TYPES.items():
        who = [_concat(member.port, member.mac, ip) for member in present for ip in _of(member.addresses, family)]
        new.set(f"who_{family}", ["ifname", "ether_addr", kind], who)
    new.set("who", ["ifname", "ether_addr"], [_concat(member.port, member.mac) for member in present])
    ports = [member.port for member in present]
    new.set("senders", "ifname", ports)
    new.set("ways", "ifname", [*ports, *(network.tunnel for network in asking.values() if network.across)])
    for network in asking.values():
        new.chain(network.link)
        _judge(new, network, [member for member in present if member.network == network.name])
    leads = [[member.port, {"jump": {"target": asking[member.network].link}}] for member in present]
    new.map("receivers", "ifname", "verdict", leads)
    _senders(new)
    _gateways(new, asking.values())
    _receivers(new)
    return new.commands


def _flows(family: str) -> str:
    return f"flows_{family}"


def _concat(*parts: str) -> Json:
    return {"concat": list(parts)}


def _of(addresses: Sequence[str], family: str) -> list[str]:
    return [address for address in addresses if (":" in address) == (family == "ip6")]


# who sends


def _senders(new: Table) -> None:
    new.chain("from", "filter", "prerouting", _PRIORITY)
    new.rule("from", meta("iifname", "@senders", "!="), ACCEPT)
    own = [match(concat(key("iifname"), field("ether", "saddr"), field("arp", "saddr ip")), "@who_ip")]
    own.append(match(concat(key("iifname"), field("arp", "saddr ether"), field("arp", "saddr ip")), "@who_ip"))
    new.rule("from", *own, ACCEPT)
    for family in _FAMILIES:
        sender = concat(key("iifname"), field("ether", "saddr"), field(family, "saddr"))
        new.rule("from", match(sender, f"@who_{family}"), ACCEPT)
    for source in (prefix("fe80::/10"), "::"):  # of the link alone: nobody is asked for anything by these
        new.rule(
            "from",
            match(concat(key("iifname"), field("ether", "saddr")), "@who"),
            address("ip6", "saddr", source),
            address("icmpv6", "type", {"set": _LOCAL6}),
            ACCEPT,
        )
    new.rule("from", DROP)


def _gateways(new: Table, networks: Iterable[Network]) -> None:
    """The host would route a packet that is sent to its own MAC back into the network, past the receiver's rules."""
    new.chain("up", "filter", "input", _PRIORITY)
    for network in networks:
        for family, subnet, gateway in (
            ("ip", network.subnet, network.gateway),
            ("ip6", network.subnet6, network.gateway6),
        ):
            if subnet:
                inside, but = address(family, "daddr", prefix(subnet)), address(family, "daddr", gateway, "!=")
                new.rule("up", meta("iifname", "@ways"), inside, but, DROP)


# who receives


def _receivers(new: Table) -> None:
    new.chain("to", "filter", "forward", _PRIORITY)
    new.rule("to", {"vmap": {"key": key("oifname"), "data": "@receivers"}})
    # To another host, which judges it; its answer will come here.
    for family in _FAMILIES:
        new.rule("to", meta("iifname", "@senders"), meta("l4proto", {"set": ["udp", "sctp"]}), _remember(family))


def _flow(family: str, protocol: str = "th", *, back: bool = False) -> Json:
    ends = [field(family, "saddr"), field(family, "daddr")]
    ports = [field(protocol, "sport"), field(protocol, "dport")]
    if back:
        ends.reverse()
        ports.reverse()
    return concat(*ends, key("l4proto"), *ports)


def _remember(family: str, protocol: str = "th", *, back: bool = False) -> Json:
    return {"set": {"op": "update", "elem": _flow(family, protocol, back=back), "set": f"@{_flows(family)}"}}


def _judge(new: Table, network: Network, members: list[Member]) -> None:
    """The chain of what is delivered to a container of the network."""
    chain = network.link
    families = [family for family, subnet in zip(_FAMILIES, (network.subnet, network.subnet6)) if subnet]
    new.rule(chain, meta("protocol", "arp"), ACCEPT)
    new.rule(chain, address("icmpv6", "type", {"set": _NEIGHBOURS}), ACCEPT)
    for family in families:
        # To whom it says it is, for a neighbour's idea of who has an address is anybody's to change.
        receiver = concat(key("oifname"), field("ether", "daddr"), field(family, "daddr"))
        new.rule(chain, match(receiver, f"@who_{family}", "!="), DROP)
        new.rule(chain, address(_ECHO[family], "type", {"set": _ERRORS[_ECHO[family]]}), ACCEPT)
        # What has no ports is no use without the part before it, which was judged. The second of a TCP header could
        # change what the first was (RFC 3128).
        offset = {"&": [field("ip", "frag-off"), 0x1FFF]} if family == "ip" else _FRAGMENT6
        new.rule(chain, match(offset, 1, ">"), ACCEPT)
        back = match(_flow(family, back=True), f"@{_flows(family)}")
        new.rule(chain, back, _remember(family, back=True), ACCEPT)
        if network.across:
            # What answers from another host: who was asked there, that host has judged.
            there = [meta("iifname", network.tunnel), meta("protocol", family)]
            new.rule(chain, *there, match(_SYN, "syn", "!="), ACCEPT)
            new.rule(chain, *there[:1], address(_ECHO[family], "type", "echo-reply"), ACCEPT)
    for number, allow in enumerate(network.allow or ()):
        for family in families:
            _allow(new, network, f"{chain}_{number}", allow, family, members)
    new.rule(chain, DROP)


_FRAGMENT6: Json = {"exthdr": {"name": "frag", "field": "frag-off"}}


def _allow(new: Table, network: Network, name: str, allow: Allow, family: str, members: list[Member]) -> None:
    sources = _ends(new, network, f"{name}_from_{family}", allow.source, family, members)
    targets = _ends(new, network, f"{name}_to_{family}", allow.target, family, members)
    for source in sources:
        for target in targets:
            there = _between(family, source, target)
            back = _between(family, source=target, target=source)
            for protocol in allow.protocols:
                for expressions in _pass(family, protocol, there, back, allow.ports):
                    new.rule(network.link, *expressions, ACCEPT)


def _ends(new: Table, network: Network, name: str, end: End, family: str, members: list[Member]) -> list[Any]:
    """What an address is matched with: a set, subnets; None for everybody. Nothing when nobody can match."""
    if not end.names and not end.labels:
        return [None]
    subnets = [prefix(text) for text in end.names if "/" in text and (":" in text) == (family == "ip6")]
    if end.names and all("/" in text for text in end.names):
        return subnets
    new.set(name, _TYPES[family], _of(_meant(network, end, members), family))
    return [f"@{name}", *subnets]


def _meant(network: Network, end: End, members: list[Member]) -> list[str]:
    """The addresses of whom a rule names, in order and once each."""
    known = [(member.names, member.labels, member.addresses) for member in members]
    own = {name for member in members for name in member.names[:1]}  # what the host knows better (names.py)
    known += [((n.name,), dict(n.labels), n.addresses) for n in network.names if n.name not in own]
    if end.labels:
        wanted = dict(end.labels).items()
        found = [ip for dummy, labels, addresses in known if wanted <= labels.items() for ip in addresses]
    else:
        called = set(end.names)
        found = [ip for names, dummy, addresses in known if called & set(names) for ip in addresses]
        found += [text for text in end.names if _is_address(text)]
    return list(dict.fromkeys(found))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _between(family: str, source: Any, target: Any) -> list[Json]:
    ends = (("saddr", source), ("daddr", target))
    found = [address(family, name, end) for name, end in ends if end is not None]
    return found or [meta("protocol", family)]


def _pass(
    family: str, protocol: str, there: list[Json], back: list[Json], ports: Sequence[tuple[int, int]]
) -> list[list[Json]]:
    if protocol == "icmp":
        echo = _ECHO[family]
        return [
            [*there, address(echo, "type", "echo-request")],
            [*back, address(echo, "type", "echo-reply")],
        ]
    if protocol == "tcp":
        opening = _ported("tcp", "dport", ports) or [meta("l4proto", "tcp")]
        return [[*there, *opening], [*back, *_ported("tcp", "sport", ports), match(_SYN, "syn", "!=")]]
    return [[*there, *_ported(protocol, "dport", ports), _remember(family, protocol)]]


def _ported(protocol: str, name: str, ports: Sequence[tuple[int, int]]) -> list[Json]:
    if not ports:
        return []
    values: list[Any] = [first if first == last else {"range": [first, last]} for first, last in ports]
    return [address(protocol, name, values[0] if len(values) == 1 else {"set": values})]


# in place of what is there


def is_in(commands: Iterable[Json]) -> bool:
    """Are commands of ``render`` among these?"""
    return any(_is_ours(body) for command in commands for body in command.get("add", {}).values())


def _is_ours(body: Json) -> bool:
    return bool(body.get("family") == FAMILY)
