# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All our rules in one table, changed in one transaction (nft_replace.py); no other table is touched.

What grows with the containers is elements of maps, never rules.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .._errors import DependencyError, VesselError
from .model import Network, Port
from .nft_words import ACCEPT, DROP, Json, Table, address, match, meta, prefix, raw

FAMILY = "inet"
_COMMENT = 120
_OWNED = "a table with the flag owner, as nft list ruleset tells, is its process's alone until that ends"


@dataclass(frozen=True)
class Target:
    """A published port, and the address inside that it leads to."""

    port: Port
    address: str


_ADDRESS = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
_VNI = raw("th", 96, 24)  # behind UDP's 8 bytes, and 4 of flags (RFC 7348)
_L4_PORT = [{"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]
# What has ports: nft 0.9.8 wants to be told before it leads to one.
_PORTED = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": ["tcp", "udp"]}}}
_LOCAL = {"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}}, "right": "local"}}
_DNATTED = {"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}}
_ANSWER = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}
_LOOPBACK = {"prefix": {"addr": "127.0.0.0", "len": 8}}
_CHAINS = (
    ("prerouting", "nat", "prerouting", -100),
    ("output", "nat", "output", -100),
    ("postrouting", "nat", "postrouting", 100),
    ("input", "filter", "input", 0),
    ("forward", "filter", "forward", 0),
)


def render(table: str, networks: Iterable[Network], targets: Iterable[Target], *, owner: str = "") -> list[Json]:
    """The commands that add the table; ``nft_replace`` puts it in another's place.

    ``owner`` is where the installation lies, for whoever finds the table.
    """
    networks, targets = list(networks), list(targets)
    new = Table(FAMILY, table)
    new.set("bridges", "ifname", [network.link for network in networks])
    for network in filter(_has_peers, networks):
        new.set(_peers(network), _ADDRESS[_underlay(network)], list(network.peers))
    for family in ("ip", "ip6"):
        _maps(new, family, targets)
    for chain in _CHAINS:
        new.chain(*chain)
    rules = [("prerouting", _not_from_elsewhere())]
    rules += [(chain, rule) for chain in ("prerouting", "output") for rule in _dnat()]
    rules += [("postrouting", rule) for rule in _masquerade(networks)]
    rules += [("input", _from_peers(network)) for network in networks if network.across]
    rules += [("input", rule) for rule in _input()]
    rules += [("forward", rule) for rule in _forward(networks)]
    for where, expression in rules:
        new.rule(where, *expression)
    if owner:  # JSON has comments of rules alone, of at most 128 bytes
        new.commands[-len(rules)]["add"]["rule"]["comment"] = owner[:_COMMENT]
    return new.commands


def _has_peers(network: Network) -> bool:
    return network.across and bool(network.peers)


def _peers(network: Network) -> str:
    return f"peers_{network.tunnel}"


def _underlay(network: Network) -> str:
    return "ip6" if ":" in network.local else "ip"


def _from_peers(network: Network) -> list[Json]:
    """The kernel takes the network's packets from whoever sends them, a host that is no peer any more among them."""
    expression = [address("udp", "dport", network.port), match(_VNI, network.vni)]
    if network.peers:
        expression.append(address(_underlay(network), "saddr", f"@{_peers(network)}", "!="))
    return [*expression, DROP]


def _maps(new: Table, family: str, targets: list[Target]) -> None:
    """Ports on every address of the host, and ports on one address: where each leads to, address and port apart.

    One map with both as its data would do, but nft 1.0.6 crashes when JSON gives it one.
    """
    kind = _ADDRESS[family]
    wild = {"ip": "0.0.0.0", "ip6": "::"}[family]
    anywhere, somewhere = [], []
    for target in targets:
        port = target.port
        if (":" in target.address) != (family == "ip6"):
            continue
        key = [port.protocol, port.host_port]
        if port.host_ip in (wild, "0.0.0.0"):
            anywhere.append(({"concat": key}, target))
        elif (":" in port.host_ip) == (family == "ip6"):
            somewhere.append(({"concat": [port.host_ip, *key]}, target))
    l4 = ["inet_proto", "inet_service"]
    for name, key_type, entries in ((f"{family}_any", l4, anywhere), (f"{family}_one", [kind, *l4], somewhere)):
        addresses = [[key, entry.address] for key, entry in entries]
        ports = [[key, entry.port.container_port] for key, entry in entries]
        new.map(f"{name}_address", key_type, kind, addresses)
        new.map(f"{name}_port", key_type, "inet_service", ports)


def _dnat() -> list[list[Json]]:
    rules = []
    for family, proto in (("ip", "ipv4"), ("ip6", "ipv6")):
        daddr = {"payload": {"protocol": family, "field": "daddr"}}
        for key, name in ((_L4_PORT, f"{family}_any"), ([daddr, *_L4_PORT], f"{family}_one")):
            parts = [{"map": {"key": {"concat": key}, "data": f"@{name}_{part}"}} for part in ("address", "port")]
            dnat = {"dnat": {"family": family, "addr": parts[0], "port": parts[1]}}
            # A key with an address says of which family it is, and nft leaves out what goes without saying.
            head = [] if daddr in key else [meta("nfproto", proto)]
            rules.append([*head, _LOCAL, _PORTED, dnat])
    return rules


def _not_from_elsewhere() -> list[Json]:
    """A port published on 127.0.0.1 is for this host. A neighbour that sends there is not led on, so that the kernel
    sees the packet for what it is and drops it."""
    return [meta("iifname", "lo", "!="), address("ip", "daddr", _LOOPBACK), ACCEPT]


def _input() -> list[list[Json]]:
    """route_localnet, which ports on 127.0.0.1 need on our bridges, would let containers at the host's own loopback."""
    ours = meta("iifname", "@bridges")
    return [
        [ours, _ANSWER, ACCEPT],
        [ours, address("ip", "daddr", _LOOPBACK), DROP],
        [ours, address("ip", "saddr", _LOOPBACK), DROP],
    ]


def _masquerade(networks: list[Network]) -> list[list[Json]]:
    # A port published on 127.0.0.1 leads to a container, which could not answer that address.
    rules = [[address("ip", "saddr", _LOOPBACK), meta("oifname", "@bridges"), {"masquerade": None}]]
    for network in networks:
        for family, subnet in (("ip", network.subnet), ("ip6", network.subnet6)):
            if not subnet:
                continue
            own = address(family, "saddr", prefix(subnet))
            # A container that goes out by a published port and comes back in to its own network (hairpin).
            rules.append([own, meta("oifname", network.link), _DNATTED, {"masquerade": None}])
            if not network.internal:
                rules.append(
                    [
                        own,
                        address(family, "daddr", prefix(subnet), "!="),
                        meta("oifname", "@bridges", "!="),
                        {"masquerade": None},
                    ]
                )
    return rules


def _forward(networks: list[Network]) -> list[list[Json]]:
    """Accepting here decides for this table alone: the host's own firewall is asked in its own tables as well."""
    rules: list[list[Json]] = []
    for network in networks:
        # Before all else, so that a network that becomes internal cuts the connections that it has.
        if network.internal:
            rules += _fence(network.link)
        if network.allow is not None:
            # By way of a published port they would reach one another past who may (policy.py).
            rules.append([meta("iifname", network.link), meta("oifname", network.link), _DNATTED, DROP])
    rules.append([_ANSWER, ACCEPT])
    for network in networks:
        if network.isolate or network.allow is not None:
            rules += _fence(network.link, "@bridges")
    # From outside only what is published gets in, whatever routes a neighbour adds.
    rules.append([meta("oifname", "@bridges"), meta("iifname", "@bridges", "!="), _DNATTED, ACCEPT])
    rules.append([meta("oifname", "@bridges"), meta("iifname", "@bridges", "!="), DROP])
    return rules


def _fence(link: str, others: str = "") -> list[list[Json]]:
    """Nothing between the link and others, or all others."""
    rules = []
    for here, there in (("iifname", "oifname"), ("oifname", "iifname")):
        beyond = [meta(there, others)] if others else []
        rules.append([meta(here, link), meta(there, link, "!="), *beyond, DROP])
    return rules


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def apply(commands: list[Json]) -> None:
    """Hand the commands to the kernel, all or nothing."""
    _nft(["-j", "-f", "-"], json.dumps({"nftables": commands}))


def delete(table: str, family: str = FAMILY) -> None:
    head = {"family": family, "name": table}
    apply([{"add": {"table": head}}, {"delete": {"table": head}}])


def read(table: str, family: str = FAMILY) -> list[Json]:
    """What the kernel has of the table, without handles and in a stable order; empty when there is none. What a set
    holds that forgets is left out: packets put it there."""
    text = _nft(["-j", "list", "table", family, table], "", missing=True)
    if not text:
        return []
    try:
        objects = [item for item in json.loads(text)["nftables"] if "metainfo" not in item]
    except ValueError:  # nft 1.0.6 tells what happens to be in memory as a table's flags, such as "dormant"
        head = {"family": family, "name": table}
        return [{"table": head}, {"unreadable table": {**head, "table": table}}]
    for item in objects:
        for body in item.values():
            body.pop("handle", None)
            if "timeout" in body:
                body.pop("elem", None)
            if isinstance(body.get("elem"), list):
                body["elem"].sort(key=lambda element: json.dumps(element, sort_keys=True))
    return objects


def tables() -> list[str]:
    """Names of all tables of the family, whoever made them. As text, for the reason in ``read``."""
    return [line.split()[2] for line in _nft(["list", "tables", FAMILY], "").splitlines()]


def _nft(arguments: list[str], text: str, *, missing: bool = False) -> str:
    try:
        done = subprocess.run(
            ["nft", *arguments], input=text, capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        raise DependencyError("the program nft is missing", hint="install nftables") from None
    if done.returncode == 0:
        return done.stdout
    if missing and "No such file or directory" in done.stderr:
        return ""
    hint = _OWNED if "Could not process rule: Operation not permitted" in done.stderr else ""
    raise VesselError(f"nft {' '.join(arguments)}: {_shortened(done.stderr) or done.returncode}", hint=hint)


def _shortened(text: str) -> str:
    """The first of nft's errors, without the place in the input, which is nothing that anybody wrote."""
    lines = [line.partition("Error: ")[2] or line for line in text.strip().splitlines()]
    return lines[0] if lines else ""
