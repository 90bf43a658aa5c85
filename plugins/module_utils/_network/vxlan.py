# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vxlan driver: a port of the network's bridge that leads to the bridges of other hosts (RFC 7348).

No multicast: what is for everybody, or for somebody who is not known, goes to each peer by an entry of its own. Who is
behind which peer is learned from what comes in, and forgotten with the peer.
"""

from __future__ import annotations

import errno

from .._errors import KernelError, OptionError
from .bridge import Difference, mac_address
from .dump import Link, Vxlan
from .model import Network
from .observe import Snapshot
from .rtnl import Rtnl

ANYBODY = "00:00:00:00:00:00"
# Ethernet, VXLAN and UDP, and IPv4 or IPv6, around each packet.
OVERHEAD, OVERHEAD6 = 50, 70


def overhead(underlay: str) -> int:
    return OVERHEAD6 if ":" in underlay else OVERHEAD


def differences(network: Network, snapshot: Snapshot) -> list[Difference]:
    """What is not as declared, nothing when all is."""
    if not network.across:
        return []
    link, wanted = snapshot.links.get(network.tunnel), _wanted(network, snapshot)
    if link is None or link.vxlan is None:
        return [Difference("vxlan", link.kind if link else "absent", network.tunnel)]
    if link.vxlan != wanted:
        return [Difference("vxlan", _words(link.vxlan), _words(wanted))]
    found = []
    if not link.up:
        found.append(Difference("vxlan state", "down", "up"))
    if link.mtu != network.mtu:
        found.append(Difference("mtu of the vxlan", link.mtu, network.mtu))
    bridge = snapshot.links.get(network.link)
    if bridge is not None and link.master != bridge.index:
        found.append(Difference("master of the vxlan", link.master, network.link))
    present, peers = _led_to(snapshot.forwarding.get(link.index, set())), set(network.peers)
    if present != peers:
        found.append(Difference("forwarding", sorted(present), sorted(peers)))
    return found


def _wanted(network: Network, snapshot: Snapshot) -> Vxlan:
    device = snapshot.links.get(network.device)
    return Vxlan(network.vni, network.port, network.local, device.index if device else 0)


def _words(vxlan: Vxlan) -> dict[str, object]:
    return {key: value for key, value in vars(vxlan).items() if value}


def _led_to(forwarding: set[tuple[str, str]]) -> set[str]:
    """The hosts that get what is for everybody. One that only a learned entry names is no difference: it goes by
    itself."""
    return {where for mac, where in forwarding if mac == ANYBODY}


def ensure(rtnl: Rtnl, network: Network, snapshot: Snapshot, bridge: Link) -> None:
    """Make it as declared, whatever of it is there. A peer that comes or goes concerns no other."""
    if not network.across:
        if network.tunnel in snapshot.links:  # it was one across hosts
            rtnl.delete_link(network.tunnel)
        return
    link, wanted = snapshot.links.get(network.tunnel), _wanted(network, snapshot)
    if link is not None and link.vxlan != wanted:
        rtnl.delete_link(network.tunnel)  # the kernel changes neither vni nor port of one that is there
        link = None
    forwarding = snapshot.forwarding.get(link.index, set()) if link else set()
    if link is None:
        try:
            link = _make(rtnl, network, wanted, bridge)
        except KernelError as error:
            if error.errno == errno.EEXIST:
                _tell_whose(network, snapshot)
            raise
    elif link.master != bridge.index or link.mtu != network.mtu:
        rtnl.set_link(link.index, master=bridge.index, mtu=network.mtu)
    _lead(rtnl, network, link, forwarding)
    if not link.up:
        rtnl.set_link(link.index, state="up")


def _make(rtnl: Rtnl, network: Network, wanted: Vxlan, bridge: Link) -> Link:
    rtnl.add_vxlan(
        network.tunnel,
        vni=wanted.vni,
        port=wanted.port,
        local=wanted.local,
        device=wanted.device,
        master=bridge.index,
        mtu=network.mtu,
        mac=mac_address(network.tunnel + network.local),
    )
    link = rtnl.link(network.tunnel)
    if link is None:
        raise KernelError("add vxlan", network.tunnel, 19)
    return link


def _tell_whose(network: Network, snapshot: Snapshot) -> None:
    """The kernel says that a link exists, and means any with that number: another installation's, or nobody's of us."""
    for name, link in snapshot.links.items():
        if name != network.tunnel and link.vxlan and (link.vxlan.vni, link.vxlan.port) == (network.vni, network.port):
            problem = f"is that of the link {name} of this host, with the same UDP port, {network.port}; choose another"
            raise OptionError("vni", network.vni, problem) from None


def _lead(rtnl: Rtnl, network: Network, link: Link, present: set[tuple[str, str]]) -> None:
    peers = set(network.peers)
    for mac, where in sorted(present):
        if where not in peers:
            rtnl.delete_forwarding(link.index, mac, where)
    for where in sorted(peers - _led_to(present)):
        rtnl.append_forwarding(link.index, ANYBODY, where)
