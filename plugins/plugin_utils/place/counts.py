# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many of some replicas are in each domain of a topology."""

from __future__ import annotations

from collections.abc import Sequence

from .model import Host


class Domains:
    """The domains of a topology; ``of[i]`` is the number of that in which host i is, -1 where it has no such label."""

    def __init__(self, topology: str, hosts: Sequence[Host]) -> None:
        self.topology = topology
        self.names = sorted({name for name in (host.domain(topology) for host in hosts) if name is not None})
        numbers = {name: number for number, name in enumerate(self.names)}
        self.of = [-1 if (name := host.domain(topology)) is None else numbers[name] for host in hosts]
        self.each = len(self.names) == len(hosts)  # no two hosts share one


class Count:
    """A number a domain; the last one is that of hosts without the label, and is never looked at."""

    def __init__(self, domains: Domains) -> None:
        self.domains = domains
        self._of = domains.of
        self._numbers = [0] * (len(domains.names) + 1)
        self._fewest: dict[tuple[int, ...], int] = {}
        self.total = 0

    def add(self, host: int, number: int) -> None:
        self._numbers[self._of[host]] += number
        self._fewest.clear()
        if self._of[host] >= 0:
            self.total += number

    def at(self, host: int) -> int:
        domain = self._of[host]
        return self._numbers[domain] if domain >= 0 else 0

    def fewest(self, among: tuple[int, ...]) -> int:
        """The smallest number of these domains."""
        if among not in self._fewest:
            numbers = self._numbers
            self._fewest[among] = min([numbers[domain] for domain in among], default=0)
        return self._fewest[among]
