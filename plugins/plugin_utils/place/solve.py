# Copyright (c) the vessel.host authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who goes where: what runs stays unless it must go, then the others by priority, the large ones first.

Small cases are then made better (improve.py). Nothing depends on the order in which things were given, or on the clock.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from . import preempt
from .board import Board, Replica, selected
from .candidates import Candidates, Key, candidates
from .improve import improve
from .model import SPREAD, Host, Requests, Service
from .standing import Standing

_ROUNDS = 8  # of mending what preemption broke


@dataclass
class Reasons:
    """Of a service, when its turn came: how many hosts it could have had, and which rules were against which."""

    candidates: int = 0
    refused: Mapping[str, Sequence[int]] = field(default_factory=dict)


class Solution:
    """Where all are, as it comes about."""

    def __init__(self, services: Sequence[Service], hosts: Sequence[Host], standing: Standing) -> None:
        self.services, self.hosts = services, hosts
        self.board = Board(hosts, services, standing)
        self.replicas = {
            name: Replica(service, number)
            for service in services
            for number, name in enumerate(service.names(), start=1)
        }
        self.stops: list[tuple[str, str, int, str]] = []  # service, name, host, because
        self.unplaced: list[Replica] = []
        self.reasons: dict[str, Reasons] = {}
        self.ranks = {service.name: rank for rank, service in enumerate(ordered(services, hosts, standing))}
        self._by_rank = {rank: name for name, rank in self.ranks.items()}
        self._by_name = {service.name: service for service in services}
        self._waiting: dict[str, list[Replica]] = {}
        self._queue: list[int] = []
        self._last: Optional[Candidates] = None

    def run(self) -> None:
        self._keep(self._running())
        for replica in self.replicas.values():
            if replica.host < 0:
                self._wait(replica)
        self._place()
        self._mend()

    # what runs

    def _running(self) -> list[tuple[Replica, int]]:
        """Replicas and where they run; what belongs to no service takes its place at once."""
        found = []
        for index, host in enumerate(self.hosts):
            for running in host.running:
                replica = self.replicas.get(running.name)
                if replica is not None:
                    found.append((replica, index))
                elif (service := self._surplus(running.name)) is not None:
                    because = f"replicas is {service.replicas} now"
                    self.stops.append((service.name, running.name, index, because))
                else:
                    self.board.occupy(index, running)
        return sorted(found, key=lambda pair: (-pair[0].service.priority, pair[0].service.name, pair[0].number))

    def _surplus(self, name: str) -> Optional[Service]:
        match = re.fullmatch(r"(.+)-([1-9]\d*)", name)
        return self._by_name.get(match[1]) if match else None

    def _keep(self, running: Sequence[tuple[Replica, int]]) -> None:
        for replica, index in running:
            against = "it runs twice" if replica.host >= 0 else self._against(replica, index)
            if not against:
                if replica.was >= 0:  # the one that it runs as too can't stay
                    self._stop(replica, replica.was, "it runs twice")
                replica.was = index
                self.board.put(replica, index)
            elif replica.was >= 0 or replica.host >= 0:
                self._stop(replica, index, "it runs twice")
            else:
                replica.was, replica.why_moved = index, against
        self._follow()

    def _stop(self, replica: Replica, index: int, because: str) -> None:
        self.stops.append((replica.service.name, replica.name, index, because))

    def _against(self, replica: Replica, index: int) -> str:
        """Why it can't stay there; empty when it can. Wants of company are looked at when all the others are known."""
        unbearable = self.board.standing.of(replica.service).unbearable.get(index)
        if unbearable:
            return unbearable[0]
        was, replica.was = replica.was, index  # what it takes there is measured already
        try:
            lacking = next(self.board.shortages(replica, index), None)
        finally:
            replica.was = was
        if lacking:
            return lacking[0]
        return next(self.board.conflicts(replica.service, index), "")

    def _follow(self) -> bool:
        """Those whose company left can't stay, and then theirs."""
        company = [replica for replica in self.replicas.values() if replica.service.affinity]
        any_left, left = False, True
        while left:
            left = False
            for replica in company:
                if replica.host >= 0 and (rule := next(self.board.unmet(replica.service, replica.host, 1), "")):
                    self.board.take(replica)
                    replica.why_moved = rule
                    any_left = left = True
        return any_left

    # the others

    def _wait(self, replica: Replica) -> None:
        waiting = self._waiting.setdefault(replica.service.name, [])
        if not waiting:
            heapq.heappush(self._queue, self.ranks[replica.service.name])
        waiting.append(replica)

    def _place(self) -> None:
        while self._queue:
            name = self._by_rank[heapq.heappop(self._queue)]
            self._place_all(self._by_name[name], self._waiting.pop(name))

    def _place_all(self, service: Service, waiting: list[Replica]) -> None:
        """Those that return come first. Once there is no host for one, there is none for those after it."""
        known: Optional[Candidates] = None
        hopeless = -1
        for replica in sorted(waiting, key=lambda one: (one.was < 0, one.number)):
            if self._return(replica):
                continue
            if hopeless == self.board.version:
                self.unplaced.append(replica)
                continue
            if known is None or known.version != self.board.version:
                known = self._last = candidates(self.board, service, self._last)
                if service.name not in self.reasons:
                    self.reasons[service.name] = Reasons(known.count, known.refused())
            key = known.best(replica)
            if key is not None:
                self._explain(replica, key, known.count)
                known.put(replica, key[-1])
            elif not self._displace(replica):
                self.unplaced.append(replica)
                hopeless = self.board.version

    def _return(self, replica: Replica) -> bool:
        """What had to leave for others' sake stays after all, when they went where it can follow from its place."""
        if replica.was < 0 or self._against(replica, replica.was):
            return False
        if next(self.board.unmet(replica.service, replica.was), None) is not None:
            return False
        self.board.put(replica, replica.was)
        return True

    def _explain(self, replica: Replica, key: Key, count: int) -> None:
        taints, wish, spread, own, load, dummy = key
        words = [f"{taints} taints that are only disliked"] if taints else []
        words += [f"preferences of {-wish}"] if wish else []
        words += [f"{spread} in its domains"] if replica.service.spread else []
        if replica.service.strategy == SPREAD:
            words += [f"{own} of {replica.service.name} there", f"the least load ({load:.0%})"]
        else:
            words += [
                f"the most load ({-load:.0%})" if load < 0 else "none that is used has room, and this is the largest"
            ]
        replica.because = f"{', '.join(words)}; best of {count}"

    def _displace(self, replica: Replica) -> bool:
        """Containers of a lower priority give way."""
        found = preempt.find(self.board, replica)
        if found is None:
            return False
        index, victims = found
        for victim in victims:
            self.board.take(victim)
            victim.why_moved = f"{replica.name} has priority {replica.service.priority}"
        self.board.put(replica, index)
        names = ", ".join(victim.name for victim in victims)
        replica.because = (
            f"no host had room; of a lower priority there {'was' if len(victims) == 1 else 'were'} {names}"
        )
        for victim in victims:
            self._wait(victim)
        return True

    def _mend(self) -> None:
        """Company that was displaced leaves others alone, who look for a place anew; in the end they have none."""
        for dummy in range(_ROUNDS):
            placed = {replica for replica in self.replicas.values() if replica.host >= 0}
            if not self._follow():
                return
            for replica in self.replicas.values():
                if replica in placed and replica.host < 0:
                    self._wait(replica)
            self._place()
        placed = {replica for replica in self.replicas.values() if replica.host >= 0}
        self._follow()
        self.unplaced += [replica for replica in self.replicas.values() if replica in placed and replica.host < 0]

    def better(self) -> None:
        """Small cases are worth a second thought."""
        for replica in improve(self.board, self.services, self.replicas.values()):
            load = self.board.load(replica.host, NOTHING) if replica.host >= 0 else 0
            replica.because = f"best for all that are new, tried together; the load there is {load:.0%}"
        self.unplaced = [replica for replica in self.replicas.values() if replica.host < 0]


