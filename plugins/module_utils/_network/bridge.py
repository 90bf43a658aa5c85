# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge driver: a bridge on the host with the network's gateway address."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from .._errors import KernelError
from .dump import Link
from .model import Network
from .observe import Snapshot
from .rtnl import Rtnl

_FORWARDING6 = "net/ipv6/conf/all/forwarding"


@dataclass(frozen=True)
class Difference:
    """Something that is not as declared."""

    what: str
    before: Any
    after: Any


def sysctls(network: Network) -> dict[str, str]:
    """What forwarding between the bridge and the world needs, as paths below /proc/sys and values."""
    wanted = {f"net/ipv4/conf/{network.link}/route_localnet": "1"}  # ports published on 127.0.0.1
    if not network.internal:
        wanted["net/ipv4/ip_forward"] = "1"
        if network.subnet6:
            wanted[_FORWARDING6] = "1"
    # Where nothing has IPv6, the bridge has none either: a link-local address would be a way around.
    wanted[f"net/ipv6/conf/{network.link}/disable_ipv6"] = "0" if network.subnet6 else "1"
    # A container that says it is a router is not believed (CVE-2020-13401).
    wanted[f"net/ipv6/conf/{network.link}/accept_ra"] = "0"
    return wanted


def differences(network: Network, snapshot: Snapshot) -> list[Difference]:
    """What is not as declared, nothing when all is."""
    link = snapshot.links.get(network.link)
    if link is None or link.kind != "bridge":
        return [Difference("bridge", link.kind if link else "absent", network.link)]
    found = []
    if not link.up:
        found.append(Difference("bridge state", "down", "up"))
    if link.mtu != network.mtu:
        found.append(Difference("mtu", link.mtu, network.mtu))
    present, wanted = snapshot.on(network.link), set(network.addresses())
    if present != wanted:
        found.append(Difference("addresses", sorted(present), sorted(wanted)))
    for name, value in sysctls(network).items():
        if _sysctl(name) not in (value, None):
            found.append(Difference(f"sysctl {name}", _sysctl(name), value))
    return found


def ensure(rtnl: Rtnl, network: Network, snapshot: Snapshot) -> Link:
    """Make the bridge as declared, whatever of it is there; its ports are not touched."""
    link = snapshot.links.get(network.link)
    if link is not None and link.kind != "bridge":
        rtnl.delete_link(network.link)  # a name that nobody else has a use for
        link = None
    if link is None:
        # A MAC of its own: else the bridge takes that of its lowest port and changes it as containers come and go.
        # On other hosts the bridge of a network has the same name, so what tells it apart goes in too.
        rtnl.add_bridge(network.link, network.mtu, mac_address(network.link + network.local))
        link = rtnl.link(network.link)
        if link is None:
            raise KernelError("add bridge", network.link, 19)
    for name, value in sysctls(network).items():
        if _sysctl(name) not in (value, None):
            if name == _FORWARDING6:
                _keep_listening_to_routers()
            _write_sysctl(name, value)
    present, wanted = snapshot.on(network.link), set(network.addresses())
    for address in sorted(present - wanted):
        rtnl.delete_address(link.index, address)
    for address in sorted(wanted - present):
        rtnl.add_address(link.index, address)
    if link.mtu != network.mtu:
        rtnl.set_link(link.index, mtu=network.mtu)
    if not link.up:
        rtnl.set_link(link.index, state="up")
    return link


def mac_address(name: str) -> str:
    """A locally administered unicast address that follows from a name."""
    import hashlib

    digest = hashlib.sha256(name.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *digest[:4]))


def _keep_listening_to_routers() -> None:
    """A host that forwards ignores router advertisements, unless told (2) that it need not: it would lose the
    default route that it has from one."""
    for link in os.listdir("/proc/sys/net/ipv6/conf"):
        name = f"net/ipv6/conf/{link}/accept_ra"
        if link not in ("all", "default") and _sysctl(name) == "1":
            _write_sysctl(name, "2")


def _sysctl(name: str) -> str | None:
    try:
        with open(f"/proc/sys/{name}") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def _write_sysctl(name: str, value: str) -> None:
    path = f"/proc/sys/{name}"
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError as error:
        raise KernelError(f"write {value} to", path, error.errno or 0) from None
