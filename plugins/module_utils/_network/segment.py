# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links that are a network's own, whoever is on it: its bridge, and for the driver vxlan the way to other hosts."""

from __future__ import annotations

from . import bridge, vxlan
from .bridge import Difference
from .dump import Link
from .model import Network
from .observe import Snapshot
from .rtnl import Rtnl


def differences(network: Network, snapshot: Snapshot) -> list[Difference]:
    """What is not as declared, nothing when all is."""
    return bridge.differences(network, snapshot) + vxlan.differences(network, snapshot)


def ensure(rtnl: Rtnl, network: Network, snapshot: Snapshot) -> Link:
    """Make them as declared, whatever of them is there, and give the bridge; the containers' links are not touched."""
    link = bridge.ensure(rtnl, network, snapshot)
    vxlan.ensure(rtnl, network, snapshot, link)
    return link


def delete(rtnl: Rtnl, network: Network) -> None:
    rtnl.delete_links((network.link, network.tunnel))