NOTHING = Requests()


def ordered(services: Sequence[Service], hosts: Sequence[Host], standing: Standing) -> list[Service]:
    """By priority, whom others want to be near before those, who has the fewest hosts to choose from, the large."""
    cpus = sum(host.cpus for host in hosts) or 1
    memory = sum(host.memory for host in hosts) or 1
    priorities, depths = _ranks(services)

    def rank(one: Service) -> tuple[Any, ...]:
        size = max(one.requests.cpus / cpus, one.requests.memory / memory)
        # Those who ask for the same follow one another, see candidates.Plain.
        asked = (-one.requests.cpus, -one.requests.memory, one.strategy, one.constraints)
        choice = len(standing.of(one).allowed)
        return (-priorities[one.name], depths[one.name], choice, -size, *asked, one.name)

    return sorted(services, key=rank)


def _ranks(services: Sequence[Service]) -> tuple[dict[str, int], dict[str, int]]:
    """(priority, depth): who is needed near has at least the priority of those who need it, and comes before them."""
    priorities = {service.name: service.priority for service in services}
    depths = {service.name: 0 for service in services}
    known = {service.name: service for service in services}
    needs = [
        (service.name, other.name)
        for service in services
        for term in service.affinity
        if term.required
        for other in selected(term.selector, known)
        if other is not service
    ]
    for dummy in range(len(services)):
        before = (dict(priorities), dict(depths))
        for name, needed in needs:
            priorities[needed] = max(priorities[needed], priorities[name])
            depths[name] = min(len(services), max(depths[name], depths[needed] + 1))
        if before == (priorities, depths):
            break
    return priorities, depths


def solve(services: Sequence[Service], hosts: Sequence[Host]) -> Solution:
    solution = Solution(services, hosts, Standing(hosts))
    solution.run()
    solution.better()
    return solution
