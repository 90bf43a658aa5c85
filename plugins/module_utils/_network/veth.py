# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's link to a bridge: a veth pair, born with its far end inside."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .bridge import Difference
from .model import Endpoint, Network
from .observe import Inside, Snapshot
from .rtnl import Link, Rtnl, open_netns


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


def differences(wire: Wire, snapshot: Snapshot, inside: Inside) -> list[Difference]:
    """What is not as declared, on both sides."""
    endpoint = wire.endpoint
    peer, bridge = snapshot.links.get(endpoint.peer), snapshot.links.get(wire.network.link)
    if peer is None or endpoint.ifname not in inside.names:
        return [Difference(f"link {endpoint.ifname}", "absent", endpoint.peer)]
    found = []
    if not peer.up:
        found.append(Difference(f"link {endpoint.peer}", "down", "up"))
    if bridge is not None and peer.master != bridge.index:
        found.append(Difference(f"master of {endpoint.peer}", peer.master, wire.network.link))
    if peer.mtu != wire.network.mtu:
        found.append(Difference(f"mtu of {endpoint.peer}", peer.mtu, wire.network.mtu))
    missing = [address for address in endpoint.addresses() if address.partition("/")[0] not in inside.addresses]
    if missing:
        found.append(Difference(f"addresses of {endpoint.ifname}", "absent", missing))
    lost = [gateway for gateway in wire.gateways() if gateway not in inside.gateways]
    if lost:
        found.append(Difference("default route", "absent", lost))
    return found


def ensure(host: Rtnl, netns: str, wire: Wire, bridge: Link) -> None:
    """Attach, or mend what is there; the process inside does not notice."""
    endpoint, network = wire.endpoint, wire.network
    peer = host.link(endpoint.peer)
    if peer is None:
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
        host.set_hairpin(endpoint.peer)
    elif not peer.up or peer.master != bridge.index or peer.mtu != network.mtu:
        host.set_link(peer.index, state="up", master=bridge.index, mtu=network.mtu)
    with Rtnl(netns) as rtnl:
        _inside(rtnl, wire, fresh=peer is None)


def _inside(rtnl: Rtnl, wire: Wire, *, fresh: bool) -> None:
    endpoint = wire.endpoint
    link = rtnl.link(endpoint.ifname)
    if link is None:
        return  # the peer is there and its end is not: detach and attach again is the caller's
    present = set() if fresh else rtnl.addresses().get(link.index, set())
    wanted = set(endpoint.addresses())
    for address in sorted(present - wanted):
        rtnl.delete_address(link.index, address)
    if not link.up or link.mtu != wire.network.mtu:
        rtnl.set_link(link.index, state="up", mtu=wire.network.mtu)
    for address in sorted(wanted - present):
        rtnl.add_address(link.index, address)
    for route in [] if fresh else rtnl.routes():
        stale = route.destination == "default" and route.index == link.index and route.gateway not in wire.gateways()
        if stale:  # the network became an internal one, or another is the way out now
            rtnl.delete_default_route(route.gateway)
    for gateway in wire.gateways():
        rtnl.set_default_route(gateway, link.index)


def detach(host: Rtnl, endpoint: Endpoint) -> None:
    """Deleting one end deletes the other, with its addresses and routes."""
    host.delete_link(endpoint.peer)
