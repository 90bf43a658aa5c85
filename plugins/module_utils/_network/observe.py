# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has in a network namespace, dumped once: links, addresses and routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from .dump import Link, Reader, Route


@dataclass(frozen=True)
class Snapshot:
    """The host's side, or a container's."""

    links: dict[str, Link]
    addresses: dict[int, set[str]]
    routes: list[Route]
    # Of each vxlan link, by its index: (MAC, the host that it is at).
    forwarding: dict[int, set[tuple[str, str]]] = field(default_factory=dict)

    @classmethod
    def take(cls, reader: Reader) -> Snapshot:
        links = reader.links()
        tunnels = [link.index for link in links.values() if link.vxlan]
        forwarding = {index: reader.forwarding(index) for index in tunnels}
        return cls(links, reader.addresses(), reader.routes(), forwarding)

    def on(self, name: str) -> set[str]:
        """Addresses of the link with this name."""
        link = self.links.get(name)
        return self.addresses.get(link.index, set()) if link else set()

    def having(self, address: str) -> Optional[Link]:
        """The link that has this address, without its length."""
        for link in self.links.values():
            if any(entry.partition("/")[0] == address for entry in self.addresses.get(link.index, ())):
                return link
        return None

    def gateways(self, name: str) -> set[str]:
        """Where the default routes of the link with this name lead."""
        link = self.links.get(name)
        index = link.index if link else -1
        return {route.gateway for route in self.routes if route.destination == "default" and route.index == index}


def inside(pid: int) -> Snapshot:
    """Raises FileNotFoundError or ProcessLookupError when the process is gone."""
    return within(f"/proc/{pid}/ns/net")


def within(netns: str) -> Snapshot:
    """A fifth of a millisecond: three questions on a socket that is opened in there."""
    with Reader(netns) as reader:
        return Snapshot.take(reader)
