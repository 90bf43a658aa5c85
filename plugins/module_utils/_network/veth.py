# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's link to a bridge: a veth pair, born with its far end inside."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

from .bridge import Difference
from .dump import Link
from .ipam import mac_address
from .model import Endpoint, Network
from .observe import Snapshot
from .rtnl import Rtnl, open_netns
from .sandbox import write_sysctl

_CARRIER = 0.5  # seconds for a link that is up to have one


@dataclass(frozen=True)
class Wire:
    """All that an attachment needs: the endpoint, its network, and whether the default route goes this way."""

    endpoint: Endpoint
    network: Network
    default: bool

    def gateways(self) -> list[str]:
        if not self.default or self.network.internal:
            return []
        pairs = ((self.network.gateway, self.endpoint.ipv4), (self.network.gateway6, self.endpoint.ipv6))
        return [gateway for gateway, address in pairs if gateway and address]


def differences(wire: Wire, snapshot: Snapshot, inside: Snapshot) -> list[Difference]:
    """What is not as declared, on both sides."""
    endpoint = wire.endpoint
    peer, link = snapshot.links.get(endpoint.peer), inside.links.get(endpoint.ifname)
    if peer is None or link is None or not _paired(peer, link):
        return [Difference(f"link {endpoint.ifname}", "absent", endpoint.peer)]
    bridge = snapshot.links.get(wire.network.link)
    return [*_outer(wire, peer, bridge), *_inner(wire, link, inside)]


def _paired(peer: Link, link: Link) -> bool:
    return link.peer == peer.index and link.kind == "veth"


def _outer(wire: Wire, peer: Link, bridge: Optional[Link]) -> Iterator[Difference]:
    if not peer.up:
        yield Difference(f"link {peer.name}", "down", "up")
    if bridge is not None and peer.master != bridge.index:
        yield Difference(f"master of {peer.name}", peer.master, wire.network.link)
    if peer.mtu != wire.network.mtu:
        yield Difference(f"mtu of {peer.name}", peer.mtu, wire.network.mtu)


def _inner(wire: Wire, link: Link, inside: Snapshot) -> Iterator[Difference]:
    endpoint = wire.endpoint
    if not link.up:
        yield Difference(f"link {link.name}", "down", "up")
    if link.mtu != wire.network.mtu:
        yield Difference(f"mtu of {link.name}", link.mtu, wire.network.mtu)
    if endpoint.mac and link.mac != endpoint.mac:
        yield Difference(f"mac address of {link.name}", link.mac, endpoint.mac)
    present, wanted = inside.on(link.name), set(endpoint.addresses())
    if present != wanted:
        yield Difference(f"addresses of {link.name}", sorted(present), sorted(wanted))
    gateways, ways = inside.gateways(link.name), set(wire.gateways())
    if gateways != ways:
        yield Difference("default route", sorted(gateways), sorted(ways))


def ensure(host: Rtnl, netns: str, wire: Wire, bridge: Link) -> None:
    """Attach, or mend what is there; the process inside does not notice."""
    with Rtnl(netns) as rtnl:
        peer, link = host.link(wire.endpoint.peer), rtnl.link(wire.endpoint.ifname)
        fresh = peer is None or link is None or not _paired(peer, link)
        if fresh:
            # A half that is left on either side, or what has taken the name since, goes before.
            if peer is not None:
                host.delete_link(peer.name)
            if link is not None:
                rtnl.delete_link(link.name)
            link = _attach(host, rtnl, netns, wire, bridge)
        elif peer is not None and (not peer.up or peer.master != bridge.index or peer.mtu != wire.network.mtu):
            host.set_link(peer.index, state="up", master=bridge.index, mtu=wire.network.mtu)
        if link is not None:
            _mend(rtnl, netns, wire, link, fresh=fresh)
            if fresh and _is_news(wire, link, fresh=True):
                _announce(host, rtnl, wire, link)


def _attach(host: Rtnl, rtnl: Rtnl, netns: str, wire: Wire, bridge: Link) -> Optional[Link]:
    """A new pair."""
    endpoint, network = wire.endpoint, wire.network
    netns_fd = open_netns(netns)
    try:
        host.add_veth(
            endpoint.peer,
            master=bridge.index,
            mtu=network.mtu,
            inside_name=endpoint.ifname,
            mac=endpoint.mac,
            netns_fd=netns_fd,
        )
    finally:
        os.close(netns_fd)
    link = rtnl.link(endpoint.ifname)
    if link is not None:
        host.set_hairpin(link.peer)
    return link


def _mend(rtnl: Rtnl, netns: str, wire: Wire, link: Link, *, fresh: bool) -> None:
    endpoint = wire.endpoint
    # Where a network has no IPv6 its links have none either: a link-local address would be a way around the rules.
    if endpoint.ipv6 or not fresh:
        write_sysctl(netns, f"net/ipv6/conf/{link.name}/disable_ipv6", "0" if endpoint.ipv6 else "1")
    if _is_news(wire, link, fresh=fresh):
        write_sysctl(netns, f"net/ipv4/conf/{link.name}/arp_notify", "1")
        write_sysctl(netns, f"net/ipv6/conf/{link.name}/ndisc_notify", "1")
    present = set() if fresh else rtnl.addresses().get(link.index, set())
    wanted = set(endpoint.addresses())
    for address in sorted(present - wanted):
        rtnl.delete_address(link.index, address)
    for address in sorted(wanted - present):
        rtnl.add_address(link.index, address)
    _set_link(rtnl, wire, link)
    for route in [] if fresh else rtnl.routes():
        stale = route.destination == "default" and route.index == link.index and route.gateway not in wire.gateways()
        if stale:  # the network became an internal one, or another is the way out now
            rtnl.delete_default_route(route.gateway)
    for gateway in wire.gateways():
        rtnl.set_default_route(gateway, link.index)


def _announce(host: Rtnl, rtnl: Rtnl, wire: Wire, link: Link) -> None:
    """Once more. What the kernel told when the link came up was dropped by the bridge, which did not know of its port's
    carrier yet; and who is silent would be looked for where it was until the others forget that, in minutes."""
    until = time.monotonic() + _CARRIER
    while time.monotonic() < until:
        peer = host.link(wire.endpoint.peer)
        if peer is None or peer.running:
            break
        time.sleep(0.001)
    rtnl.set_link(link.index, address=wire.endpoint.mac or link.mac)


def _is_news(wire: Wire, link: Link, *, fresh: bool) -> bool:
    """May neighbours know another MAC for its address, or another host that it is on? Not where the one follows from
    the address, as it does by default: a thousand containers that greeted a thousand would be a million packets."""
    endpoint = wire.endpoint
    if wire.network.across and fresh:
        return True
    return endpoint.mac != (mac_address(endpoint.ipv4 or endpoint.ipv6) if fresh else link.mac)


def _set_link(rtnl: Rtnl, wire: Wire, link: Link) -> None:
    """Only what differs: to set an address is to tell the neighbours."""
    wanted = {"mtu": wire.network.mtu, "address": wire.endpoint.mac or link.mac}
    changes = {key: value for key, value in wanted.items() if value != {"mtu": link.mtu, "address": link.mac}[key]}
    if changes or not link.up:
        rtnl.set_link(link.index, **changes, state="up")


def detach(host: Rtnl, endpoints: Iterable[Endpoint]) -> None:
    """Deleting one end deletes the other, with its addresses and routes."""
    host.delete_links(endpoint.peer for endpoint in endpoints)
